"""Examples for the metrics in float64, and what all tests of metrics share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

EXACT = 1e-12


@pytest.fixture(autouse=True)
def x64() -> Iterator[None]:
    """Import it to have the tests of a file run in float64."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the types that are checked in the tests alone, as users have it."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


def classification(classes: int = 4, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Class probabilities, and labels that follow them."""
    rng = np.random.default_rng(classes)
    logits = 2 * rng.normal(size=(n, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p, np.asarray([rng.choice(classes, p=row) for row in p])


def regression(n: int = 300) -> dict[str, np.ndarray]:
    """Means and standard deviations, and targets that follow them."""
    rng = np.random.default_rng(5)
    mean, std = 3 * rng.normal(size=n), np.exp(0.5 * rng.normal(size=n))
    return {"mean": mean, "std": std, "targets": mean + std * rng.normal(size=n)}


def counts(n: int) -> np.ndarray:
    """How often each of n examples is repeated, some not at all; n in sum."""
    return np.bincount(np.random.default_rng(6).integers(0, n, n), minlength=n)


def assert_weights_repeat(metric: Callable[..., Any], *arrays: np.ndarray, **options: Any) -> None:
    """An example of weight 3 is three examples, the scale of weights does not matter, order too."""
    repeats = counts(len(arrays[0]))
    repeated = metric(*(np.repeat(x, repeats, axis=0) for x in arrays), **options)
    weighted = metric(*arrays, weights=repeats, **options)
    np.testing.assert_allclose(weighted, repeated, rtol=EXACT, atol=EXACT)
    assert not np.allclose(weighted, metric(*arrays, **options), rtol=1e-6)
    order = np.random.default_rng(7).permutation(len(repeats))
    shuffled = metric(*(x[order] for x in arrays), weights=0.1 * repeats[order], **options)
    np.testing.assert_allclose(shuffled, repeated, rtol=EXACT, atol=EXACT)


def assert_jit_is_the_same(metric: Callable[..., Any], *arrays: np.ndarray, **options: Any) -> None:
    plain = metric(*arrays, **options)
    compiled = jax.jit(lambda *xs: metric(*xs, **options))(*arrays)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10), plain, compiled)


def expected() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Inputs, and the numbers of torch-uncertainty and torchmetrics: see expected_metrics.py."""
    with np.load(Path(__file__).with_name("expected_metrics.npz")) as file:
        arrays = dict(file)
    prefix = "expected_"
    numbers = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    return {k: v for k, v in arrays.items() if not k.startswith(prefix)}, numbers
