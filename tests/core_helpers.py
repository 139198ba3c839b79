"""What the tests of the functional core share."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian

ESTIMATORS = ("reparam", "local_reparam", "flipout")


def key(seed: int) -> jax.Array:
    """A fresh key, so that no two draws of a test share one."""
    return jax.random.key(seed)


def random_posterior(seed: int, *shape: int, std: float = 0.3) -> Gaussian:
    """Means of about one, and standard deviations that differ by element, of about `std`."""
    rng = np.random.default_rng(seed)
    stds = std * np.exp(0.5 * rng.normal(size=shape))
    return gaussian.centred(
        jnp.asarray(rng.normal(size=shape), jnp.float32), jnp.asarray(stds, jnp.float32)
    )


def data(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(1000 + seed).normal(size=shape), jnp.float32)


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every normal draw by zeros."""
    monkeypatch.setattr(
        noise, "normal", lambda key, shape, dtype=jnp.float32: jnp.zeros(shape, dtype)
    )


def no_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace every random sign by +1."""
    monkeypatch.setattr(
        noise, "signs", lambda key, shape, dtype=jnp.float32: jnp.ones(shape, dtype)
    )


def assert_mean(samples: Any, expected: Any, errors: float = 5.0) -> None:
    """The mean over axis 0 is the expected one, within standard errors of that mean."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    difference = np.abs(samples.mean(axis=0) - np.asarray(expected, np.float64))
    worst = np.max(difference / np.maximum(error, 1e-12))
    assert np.all(difference <= errors * error + 1e-7), f"{worst:.1f} standard errors"


def assert_covariance(samples: Any, expected: Any, errors: float = 5.0) -> None:
    """The covariance of the last axis, over axis 0, is the expected one."""
    centred = np.asarray(samples, np.float64)
    centred = centred - centred.mean(axis=0)
    assert_mean(centred[:, :, None] * centred[:, None, :], expected, errors)
