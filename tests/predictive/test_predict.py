"""The posterior predictive by its definition: the two parts of its uncertainty, and its errors."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from bnn_jax import gaussian
from bnn_jax.likelihoods import Bernoulli, Categorical, Normal, Poisson, StudentT
from bnn_jax.predictive.posterior_predictive import Classification, Regression, predict
from core_helpers import assert_mean, data, key
from predict_helpers import LABELS, Q, S, X, call, network, outputs, softmax


class TestClasses:
    @pytest.mark.parametrize("samples", [5, 6])
    @pytest.mark.parametrize("antithetic", [False, True])
    def test_by_definition(self, antithetic: bool, samples: int) -> None:
        got = call(antithetic=antithetic, targets=LABELS, num_samples=samples)
        p = softmax(outputs(5, samples, antithetic=antithetic))
        assert isinstance(got, Classification)
        np.testing.assert_allclose(got.probabilities, p.mean(axis=0), rtol=1e-5)
        expected = stats.entropy(p, axis=-1).mean(axis=0)
        np.testing.assert_allclose(got.expected_entropy, expected, rtol=1e-5)
        # The mutual information is the mean divergence of the samples from their mean.
        divergence = stats.entropy(p, p.mean(axis=0)[None], axis=-1).mean(axis=0)
        np.testing.assert_allclose(got.mutual_information, divergence, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(
            got.predictive_entropy, stats.entropy(p.mean(axis=0), axis=-1), rtol=1e-5
        )
        chosen = p.mean(axis=0)[np.arange(10), LABELS]
        np.testing.assert_allclose(got.log_prob, np.log(chosen), rtol=1e-4, atol=1e-6)
        assert got.probabilities.dtype == np.float32
        assert got.samples is None

    def test_the_parts_add_up_exactly(self) -> None:
        got = call()
        np.testing.assert_array_equal(
            got.predictive_entropy, got.expected_entropy + got.mutual_information
        )
        assert np.all(got.mutual_information >= 0)

    def test_antithetic_samples_are_pairs_with_opposite_noise(self) -> None:
        got = call(antithetic=True, keep_samples=True, num_samples=3)
        np.testing.assert_allclose(
            got.samples[:2].mean(axis=0), network(gaussian.mean(Q), X), rtol=1e-5, atol=1e-5
        )

    def test_two_classes_by_one_logit(self) -> None:
        got = call(likelihood=Bernoulli(), targets=jnp.ones((10, 4)))
        p = 1 / (1 + np.exp(-outputs(5)))
        both = np.stack([p, 1 - p], axis=-1)
        np.testing.assert_allclose(got.probabilities, p.mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(
            got.expected_entropy, stats.entropy(both, axis=-1).mean(axis=0), rtol=1e-5
        )
        # The four targets of an example are independent given the weights, and only given them.
        joint = np.log(p.prod(axis=-1).mean(axis=0))
        np.testing.assert_allclose(got.log_prob, joint, rtol=1e-5)

    def test_low_precision_gives_float32(self) -> None:
        low = jax.tree.map(lambda a: a.astype(jnp.bfloat16), Q)
        got = predict(
            key(0),
            network,
            X.astype(jnp.bfloat16),
            posterior=low,
            num_samples=2,
            likelihood=Categorical(),
        )
        assert got.probabilities.dtype == np.float32
        np.testing.assert_allclose(got.probabilities.sum(axis=1), np.ones(10), rtol=1e-6)


class TestNumbers:
    def test_by_definition(self) -> None:
        got = call(likelihood=Normal(), targets=data(9, 10, 2))
        mean, rho = np.split(outputs(5), 2, axis=-1)
        std = np.log1p(np.exp(rho)) + 1e-6
        assert isinstance(got, Regression)
        np.testing.assert_allclose(got.mean, mean.mean(axis=0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(got.aleatoric_variance, (std**2).mean(axis=0), rtol=1e-5)
        np.testing.assert_allclose(got.epistemic_variance, mean.var(axis=0), rtol=1e-4)
        np.testing.assert_array_equal(got.variance, got.aleatoric_variance + got.epistemic_variance)
        densities = stats.norm(mean, std).pdf(data(9, 10, 2)).prod(axis=-1)
        np.testing.assert_allclose(
            got.log_prob, np.log(densities.mean(axis=0)), rtol=1e-4, atol=1e-4
        )

    def test_a_large_offset_costs_no_digits(self) -> None:
        def shifted(params: Any, x: Any) -> Any:
            return 1e4 + x @ params["w"]

        got = predict(key(5), shifted, X, posterior=Q, num_samples=S, likelihood=Normal(std=1.0))
        exact = outputs(5).var(axis=0)
        unit = float(np.spacing(np.float32(1e4)))  # what the offset leaves of an output
        assert (np.abs(got.epistemic_variance - exact) < 2 * unit * np.sqrt(exact) + unit**2).all()

    @pytest.mark.parametrize("likelihood", [Normal(std=0.5), Normal(), StudentT(df=2.5)])
    def test_quantiles_are_those_of_the_mixture(self, likelihood: Any) -> None:
        levels = (0.05, 0.5, 0.95, 0.999)
        got = call(likelihood=likelihood, levels=levels)
        out = outputs(5)
        location, rho = (out, None) if likelihood == Normal(std=0.5) else np.split(out, 2, axis=-1)
        scale = 0.5 * np.ones_like(out) if rho is None else np.log1p(np.exp(rho)) + 1e-6
        distribution = (
            stats.t(2.5, location, scale)
            if isinstance(likelihood, StudentT)
            else (stats.norm(location, scale))
        )
        for level in levels:
            reached = distribution.cdf(got.quantiles[level]).mean(axis=0)
            np.testing.assert_allclose(reached, level, rtol=1e-5, atol=2e-6)
        low, high = got.interval(0.9)
        np.testing.assert_array_equal(low, got.quantiles[0.05])
        np.testing.assert_array_equal(high, got.quantiles[0.95])

    def test_quantiles_of_counts_are_counts(self) -> None:
        levels = (0.05, 0.5, 0.9)
        got = call(likelihood=Poisson(), levels=levels)
        distribution = stats.poisson(np.exp(outputs(5)))
        for level in levels:
            q = got.quantiles[level]
            np.testing.assert_array_equal(q, np.round(q))
            assert np.all(distribution.cdf(q).mean(axis=0) >= level - 1e-5)
            assert np.all(distribution.cdf(q - 1).mean(axis=0) < level + 1e-5)

    def test_one_sample_has_the_quantiles_of_its_likelihood(self) -> None:
        got = call(
            likelihood=Normal(std=2.0), posterior=gaussian.mean(Q), num_samples=None, levels=(0.1,)
        )
        expected = stats.norm(network(gaussian.mean(Q), X), 2.0).ppf(0.1)
        np.testing.assert_allclose(got.quantiles[0.1], expected, rtol=1e-5, atol=1e-5)
        assert np.all(got.epistemic_variance == 0)

    def test_a_function_of_the_outputs(self) -> None:
        got = call(likelihood=jnp.tanh, levels=(0.25,))
        values = np.tanh(outputs(5))
        np.testing.assert_allclose(got.mean, values.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.epistemic_variance, values.var(axis=0), rtol=1e-4)
        assert np.all(got.aleatoric_variance == 0)
        np.testing.assert_allclose(
            got.quantiles[0.25], np.quantile(values, 0.25, axis=0), rtol=1e-5, atol=1e-6
        )

    def test_infinite_variance_is_infinite(self) -> None:
        got = call(likelihood=StudentT(df=2.0, scale=1.0))
        assert np.all(np.isinf(got.aleatoric_variance))
        assert np.all(np.isfinite(got.epistemic_variance))

    def test_a_linear_model_has_the_exact_variance(self) -> None:
        """Var[x w] = x^2 std^2, known in closed form."""
        posterior = {"w": gaussian.centred(jnp.asarray([[1.0], [-2.0], [0.5]]), 0.3)}
        got = predict(
            key(3),
            network,
            X,
            posterior=posterior,
            num_samples=4000,
            likelihood=Normal(std=0.2),
            keep_samples=True,
        )
        assert_mean(got.samples, X @ posterior["w"].mean)
        exact = np.sum(np.square(np.asarray(X) * 0.3), axis=1, keepdims=True)
        # The variance of a sample variance of Gaussians is 2 var^2 / n.
        assert np.all(np.abs(got.epistemic_variance / exact - 1) < 5 * np.sqrt(2 / 4000))
        np.testing.assert_allclose(got.aleatoric_variance, 0.04, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"num_samples": None}, "needs num_samples"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"targets": jnp.zeros(9, int)}, "same number of examples"),
        ({"targets": jnp.zeros((10, 1), int)}, "labels must have the shape"),
        ({"levels": (0.5,)}, "Classes have no quantiles"),
        ({"likelihood": Normal(std=1.0), "levels": (1.0,)}, "between 0 and 1, got 1.0"),
        ({"posterior": []}, "ensemble is empty"),
        ({"posterior": [Q, Q]}, "without Gaussian leaves"),
        ({"posterior": [gaussian.mean(Q)] * 2}, "has 2 members and num_samples is 6"),
        ({"posterior": gaussian.mean(Q)}, "leave num_samples out"),
        (
            {"posterior": gaussian.mean(Q), "num_samples": None, "antithetic": True},
            "needs random weights, and the posterior has none",
        ),
        ({"variables": {}}, "plain function has no variables"),
        ({"likelihood": jnp.tanh, "targets": LABELS}, "targets need a likelihood"),
    ],
)
def test_an_invalid_call_is_an_error(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(**options)


@pytest.mark.parametrize("likelihood", [Categorical, "categorical"])
def test_an_object_that_is_no_likelihood_is_an_error(likelihood: Any) -> None:
    with pytest.raises(TypeError, match=r"such as Categorical\(\)"):
        call(likelihood=likelihood)


def test_a_module_that_was_not_converted_is_an_error() -> None:
    with pytest.raises(TypeError, match="what to_bnn returns"):
        predict(key(0), nn.Dense(3), X, num_samples=2, likelihood=Categorical())


def test_an_interval_without_its_quantiles_is_an_error() -> None:
    got = call(likelihood=Normal(), levels=(0.05, 0.95))
    with pytest.raises(ValueError, match=r"needs the quantiles 0\.25 and 0\.75"):
        got.interval(0.5)


def test_no_examples_are_an_error() -> None:
    with pytest.raises(ValueError, match="no examples"):
        predict(key(0), network, X[:0], posterior=Q, num_samples=2, likelihood=Categorical())
