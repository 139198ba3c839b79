"""Pruning by the definition of the ranking, in NumPy."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import compression, gaussian, posteriors, predict
from bnn_jax.gaussian import Gaussian
from bnn_jax.likelihoods import Normal
from bnn_jax.noise import Draw
from core_helpers import data, key, random_posterior

TREE = {
    "a": {"kernel": random_posterior(0, 3, 4), "bias": random_posterior(1, 4)},
    "b": {"kernel": random_posterior(2, 4, 2), "scale": jnp.ones(2)},
}
RANDOM = [("a", "bias"), ("a", "kernel"), ("b", "kernel")]  # in tree order
LAYERS = {"a": RANDOM[:2], "b": RANDOM[2:]}


def scores(names: list[tuple[str, str]], by: str) -> np.ndarray:
    leaves = [TREE[layer][name] for layer, name in names]
    mean, std = (np.concatenate([np.ravel(getattr(q, f)) for q in leaves]) for f in ("mean", "std"))
    return np.abs(mean.astype(np.float64)) / (std if by == "snr" else 1.0)


def flat(tree: Any, names: list[tuple[str, str]], field: str | None = None) -> np.ndarray:
    leaves = [tree[layer][name] for layer, name in names]
    return np.concatenate([np.ravel(x if field is None else getattr(x, field)) for x in leaves])


@pytest.mark.parametrize("by", ["snr", "magnitude"])
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 0.99, 1.0])
def test_the_lowest_scores_of_all_weights_become_zero(by: str, fraction: float) -> None:
    got = compression.prune(TREE, fraction, by=by)
    expected = scores(RANDOM, by)
    count = round(fraction * 24)
    kept = np.ones(24, bool)
    kept[np.argsort(expected)[:count]] = False
    np.testing.assert_array_equal(flat(got.mask, RANDOM), kept)
    assert got.fraction == count / 24
    for field in ("mean", "std"):
        before = flat(TREE, RANDOM, field)
        np.testing.assert_array_equal(
            flat(got.posterior, RANDOM, field), np.where(kept, before, 0.0)
        )
    assert got.mask["b"]["scale"] is None
    assert got.posterior["b"]["scale"] is TREE["b"]["scale"]


@pytest.mark.parametrize("by", ["snr", "magnitude"])
def test_the_fraction_of_each_layer(by: str) -> None:
    got = compression.prune(TREE, 0.25, by=by, scope="layer")
    for names in LAYERS.values():
        expected = scores(names, by)
        kept = flat(got.mask, names)
        assert (~kept).sum() == len(expected) // 4
        assert expected[~kept].max() < expected[kept].min()
    assert got.fraction == 6 / 24


def test_of_equal_scores_the_first_go() -> None:
    tied = {"w": Gaussian(jnp.asarray([1.0, -1.0, 1.0, 2.0, -1.0]), jnp.zeros(5))}
    got = compression.prune(tied, 0.6)
    np.testing.assert_array_equal(got.mask["w"], [False, False, False, True, True])


def test_a_fraction_is_rounded() -> None:
    hundred = {"w": random_posterior(0, 100)}
    assert compression.prune(hundred, 0.29).fraction == 0.29  # 0.29 * 100 is less than 29


def test_every_draw_of_a_pruned_weight_is_zero_and_others_are_as_before() -> None:
    got = compression.prune(TREE, 0.5)
    before, after = gaussian.sample(key(1), TREE), gaussian.sample(key(1), got.posterior)
    kept = flat(got.mask, RANDOM)
    np.testing.assert_allclose(
        flat(after, RANDOM), np.where(kept, flat(before, RANDOM), 0.0), rtol=1e-6
    )


@pytest.mark.parametrize("antithetic", [False, True])
def test_predict_takes_a_pruned_posterior(antithetic: bool) -> None:
    def network(params: Any, x: Any) -> Any:
        return (
            jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None]) @ params["b"]["kernel"]
        )

    pruned = compression.prune(posteriors.MeanField(TREE), 0.5).posterior
    assert isinstance(pruned, posteriors.MeanField)
    x = data(0, 5, 3)
    got = predict(
        key(2),
        network,
        x,
        4,
        likelihood=Normal(std=1.0),
        posterior=pruned,
        antithetic=antithetic,
        keep_samples=True,
    )
    keys = [jax.random.fold_in(key(2), i // 2 if antithetic else i) for i in range(4)]
    signs = [-1 if antithetic and i % 2 else 1 for i in range(4)]
    expected = [
        network(gaussian.sample(Draw(k, sign), pruned.tree), x)
        for k, sign in zip(keys, signs, strict=True)
    ]
    np.testing.assert_allclose(got.samples, np.stack(expected), rtol=1e-5, atol=1e-6)


def test_pruning_twice_keeps_what_was_pruned() -> None:
    once = compression.prune(TREE, 0.3)
    twice = compression.prune(once.posterior, 0.6)
    assert twice.fraction == round(0.6 * 24) / 24
    assert not (flat(twice.mask, RANDOM) & ~flat(once.mask, RANDOM)).any()
    np.testing.assert_array_equal(
        flat(twice.mask, RANDOM), flat(compression.prune(TREE, 0.6).mask, RANDOM)
    )


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((TREE, -0.1), {}, ValueError, r"between 0 and 1, got -0\.1"),
        ((TREE, 1.5), {}, ValueError, r"between 0 and 1, got 1\.5"),
        ((TREE, float("nan")), {}, ValueError, "between 0 and 1, got nan"),
        ((TREE, 0.5), {"by": "size"}, ValueError, "one of snr, magnitude; got 'size'"),
        ((TREE, 0.5), {"scope": "net"}, ValueError, "one of global, layer; got 'net'"),
        ((gaussian.mean(TREE), 0.5), {}, TypeError, "Gaussian leaves or a MeanField"),
        ((posteriors.Point({}), 0.5), {}, TypeError, "got Point without any"),
        (
            ({"w": Gaussian(jnp.asarray([jnp.nan]), jnp.zeros(1))}, 0.5),
            {},
            ValueError,
            "those of w are not",
        ),
    ],
)
def test_an_invalid_call_is_an_error(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compression.prune(*arguments, **options)
