"""predict(method="moments"): for a linear network it is exact, so the oracles are closed forms."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from bnn_jax import gaussian, moments, posteriors, predictive
from bnn_jax.likelihoods import Bernoulli, Categorical, Normal, Poisson, StudentT
from bnn_jax.predictive import output_points, predict
from core_helpers import data, key
from predict_helpers import LABELS, Q, X, network

OUTPUTS = moments.outputs(network, Q, X)
MEAN, STD = (np.asarray(a, np.float64) for a in (OUTPUTS.mean, OUTPUTS.std))
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(60)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
VALUES = MEAN[..., None] + STD[..., None] * NODES


def call(likelihood: Any, **kwargs: Any) -> Any:
    defaults: dict[str, Any] = {"posterior": Q, "method": "moments"}
    return predict(key(0), network, X, likelihood=likelihood, **{**defaults, **kwargs})


def test_the_points_are_standard_normal() -> None:
    z = output_points.normal_points(10)
    assert z.shape == (output_points.POINTS, 10)
    np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-6)
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(10), atol=1e-3)
    many = output_points.normal_points(300)
    np.testing.assert_allclose(many.std(0), 1.0, rtol=1e-5)
    assert all(stats.kstest(column, "norm").pvalue > 0.2 for column in z.T)


def test_classes_are_as_by_many_samples() -> None:
    got = call(Categorical(), targets=LABELS)
    rng = np.random.default_rng(0)
    logits = MEAN + STD * rng.normal(size=(20_000, *MEAN.shape))
    p = special.softmax(logits, axis=-1)
    entropy = special.entr(p).sum(-1).mean(0)
    # 128 points have the error of about a thousand samples; the bound is 4 of those errors.
    error = 4 * p.std(0) / np.sqrt(1000) + 1e-3
    np.testing.assert_array_less(np.abs(got.probabilities - p.mean(0)), error)
    np.testing.assert_allclose(got.expected_entropy, entropy, atol=0.03)
    information = special.entr(p.mean(0)).sum(-1) - entropy
    np.testing.assert_allclose(got.mutual_information, information, atol=0.03)
    chosen = got.probabilities[np.arange(10), LABELS]
    np.testing.assert_allclose(got.log_prob, np.log(chosen), rtol=1e-5, atol=1e-6)
    assert got.num_samples == 0


def test_two_classes_and_counts_are_as_by_quadrature() -> None:
    two = call(Bernoulli())
    p = special.expit(VALUES)
    np.testing.assert_allclose(two.probabilities, p @ WEIGHTS, atol=2e-3)
    entropy = (special.entr(p) + special.entr(1 - p)) @ WEIGHTS
    np.testing.assert_allclose(two.expected_entropy, entropy, atol=5e-3)
    counts = call(Poisson())
    rate = np.exp(VALUES) @ WEIGHTS
    # The largest of 128 quantiles is at 2.66 std, so that heavy tails are cut.
    np.testing.assert_allclose(counts.mean, rate, rtol=0.05)
    np.testing.assert_allclose(counts.aleatoric_variance, rate, rtol=0.05)


def test_given_normal_noise_everything_is_exact() -> None:
    y = data(3, 10, 4)
    got = call(Normal(0.01), targets=y, levels=(0.1, 0.5))
    np.testing.assert_allclose(got.mean, MEAN, rtol=1e-6)
    np.testing.assert_allclose(got.epistemic_variance, STD**2, rtol=1e-5)
    np.testing.assert_allclose(got.aleatoric_variance, 1e-4, rtol=1e-4)
    std = np.sqrt(STD**2 + 1e-4)
    np.testing.assert_allclose(got.log_prob, stats.norm.logpdf(y, MEAN, std).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(
        got.quantiles[0.1], stats.norm.ppf(0.1, MEAN, std), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(got.quantiles[0.5], MEAN, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pair", [True, False])
def test_noise_of_the_network(pair: bool) -> None:
    def heads(params: Any, x: Any) -> Any:
        y = network(params, x)
        return (y[:, :2], y[:, 2:]) if pair else y

    got = predict(key(0), heads, X, likelihood=Normal(), posterior=Q, method="moments")
    np.testing.assert_allclose(got.mean, MEAN[:, :2], rtol=1e-6)
    np.testing.assert_allclose(got.epistemic_variance, STD[:, :2] ** 2, rtol=1e-5)
    noise = (np.logaddexp(0, VALUES[:, 2:]) + 1e-6) ** 2 @ WEIGHTS
    np.testing.assert_allclose(got.aleatoric_variance, noise, rtol=2e-2)


def test_noise_that_is_a_parameter() -> None:
    posterior = {**Q, "rho": jnp.asarray([-2.0, -1.0, 0.0, 1.0])}
    got = predict(
        key(0), lambda p, x: (network(p, x), p["rho"]), X,
        likelihood=Normal(), posterior=posterior, method="moments",
    )  # fmt: skip
    noise = jnp.square(jax.nn.softplus(posterior["rho"]) + 1e-6)
    np.testing.assert_allclose(got.aleatoric_variance, jnp.broadcast_to(noise, (10, 4)), rtol=1e-4)


def test_other_likelihoods_and_functions_of_the_outputs() -> None:
    got = call(StudentT(df=5.0, scale=2.0), levels=(0.5,))
    np.testing.assert_allclose(got.mean, MEAN, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.epistemic_variance, STD**2, rtol=1e-3)
    np.testing.assert_allclose(got.quantiles[0.5], MEAN, atol=0.05)
    square = call(jnp.square)
    np.testing.assert_allclose(square.mean, VALUES**2 @ WEIGHTS, rtol=1e-3)


def test_neither_key_nor_batch_size_matter() -> None:
    one, other = call(Categorical()), call(Categorical(), batch_size=3)
    np.testing.assert_allclose(one.probabilities, other.probabilities, rtol=1e-5)
    again = predict(key(9), network, X, likelihood=Categorical(), posterior=Q, method="moments")
    np.testing.assert_array_equal(one.probabilities, again.probabilities)


def test_the_pure_function_is_the_same_and_has_a_gradient() -> None:
    predictor = predictive.build(network, Categorical(), method="moments")
    got = jax.jit(predictor)(key(0), Q, X)
    np.testing.assert_allclose(got.probabilities, call(Categorical()).probabilities, rtol=1e-5)
    assert got.num_samples == 0

    def information(x: Any) -> Any:
        return jnp.sum(predictor(key(0), Q, x).mutual_information)

    assert np.isfinite(jax.grad(information)(X)).all()


def test_a_point_has_no_epistemic_uncertainty() -> None:
    params = gaussian.mean(Q)
    for posterior in (params, posteriors.Point(params)):
        got = call(Categorical(), posterior=posterior)
        np.testing.assert_allclose(got.mutual_information, 0.0, atol=1e-5)
        np.testing.assert_allclose(got.probabilities, special.softmax(MEAN, -1), rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 3}, "leave num_samples out"),
        ({"antithetic": True}, "leave antithetic out"),
        ({"keep_samples": True}, "leave keep_samples out"),
        ({"method": "moment"}, "method must be one of .*'moments', .*'samples'.*'moment'"),
        ({"posterior": None}, "needs a posterior"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Categorical(), **arguments)


def test_other_posteriors_are_errors() -> None:
    samples = posteriors.Samples({"w": data(1, 2, 3, 4)})
    for posterior in (samples, [gaussian.mean(Q)] * 2):
        with pytest.raises(TypeError, match="mean-field posterior"):
            call(Categorical(), posterior=posterior)
