"""Expected log probabilities under moments, against quadrature with many nodes and samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bnn_jax.likelihoods import Bernoulli, Categorical, Normal, Poisson, StudentT
from bnn_jax.moments import Moments
from bnn_jax.predictive import expected_log_prob
from core_helpers import data

MEAN = np.asarray(data(0, 5, 2))
STD = np.abs(np.asarray(data(1, 5, 2))) + 0.1
OUTPUTS = Moments(jnp.asarray(MEAN), jnp.asarray(STD**2))
TARGETS = np.asarray(data(2, 5, 2))
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
VALUES = MEAN[..., None].astype(np.float64) + STD[..., None] * NODES


def call(likelihood: Any, outputs: Any, targets: Any) -> np.ndarray:
    return np.asarray(jax.jit(lambda o, y: expected_log_prob(likelihood, o, y))(outputs, targets))


CASES = {
    "normal": (Normal(0.3), TARGETS, lambda y, f: stats.norm.logpdf(y, f, 0.3)),
    "poisson": (
        Poisson(),
        np.asarray([[0, 2]] * 5),
        lambda y, f: stats.poisson.logpmf(y, np.exp(f)),
    ),
    "bernoulli": (
        Bernoulli(),
        np.asarray([[0, 1]] * 5),
        lambda y, f: y * f - np.logaddexp(0, f),
    ),
    "student_t": (
        StudentT(df=5.0, scale=1.5),
        TARGETS,
        lambda y, f: stats.t.logpdf(y, 5.0, f, 1.5),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_output_for_each_target(name: str) -> None:
    likelihood, targets, log_prob = CASES[name]
    wanted = (log_prob(targets[..., None], VALUES) @ WEIGHTS).sum(axis=-1)
    np.testing.assert_allclose(call(likelihood, OUTPUTS, targets), wanted, rtol=1e-4)


@pytest.mark.parametrize("form", ["array", "pair", "parameter"])
def test_noise_of_the_network(form: str) -> None:
    """Location and rho are independent, so the expectation is a double sum over nodes."""
    y = TARGETS[:, :1]
    location, std = MEAN[:, :1], STD[:, :1]
    rho, spread = MEAN[:, 1:], 0.3 * STD[:, 1:]
    outputs: Any = {
        "array": Moments(jnp.asarray(MEAN), jnp.asarray(np.hstack([std, spread]) ** 2)),
        "pair": (
            Moments(jnp.asarray(location), jnp.asarray(std**2)),
            Moments(jnp.asarray(rho), jnp.asarray(spread**2)),
        ),
        "parameter": (
            Moments(jnp.asarray(location), jnp.asarray(std**2)),
            Moments(jnp.asarray(rho[0]), jnp.asarray(spread[0] ** 2)),
        ),
    }[form]
    if form == "parameter":
        rho, spread = np.broadcast_to(rho[0], rho.shape), np.broadcast_to(spread[0], rho.shape)
    f = (location[..., None] + std[..., None] * NODES)[..., None]
    scale = np.logaddexp(0, (rho[..., None] + spread[..., None] * NODES)) + 1e-6
    log_prob = stats.norm.logpdf(y[..., None, None], f, scale[..., None, :])
    wanted = np.einsum("neij,i,j->n", log_prob, WEIGHTS, WEIGHTS)
    np.testing.assert_allclose(call(Normal(), outputs, y), wanted, rtol=1e-4)


def test_classes_are_as_by_samples() -> None:
    labels = np.asarray([0, 1, 0, 1, 1])
    rng = np.random.default_rng(0)
    logits = MEAN + STD * rng.normal(size=(200_000, *MEAN.shape))
    log_prob = np.take_along_axis(
        special.log_softmax(logits, axis=-1), labels[None, :, None], axis=-1
    )[..., 0]
    got = call(Categorical(), OUTPUTS, labels)
    # The 128 points have the error of about a thousand samples, and most of it cancels out.
    np.testing.assert_array_less(np.abs(got - log_prob.mean(0)), log_prob.std(0) / np.sqrt(1000))


def test_other_likelihoods_take_the_fixed_points() -> None:
    likelihood = StudentT(df=5.0)
    outputs = Moments(OUTPUTS.mean, 0.01 * OUTPUTS.variance)
    rng = np.random.default_rng(0)
    f = MEAN + 0.1 * STD * rng.normal(size=(200_000, *MEAN.shape))
    y = TARGETS[:, :1]
    log_prob = stats.t.logpdf(y[:, 0], 5.0, f[..., 0], np.logaddexp(0, f[..., 1]) + 1e-6)
    np.testing.assert_allclose(call(likelihood, outputs, y), log_prob.mean(0), rtol=2e-2)


def test_targets_of_another_shape_are_an_error() -> None:
    with pytest.raises(ValueError, match="must have the shape"):
        expected_log_prob(Normal(0.1), OUTPUTS, jnp.zeros(5))
