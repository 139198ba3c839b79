"""Every likelihood must pass these tests; a new likelihood is added to LIKELIHOODS."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import PyTree

from bnn_jax.likelihoods import (
    Bernoulli,
    Categorical,
    Classification,
    Likelihood,
    Normal,
    Poisson,
    Regression,
    StudentT,
)
from core_helpers import data

N = 4
F, RHO = data(0, N, 1), data(1, N, 1)  # locations, logits or log rates; scales


class Example(NamedTuple):
    """A likelihood, and a network's outputs for N targets of the shape (N, 1)."""

    likelihood: Likelihood
    outputs: PyTree


LIKELIHOODS = {
    "categorical": Example(Categorical(), data(2, N, 1, 3)),
    "tempered categorical": Example(Categorical(temperature=2.0), data(3, N, 1, 3)),
    "bernoulli": Example(Bernoulli(), F),
    "normal, fixed": Example(Normal(std=0.3), F),
    "normal, pair": Example(Normal(), (F, RHO)),
    "student, fixed": Example(StudentT(df=3.5, scale=0.3), F),
    "student, pair": Example(StudentT(df=4.5), (F, RHO)),
    "student without variance": Example(StudentT(df=1.5), (F, RHO)),
    "poisson": Example(Poisson(), F),
}
REGRESSIONS = [n for n, e in LIKELIHOODS.items() if isinstance(e.likelihood, Regression)]
CLASSIFICATIONS = [n for n, e in LIKELIHOODS.items() if isinstance(e.likelihood, Classification)]

each_likelihood = pytest.mark.parametrize("name", LIKELIHOODS)
each_regression = pytest.mark.parametrize("name", REGRESSIONS)
each_classification = pytest.mark.parametrize("name", CLASSIFICATIONS)


def wide(outputs: PyTree) -> PyTree:
    return jax.tree.map(lambda x: x.astype(jnp.float64), outputs)


def targets() -> jax.Array:
    """Targets in the support of each likelihood: zeros and ones."""
    return jnp.asarray([[0], [1], [1], [0]], jnp.int32)


def number_of_classes(example: Example) -> int:
    return example.outputs.shape[-1] if example.outputs.ndim == 3 else 2


def log_probs(example: Example, values: np.ndarray) -> np.ndarray:
    """Each value's log probability (density) for each example: (values, N)."""
    outputs = wide(example.outputs)

    def of(value: jax.Array) -> jax.Array:
        return example.likelihood.log_prob(outputs, jnp.full((N, 1), value))

    return np.asarray(jax.jit(jax.vmap(of))(jnp.asarray(values)))


def support(example: Example) -> tuple[np.ndarray, np.ndarray]:
    """The values that one element of a target may take, and their quadrature weights."""
    if isinstance(example.likelihood, Classification):
        classes = np.arange(number_of_classes(example))
        return classes, np.ones(len(classes))
    if example.likelihood.integers:
        counts = np.arange(60.0)
        return counts, np.ones(60)
    t = np.linspace(-30.0, 30.0, 20_001)  # sinh reaches tails of 1e12
    return np.sinh(t), (t[1] - t[0]) * np.cosh(t)


@each_likelihood
def test_the_probabilities_of_all_targets_add_up_to_one(name: str) -> None:
    with jax.enable_x64():
        values, weights = support(LIKELIHOODS[name])
        p = np.exp(log_probs(LIKELIHOODS[name], values))
    np.testing.assert_allclose(weights @ p, np.ones(N), rtol=1e-6)


@each_likelihood
def test_elements_of_a_target_are_independent(name: str) -> None:
    likelihood, outputs = LIKELIHOODS[name]
    apart = likelihood.log_prob(outputs, targets())
    assert apart.shape == (N,)
    joined = jax.tree.map(lambda x: x.reshape(1, N, *x.shape[2:]), outputs)
    together = likelihood.log_prob(joined, targets().reshape(1, N))
    np.testing.assert_allclose(together, jnp.sum(apart)[None], rtol=1e-5)


@each_likelihood
def test_nll_is_the_negative_mean(name: str) -> None:
    example = LIKELIHOODS[name]
    log_prob = example.likelihood.log_prob(example.outputs, targets())
    nll = example.likelihood.nll(example.outputs, targets())
    assert nll.shape == ()
    np.testing.assert_allclose(nll, -np.mean(log_prob), rtol=1e-5)


@each_regression
def test_moments_are_integrals(name: str) -> None:
    example = LIKELIHOODS[name]
    likelihood = example.likelihood
    assert isinstance(likelihood, Regression)
    with jax.enable_x64():
        outputs = wide(example.outputs)
        mean, variance = likelihood.mean(outputs), likelihood.variance(outputs)
        assert mean.shape == variance.shape == (N, 1)
        values, weights = support(example)
        p = np.exp(log_probs(example, values)) * weights[:, None]
        assert_integral(p, np.broadcast_to(values[:, None], p.shape), np.asarray(mean[:, 0]))
        assert_integral(
            p, np.square(values[:, None] - np.asarray(mean[:, 0])), np.asarray(variance[:, 0])
        )


def assert_integral(p: np.ndarray, values: np.ndarray, expected: np.ndarray) -> None:
    """The sum of the products, or a sum that grows with the range where it is infinite."""
    if np.all(np.isfinite(expected)):
        np.testing.assert_allclose(np.sum(p * values, axis=0), expected, rtol=1e-4, atol=1e-6)
    else:
        assert np.all(np.isinf(expected))
        assert np.all(np.sum(p * values, axis=0) > 1e3)


@each_regression
def test_the_distribution_function_is_an_integral(name: str) -> None:
    example = LIKELIHOODS[name]
    likelihood = example.likelihood
    assert isinstance(likelihood, Regression)
    with jax.enable_x64():
        values, weights = support(example)
        p = np.exp(log_probs(example, values)) * weights[:, None]
        below = np.cumsum(p, axis=0) - (0.0 if likelihood.integers else 0.5) * p
        for k in np.searchsorted(values, [-3.0, -0.4, 0.0, 0.6, 2.0, 7.0]):
            at = jnp.full((N, 1), float(values[k]))
            cdf = likelihood.cdf(wide(example.outputs), at)
            assert cdf.shape == (N, 1)
            np.testing.assert_allclose(cdf[:, 0], below[k], rtol=1e-4, atol=1e-5)
        far = jnp.full((N, 1), 1e12)
        np.testing.assert_allclose(likelihood.cdf(wide(example.outputs), far), 1.0, rtol=1e-6)
        np.testing.assert_allclose(likelihood.cdf(wide(example.outputs), -far), 0.0, atol=1e-6)


@each_classification
def test_probabilities_and_entropy_are_those_of_the_targets(name: str) -> None:
    example = LIKELIHOODS[name]
    likelihood = example.likelihood
    assert isinstance(likelihood, Classification)
    with jax.enable_x64():
        log_p = log_probs(example, support(example)[0])
        got = likelihood.probabilities(wide(example.outputs))
        entropy = likelihood.entropy(got)
    assert entropy.shape == (N, 1)
    p = np.exp(log_p).T
    if got.shape == (N, 1):  # the probability of class 1
        np.testing.assert_allclose(got, p[:, 1:], rtol=1e-9)
    else:
        np.testing.assert_allclose(got[:, 0], p, rtol=1e-9)
    np.testing.assert_allclose(entropy[:, 0], -np.sum(np.exp(log_p) * log_p, axis=0), rtol=1e-9)


@each_classification
def test_certain_targets_have_no_entropy(name: str) -> None:
    example = LIKELIHOODS[name]
    likelihood = example.likelihood
    assert isinstance(likelihood, Classification)
    certain = jnp.zeros_like(example.outputs).at[..., 0].set(1.0)
    np.testing.assert_array_equal(likelihood.entropy(certain), np.zeros((N, 1)))


@each_likelihood
def test_gradients_are_finite(name: str) -> None:
    example = LIKELIHOODS[name]

    @jax.jit
    def gradient(scale: jax.Array) -> PyTree:
        outputs = jax.tree.map(lambda x: x * scale, example.outputs)
        return jax.grad(example.likelihood.nll)(outputs, targets())

    for scale in (0.0, 1.0, 20.0):
        for leaf in jax.tree.leaves(gradient(jnp.asarray(scale))):
            assert np.all(np.isfinite(leaf))


@each_likelihood
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_computed_in_float32(name: str, dtype: type) -> None:
    example = LIKELIHOODS[name]
    likelihood = example.likelihood
    outputs = jax.tree.map(lambda x: x.astype(dtype), example.outputs)
    y = targets()
    results = [likelihood.log_prob(outputs, y), likelihood.nll(outputs, y)]
    if isinstance(likelihood, Regression):
        results += [likelihood.mean(outputs), likelihood.variance(outputs)]
        results.append(likelihood.cdf(outputs, y.astype(jnp.float32)))
    if isinstance(likelihood, Classification):
        results.append(likelihood.probabilities(outputs))
    assert {x.dtype for x in results} == {jnp.dtype(jnp.float32)}
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), outputs)
    np.testing.assert_array_equal(results[0], likelihood.log_prob(rounded, y))


@each_likelihood
def test_targets_of_another_shape_are_errors(name: str) -> None:
    example = LIKELIHOODS[name]
    y = targets()
    for wrong in (y[..., None], y[:, 0]):
        with pytest.raises(ValueError, match="must have the shape .* that the network predicts"):
            example.likelihood.log_prob(example.outputs, wrong)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@each_likelihood
def test_parameters_out_of_range_are_errors(name: str, value: float) -> None:
    likelihood = LIKELIHOODS[name].likelihood
    assert dataclasses.is_dataclass(likelihood)
    for field in dataclasses.fields(likelihood):
        with pytest.raises(ValueError, match=f"{field.name} must be positive and finite, got"):
            dataclasses.replace(likelihood, **{field.name: value})
