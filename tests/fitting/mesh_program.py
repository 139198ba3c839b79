"""Compares fits and predictions on meshes with those on one device; for 8 virtual devices.

python mesh_program.py FOLDER [quick]
"""

import signal
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import Fit, NormalPrior, fit, gaussian, infer, likelihoods, noise, predict, to_bnn
from bnn_jax.posteriors import MeanField

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_disable_most_optimizations", True)

# Neither the examples (101, 37) nor the batches (20) nor the weight samples (6, 9) are multiples of
# the devices.
RNG = np.random.default_rng(0)
X = RNG.normal(size=(101, 5)).astype(np.float32)
Y = (X[:, 0] + 0.3 * RNG.normal(size=101) > 0).astype(np.int32) + (X[:, 1] > 1)
NEW = RNG.normal(size=(37, 5)).astype(np.float32)
LABELS = np.arange(37) % 3
MESHES: list[Any] = [{"data": 8}, {"samples": 8}, {"data": 4, "samples": 2}]
# On the mesh of 4 x 2, with and without the weights divided over data.
CASES: list[Any] = [*((mesh, False) for mesh in MESHES), (MESHES[2], True)]
ALL: Any = likelihoods.Categorical()

_BBB = infer.bayes_by_backprop(learning_rate=0.02)
METHODS = {
    "reparam": _BBB,
    "local_reparam": _BBB,
    "flipout": _BBB,
    "ensemble": infer.ensemble(infer.map(learning_rate=0.02), size=8),
    "swag": infer.swag(learning_rate=0.02, rank=4),
    "sghmc": infer.sghmc(step_size=0.02, num_samples=6),
}


class Network(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(3)(nn.tanh(nn.Dense(16)(x)))


def fitted(name: str, mesh: Any, **options: Any) -> Fit:
    """Returns the fit after 50 steps."""
    network = Network()
    estimator = name if METHODS[name] is _BBB else "flipout"
    variables = network.init(jax.random.key(0), X)
    model = to_bnn(network, variables, prior=NormalPrior(std=1.0), estimator=estimator)
    settings = {"epochs": 10, "batch_size": 20, "steps_per_call": 5, "progress": False}
    settings |= {"method": METHODS[name], "likelihood": ALL, "mesh": mesh, **options}
    return fit(jax.random.key(1), model, (X, Y), **settings)


def assert_close(found: Any, expected: Any) -> None:
    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)

    jax.tree.map(close, found, expected)


def assert_equal_fits(found: Fit, expected: Fit, predicted: Any) -> None:
    """Compares losses, posteriors and predictions."""
    losses = [[line["loss"] for line in each.history] for each in (found, expected)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert_close(found.posterior, expected.posterior)
    assert_close(predictions(found), predicted)


def is_divided(posterior: Any, axis: str) -> bool:
    """Returns whether an array of the posterior is divided over an axis of the mesh."""
    return any(axis in jax.tree.leaves(tuple(a.sharding.spec)) for a in jax.tree.leaves(posterior))


def predictions(of: Fit) -> Any:
    return of.predict(NEW, 6, targets=LABELS)


def check_fits(quick: bool) -> dict[str, tuple[Fit, Any]]:
    alone = {}
    for name in ("flipout", "ensemble") if quick else METHODS:
        expected = fitted(name, None)
        moved = np.abs(np.ravel(expected.posterior.mean()["Dense_0"]["kernel"]))
        assert expected.history[0]["loss"] > 1.02 * expected.history[-1]["loss"], name
        assert np.all(np.isfinite(moved))
        alone[name] = expected, predictions(expected)
        for mesh, divided in CASES[-1:] if quick else CASES:
            found = fitted(name, mesh, shard_parameters=divided)
            assert_equal_fits(found, *alone[name])
            if divided and isinstance(found.posterior, MeanField):
                assert is_divided(found.posterior, "data")
            if name == "ensemble" and "samples" in mesh:
                assert is_divided(found.posterior, "samples")
        print(f"{name}: equal", flush=True)
    return alone


def check_resumed(alone: dict[str, tuple[Fit, Any]], folder: Path, quick: bool) -> None:
    """Interrupts fits under one mesh, and continues them under another."""

    def stop(line: dict[str, Any], now: Fit) -> None:
        if line["epoch"] == 4:
            signal.raise_signal(signal.SIGINT)

    cases: list[Any] = [
        ("ensemble", {"data": 4, "samples": 2}, None),
        ("ensemble", None, {"samples": 8}),
        ("flipout", {"data": 8}, {"data": 4, "samples": 2}),
        ("swag", {"data": 4, "samples": 2}, {"data": 8}),
    ]
    for name, first, then in cases[:1] if quick else cases:
        path = folder / f"{name}-{first is None}"
        with pytest.raises(KeyboardInterrupt):
            fitted(name, first, checkpoint=path, callbacks=[stop], shard_parameters=True)
        assert_equal_fits(fitted(name, then, checkpoint=path), *alone[name])
    print("resumed: equal", flush=True)


def check_predictions(quick: bool) -> None:
    """Antithetic pairs, kept samples, quantiles, one pass, and noise of the network's own.

    Each on all meshes, or quickly on one of them in turn.
    """
    q = {"w": gaussian.centred(0.1 * jnp.ones((5, 2)), 0.3)}

    def network(params: Any, x: Any) -> Any:
        return jnp.tanh(x @ params["w"])

    def noisy(key: Any, x: Any) -> Any:
        return x[:, :2] + jax.random.normal(key, (len(x), 2))

    normal = likelihoods.Normal(std=0.5)
    common: dict[str, Any] = {"likelihood": normal, "targets": NEW[:, :2]}
    calls: list[tuple[Any, dict[str, Any]]] = [
        (network, {"posterior": q, "num_samples": 10, "antithetic": True, "keep_samples": True}),
        (network, {"posterior": q, "num_samples": 9, "levels": (0.1, 0.5)}),
        (network, {"posterior": q, "num_samples": 3, "batch_size": 10}),
        (network, {"posterior": q, "method": "moments"}),
        (noisy, {"num_samples": 9, "batch_size": 18}),
    ]
    for i, (model, options) in enumerate(calls):
        expected = predict(jax.random.key(2), model, NEW, **options, **common)
        for mesh in [MESHES[i % len(MESHES)]] if quick else MESHES:
            found = predict(jax.random.key(2), model, NEW, mesh=mesh, **options, **common)
            assert jax.tree.structure(found) == jax.tree.structure(expected)
            assert_close(found, expected)
    print("predictions: equal", flush=True)


def check_errors() -> None:
    METHODS["ensemble"] = infer.ensemble(infer.map(), size=5)
    with pytest.raises(ValueError, match="multiple of the 4 devices .* got 5: use 8 members"):
        fitted("ensemble", {"data": 2, "samples": 4})
    print("errors: clear", flush=True)


if __name__ == "__main__":
    # The generator that is compiled in the shortest time.
    with noise.generator("hash"):
        is_quick = "quick" in sys.argv[2:]
        check_predictions(is_quick)
        check_resumed(check_fits(is_quick), Path(sys.argv[1]), is_quick)
        check_errors()
