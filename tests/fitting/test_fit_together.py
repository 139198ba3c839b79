"""Fits that are trained as one vmapped program: each is what `fit` returns alone."""

import dataclasses
import signal
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import Fit, NormalPrior, fit, infer, likelihoods, noise, to_bnn
from bnn_jax.fitting import loop, together

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 6)).astype(np.float32)
LABELS = (X.mean(axis=1) > 0).astype(np.int32)
METHODS: dict[str, Any] = {
    "bayes_by_backprop": infer.bayes_by_backprop(learning_rate=0.02),
    "ensemble": infer.ensemble(infer.map(learning_rate=0.02), size=2),
    "laplace": infer.laplace(learning_rate=0.02),
    "swag": infer.swag(learning_rate=0.02, rank=2),
    "sghmc": infer.sghmc(step_size=0.01, num_samples=2),
}


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train)(x)
        return nn.Dense(2)(nn.Dropout(0.1, deterministic=not train)(x))


def flip(key: jax.Array, inputs: jax.Array) -> jax.Array:
    return inputs * jax.random.rademacher(key, (len(inputs), 1), inputs.dtype)


def call(seed: int, **options: Any) -> dict[str, Any]:
    network = Network()
    variables = network.init(jax.random.key(seed), X, train=False)
    return {
        "key": jax.random.key(100 + seed),
        "model": to_bnn(network, variables, prior=NormalPrior(std=1.0)),
        "data": (X, LABELS),
        "method": METHODS["bayes_by_backprop"],
        "likelihood": likelihoods.Categorical(),
        "epochs": 3,
        "batch_size": 16,
        **options,
    }


def assert_close(a: Fit, b: Fit) -> None:
    pairs = zip(jax.tree.leaves(a.posterior), jax.tree.leaves(b.posterior), strict=True)
    for x, y in pairs:
        if not jax.numpy.issubdtype(x.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(x, y, rtol=2e-3, atol=2e-4)
    losses = [[line["loss"] for line in each.history] for each in (a, b)]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-4)
    assert a.history[-1].keys() == b.history[-1].keys()


@pytest.mark.parametrize(
    "method",
    [
        name if name == "bayes_by_backprop" else pytest.param(name, marks=pytest.mark.slow)
        for name in METHODS
    ],
)
def test_each_is_the_fit_of_its_own_call(method: str) -> None:
    calls, again = (
        [call(seed, method=METHODS[method], augment=flip) for seed in range(2)] for _ in range(2)
    )
    fits = together.fit_together(calls, progress=False)
    assert fits is not None
    for own, each in zip(fits, again, strict=True):
        assert_close(own, fit(**each, progress=False))
    first, second = (fits[i].history[-1]["loss"] for i in (0, 1))
    assert abs(first - second) > 1e-3


@pytest.mark.parametrize("name", noise.GENERATORS)
def test_the_noise_of_a_key_is_the_same_under_vmap(name: str) -> None:
    keys = jax.random.split(jax.random.key(0), 3)
    with noise.generator(name):
        each = [noise.normal(key, (2, 5)) for key in keys]
        at_once = jax.vmap(lambda key: noise.normal(key, (2, 5)))(keys)
    np.testing.assert_allclose(at_once, np.stack(each), rtol=1e-6)


def test_interrupted_fits_resume_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def calls(folder: str) -> list[dict[str, Any]]:
        return [call(seed, checkpoint=tmp_path / folder / str(seed)) for seed in (0, 1)]

    whole = together.fit_together(calls("whole"), progress=False)
    advance = loop.Progress.advance
    steps: list[int] = []

    def stop(self: loop.Progress, count: int, numbers: object) -> None:
        steps.append(count)
        if len(steps) == 5:
            signal.raise_signal(signal.SIGINT)
        advance(self, count, None)

    monkeypatch.setattr(loop.Progress, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        together.fit_together(calls("parts"), progress=False)
    again = together.fit_together(calls("parts"), progress=False)
    assert len(steps) == 9
    assert whole is not None
    assert again is not None
    for a, b in zip(whole, again, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a.posterior, b.posterior)
        assert [line["loss"] for line in a.history] == [line["loss"] for line in b.history]


def test_checkpoints_of_different_steps_are_left_to_single_fits(tmp_path: Path) -> None:
    folders = [tmp_path / "0", tmp_path / "1"]
    fit(**call(0, checkpoint=folders[0]), progress=False)
    calls = [call(seed, checkpoint=folder) for seed, folder in enumerate(folders)]
    with pytest.raises(together.NotTogether, match="of different steps"):
        together.fit_together(calls, progress=False)


def test_a_fit_that_diverges_is_named() -> None:
    broken = call(1)
    posterior = jax.tree.map(lambda a: a + np.inf, broken["model"].posterior)
    broken["model"] = dataclasses.replace(broken["model"], posterior=posterior)
    with pytest.raises(together.Diverged, match="Fit 1 of 2: Training diverged in step 1"):
        together.fit_together([call(0), broken], progress=False)


@pytest.mark.parametrize("faster", [True, False])
def test_the_faster_way_is_measured_and_chosen(faster: bool, monkeypatch: Any) -> None:
    """The seconds of a call are those of one fit, then those of all three."""
    times = iter([1.0, 2.9 if faster else 3.1])
    monkeypatch.setattr(together, "_seconds", lambda *_: next(times))
    seen: list[tuple[float, float]] = []

    def choose(as_one: float, in_turn: float) -> bool:
        seen.append((as_one, in_turn))
        return as_one < in_turn

    calls = [call(seed, epochs=1) for seed in range(3)]
    fits = together.fit_together(calls, choose=choose, progress=False)
    assert seen == [(2.9 if faster else 3.1, 3.0)]
    assert (fits is not None) == faster


def test_measuring_changes_nothing() -> None:
    plain, measured = (
        together.fit_together(
            [call(seed, epochs=1) for seed in range(2)], choose=choose, progress=False
        )
        for choose in (None, lambda *_: True)
    )
    assert plain is not None
    assert measured is not None
    for a, b in zip(plain, measured, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a.posterior, b.posterior)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "other data": ({"data": (X + 1, LABELS)}, "training examples differ"),
    "another batch size": ({"batch_size": 8}, "methods or lengths differ"),
    "another method": ({"method": METHODS["ensemble"]}, "methods or lengths differ"),
    "nuts": ({"method": infer.nuts(warmup=20), "epochs": 30}, "takes all examples"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_one_program_is_refused(case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(together.NotTogether, match=message):
        together.fit_together([call(0, **changes), call(1)], progress=False)
