"""log_softmax and logsumexp against numerical integration and against samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from bnn_jax import moments
from bnn_jax.moments import Moments

MEANS = np.asarray([[0.3, -0.4], [2.0, -1.0], [0.0, 0.0]], np.float32)
STDS = np.asarray([[0.5, 0.9], [1.5, 0.2], [2.0, 2.0]], np.float32)


def of(fn: Any, means: np.ndarray, stds: np.ndarray) -> Moments:
    x = Moments(jnp.asarray(means), jnp.asarray(stds**2))
    return jax.jit(lambda x: moments.outputs(lambda _, x: fn(x), {}, x))(x)


def test_two_classes_are_exact() -> None:
    """The first log probability is -softplus(x_1 - x_0), of one normal variable."""
    got = of(jax.nn.log_softmax, MEANS, STDS)
    z = np.linspace(-9.0, 9.0, 20_001)
    weights = np.exp(-0.5 * z**2) / np.exp(-0.5 * z**2).sum()
    std = np.sqrt((STDS.astype(np.float64) ** 2).sum(axis=1))[:, None]
    difference = (MEANS[:, 1] - MEANS[:, 0])[:, None] + std * z
    for i, values in enumerate((-np.logaddexp(0, difference), -np.logaddexp(0, -difference))):
        mean = values @ weights
        np.testing.assert_allclose(got.mean[:, i], mean, atol=2e-3)
        variance = ((values - mean[:, None]) ** 2) @ weights
        np.testing.assert_allclose(got.variance[:, i], variance, rtol=2e-2)


@pytest.mark.parametrize(("std", "tolerance"), [(0.3, 0.02), (1.5, 0.08)])
def test_many_classes_are_as_by_samples(std: float, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    means, stds = (
        rng.normal(size=(4, 7)).astype(np.float32),
        (std * rng.uniform(0.5, 1.0, size=(4, 7))).astype(np.float32),
    )
    x = means + stds * rng.normal(size=(100_000, 4, 7))
    functions = {
        jax.nn.log_softmax: lambda x: special.log_softmax(x, axis=-1),
        lambda x: jax.nn.logsumexp(x, axis=-1): lambda x: special.logsumexp(x, axis=-1),
    }
    for fn, reference in functions.items():
        got, values = of(fn, means, stds), reference(x)
        # Log-sum-exps of pairs are not quite normal; the standard error of a mean is 0.003 std.
        error = np.abs(got.mean - values.mean(0)) / values.std(0)
        assert error.max() < tolerance
        np.testing.assert_allclose(got.std, values.std(0), rtol=tolerance)


def test_a_shift_of_all_logits_changes_nothing() -> None:
    one, other = (of(jax.nn.log_softmax, MEANS + shift, STDS) for shift in (0.0, 100.0))
    np.testing.assert_allclose(one.mean, other.mean, atol=1e-4)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-3)


def test_certain_logits_have_no_variance() -> None:
    got = of(jax.nn.log_softmax, MEANS, 0.0 * STDS)
    np.testing.assert_allclose(got.mean, special.log_softmax(MEANS, axis=-1), atol=1e-5)
    np.testing.assert_allclose(got.variance, 0.0, atol=1e-6)
