"""Every posterior: it is a pytree, its draws have its mean, and finite ones enumerate members."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, posteriors
from bnn_jax.posteriors import Laplace, Linearised, MeanField, Mixture, Point, Samples
from bnn_jax.posteriors.laplace import Diagonal, Full, Kronecker


def params(seed: int) -> dict[str, jax.Array]:
    a, b = jax.random.split(jax.random.key(seed))
    return {"kernel": jax.random.normal(a, (3, 2)), "bias": jax.random.normal(b, (2,))}


def mean_field(seed: int) -> MeanField:
    tree = {name: gaussian.centred(leaf, 0.1) for name, leaf in params(seed).items()}
    return MeanField(tree)


def laplace(seed: int) -> Laplace:
    keys = jax.random.split(jax.random.key(seed), 3)
    left, right = (
        jnp.linalg.qr(jax.random.normal(k, (n, n)))[0] for k, n in zip(keys, (3, 2), strict=False)
    )
    kernel = Kronecker(left, right, 0.1 * jnp.ones((3, 2)), ("kernel",), (0, 1))
    return Laplace(params(seed), (Diagonal(0.2 * jnp.ones(2), ("bias",)), kernel))


def full(seed: int) -> Laplace:
    root = 0.1 * jax.random.normal(jax.random.key(seed), (8, 8))
    return Laplace(params(seed), (Full(root, ("bias", "kernel"), ((2,), (3, 2))),))


POSTERIORS = {
    "Laplace": lambda: laplace(0),
    "Laplace of a full covariance": lambda: full(0),
    "Linearised": lambda: Linearised(laplace(0)),
    "Mixture of Linearised": lambda: Mixture.of([Linearised(laplace(i)) for i in range(3)]),
    "Point": lambda: Point(params(0)),
    "MeanField": lambda: mean_field(0),
    "Samples": lambda: Samples.of([params(i) for i in range(3)]),
    "Mixture of MeanField": lambda: Mixture.of([mean_field(i) for i in range(3)]),
    "Mixture of Samples": lambda: Mixture.of(
        [Samples.of([params(2 * i), params(2 * i + 1)]) for i in range(3)]
    ),
}


@pytest.fixture(params=POSTERIORS)
def posterior(request: pytest.FixtureRequest) -> Any:
    return POSTERIORS[request.param]()


def test_it_fulfils_the_protocol(posterior: Any) -> None:
    assert isinstance(posterior, posteriors.Posterior)


def test_samples_have_the_structure_of_the_mean(posterior: Any) -> None:
    sample, mean = jax.jit(lambda p, k: (p.sample(k), p.mean()))(posterior, jax.random.key(0))
    assert jax.tree.map(jnp.shape, sample) == jax.tree.map(jnp.shape, mean)
    assert jax.tree.map(jnp.result_type, sample) == jax.tree.map(jnp.result_type, mean)


def test_the_mean_of_samples_is_the_mean(posterior: Any) -> None:
    keys = jax.random.split(jax.random.key(1), 4000)
    samples = jax.vmap(posterior.sample)(keys)
    for drawn, mean in zip(
        jax.tree.leaves(samples), jax.tree.leaves(posterior.mean()), strict=True
    ):
        error = np.asarray(drawn).std(axis=0) / np.sqrt(len(keys))
        assert np.all(np.abs(drawn.mean(axis=0) - mean) <= 5 * error + 1e-5)


def test_it_survives_flattening(posterior: Any) -> None:
    leaves, structure = jax.tree.flatten(posterior)
    again = jax.tree.unflatten(structure, leaves)
    jax.tree.map(np.testing.assert_array_equal, posterior.mean(), again.mean())


def test_a_finite_posterior_enumerates_its_members() -> None:
    samples = Samples.of(
        [params(i) for i in range(3)], [{"mean": jnp.ones(2) * i} for i in (0, 1, 2)]
    )
    assert posteriors.size(samples) == 3
    for index in range(6):
        drawn, variables = posteriors.draw(samples, jax.random.key(9), index)
        jax.tree.map(np.testing.assert_array_equal, drawn, params(index % 3))
        np.testing.assert_array_equal(variables["mean"], np.ones(2) * (index % 3))


def test_a_mixture_takes_its_components_in_turns() -> None:
    mixture = Mixture.of([Samples.of([params(2 * i), params(2 * i + 1)]) for i in range(3)])
    found = [posteriors.draw(mixture, jax.random.key(0), index)[0] for index in range(6)]
    for index, expected in enumerate((0, 2, 4, 1, 3, 5)):
        jax.tree.map(np.testing.assert_array_equal, found[index], params(expected))


def test_an_infinite_posterior_has_no_size() -> None:
    assert posteriors.size(mean_field(0)) is None
    assert posteriors.size(Point(params(0))) == 1


@pytest.mark.parametrize("kind", [Samples, Mixture])
def test_nothing_to_stack_is_an_error(kind: Any) -> None:
    with pytest.raises(ValueError, match="at least one"):
        kind.of([])


def test_the_components_of_a_nested_mixture_take_turns() -> None:
    nested = Mixture.of([Mixture.of([mean_field(2 * i), mean_field(2 * i + 1)]) for i in range(3)])
    order = [0, 2, 4, 1, 3, 5]
    for i in range(8):
        component, turn = posteriors.component(nested, i)
        expected = mean_field(order[i % 6]).mean()
        jax.tree.map(np.testing.assert_array_equal, component.mean(), expected)
        assert turn == i // 6
