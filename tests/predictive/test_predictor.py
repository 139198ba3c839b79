"""The predictive as a pure function: equal to `predict`, and usable wherever JAX traces."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import export

from bnn_jax import gaussian, posteriors, predictive, to_bnn
from bnn_jax.gaussian import Gaussian
from bnn_jax.likelihoods import Categorical, Normal
from bnn_jax.predictive.posterior_predictive import predict
from core_helpers import data, key
from predict_helpers import LABELS, Q, S, X, network, outputs

NOISE = Normal(std=0.5)


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("likelihood", "options", "targets"),
    [
        (Categorical(), {"antithetic": True, "keep_samples": True}, LABELS),
        (NOISE, {"levels": (0.1, 0.9)}, data(9, 10, 4)),
        (jnp.tanh, {}, None),
    ],
)
def test_it_is_predict(likelihood: Any, options: Any, targets: Any) -> None:
    expected = predict(
        key(5), network, X, 5, likelihood=likelihood, posterior=Q, targets=targets, **options
    )
    predictor = predictive.build(network, likelihood, 5, **options)
    got = jax.jit(predictor)(key(5), Q, X, targets)
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(got))
    assert_same(got, expected)


@pytest.mark.parametrize(
    ("posterior", "num_samples"),
    [
        (posteriors.MeanField(Q), S),
        (posteriors.Samples.of([gaussian.sample(key(i), Q) for i in range(3)]), None),
        ([gaussian.sample(key(i), Q) for i in range(3)], None),
        (gaussian.mean(Q), None),
    ],
    ids=["mean field", "samples", "ensemble", "one network"],
)
def test_the_posterior_of_any_kind_is_an_argument(posterior: Any, num_samples: Any) -> None:
    predictor = jax.jit(predictive.build(network, Categorical(), num_samples))
    expected = predict(
        key(5), network, X, num_samples, likelihood=Categorical(), posterior=posterior
    )
    assert_same(predictor(key(5), posterior, X), expected)


def test_a_flax_network_with_its_own_posterior_and_variables() -> None:
    net = nn.BatchNorm(use_running_average=True)
    variables = net.init(key(0), X)
    model = to_bnn(net, variables, where="all")
    other = {"batch_stats": {"mean": data(1, 3), "var": jnp.ones(3)}}
    predictor = predictive.build(model, NOISE, 3)
    for state in (None, other):
        expected = predict(key(1), model, X, 3, likelihood=NOISE, variables=state)
        assert_same(predictor(key(1), None, X, variables=state), expected)


def test_a_bandit_inside_scan() -> None:
    """The arm of the largest upper bound is pulled, and its Gaussian is updated exactly."""
    rewards, noise_variance = jnp.asarray([0.1, 0.8, 0.5]), 0.25
    arms = jnp.eye(3)
    predictor = predictive.build(lambda w, x: x @ w, NOISE, num_samples=16)
    start = gaussian.centred(jnp.zeros(3), 1.0)

    def pulled(posterior: Gaussian, prediction: Any) -> tuple[Gaussian, Any]:
        bound = prediction.mean + 2 * jnp.sqrt(prediction.epistemic_variance)
        arm = jnp.argmax(jnp.asarray(bound))
        precision = 1 / posterior.std[arm] ** 2
        total = precision + 1 / noise_variance
        mean = (precision * posterior.mean[arm] + rewards[arm] / noise_variance) / total
        rho = gaussian.rho_from_std(total**-0.5)
        return Gaussian(posterior.mean.at[arm].set(mean), posterior.rho.at[arm].set(rho)), arm

    @jax.jit
    def loop(key: Any, posterior: Gaussian) -> Any:
        def step(posterior: Gaussian, i: Any) -> tuple[Gaussian, Any]:
            return pulled(posterior, predictor(jax.random.fold_in(key, i), posterior, arms))

        return jax.lax.scan(step, posterior, jnp.arange(12))

    posterior, chosen = loop(key(3), start)
    expected, arm = start, None
    for i in range(12):
        at = jax.random.fold_in(key(3), i)
        prediction = predict(at, lambda w, x: x @ w, arms, 16, likelihood=NOISE, posterior=expected)
        expected, arm = pulled(expected, prediction)
        assert int(arm) == int(chosen[i])
    assert_same(posterior, expected)
    assert len(np.unique(chosen)) == 3


def test_gradients_by_x_are_those_of_the_samples() -> None:
    """The mean is x w averaged over the samples w, its variance x C x' with their covariance C."""
    predictor = predictive.build(network, NOISE, S)
    weights = np.stack(
        [gaussian.sample(jax.random.fold_in(key(5), s), Q)["w"] for s in range(S)]
    ).astype(np.float64)

    def total(x: Any, name: str) -> Any:
        return jnp.sum(getattr(predictor(key(5), Q, x), name))

    of_mean = jax.grad(total)(X, "mean")
    np.testing.assert_allclose(of_mean, np.tile(weights.mean(0).sum(-1), (10, 1)), rtol=1e-5)
    centred = weights - weights.mean(axis=0)
    covariance = np.einsum("sio,sjo->ij", centred, centred) / S
    of_variance = jax.grad(total)(X, "epistemic_variance")
    np.testing.assert_allclose(of_variance, 2 * np.asarray(X) @ covariance, rtol=1e-4, atol=1e-5)


def test_vmap_over_keys() -> None:
    predictor = predictive.build(network, Categorical(), 4)
    keys = jax.random.split(key(6), 3)
    many = jax.vmap(lambda k: predictor(k, Q, X))(keys)
    assert many.probabilities.shape == (3, 10, 4)
    for i in range(3):
        one = predict(keys[i], network, X, 4, likelihood=Categorical(), posterior=Q)
        assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], many), one)


@pytest.mark.parametrize("antithetic", [False, True])
def test_a_symbolic_number_of_examples(antithetic: bool) -> None:
    options = {"antithetic": antithetic, "keep_samples": True, "levels": (0.5,)}
    predictor = predictive.build(network, NOISE, 3, **options)
    (batch,) = export.symbolic_shape("batch")

    def fields(key_data: Any, x: Any) -> dict[str, Any]:
        got = predictor(jax.random.wrap_key_data(key_data), Q, x)
        return {"mean": got.mean, "samples": got.samples, "median": got.quantiles[0.5]}

    words = jax.ShapeDtypeStruct((2,), jnp.uint32)
    x = jax.ShapeDtypeStruct((batch, 3), jnp.float32)
    exported = export.export(jax.jit(fields))(words, x)
    for size in (1, 7):
        expected = predict(key(5), network, X[:size], 3, likelihood=NOISE, posterior=Q, **options)
        got = exported.call(jax.random.key_data(key(5)), X[:size])
        assert_same(
            (got["mean"], got["samples"], got["median"]),
            (expected.mean, expected.samples, expected.quantiles[0.5]),
        )


def test_a_symbolic_number_of_examples_with_noise_of_their_own() -> None:
    model = to_bnn(network, gaussian.mean(Q), estimator="flipout", where="all")

    def noisy(k: Any, x: Any) -> Any:
        return model.apply(k, Q, x)

    predictor = predictive.build(noisy, NOISE, 3)
    (batch,) = export.symbolic_shape("batch")
    x = jax.ShapeDtypeStruct((batch, 3), jnp.float32)
    exported = export.export(jax.jit(lambda x: predictor(key(5), None, x).mean))(x)
    expected = predict(key(5), noisy, X, 3, likelihood=NOISE)
    np.testing.assert_allclose(exported.call(X), expected.mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, lambda f: jax.grad(lambda x: f(x).sum())])
def test_predict_inside_a_transformation_names_build(transform: Any) -> None:
    def mean(x: Any) -> Any:
        return predict(key(5), network, x, 2, likelihood=NOISE, posterior=Q).mean

    with pytest.raises(TypeError, match=r"predictive\.build"):
        transform(mean)(X)
    # Nor with constants only.
    with pytest.raises(TypeError, match=r"predictive\.build"):
        jax.jit(lambda: mean(X))()


def test_properties_of_a_traced_prediction() -> None:
    predictor = predictive.build(network, NOISE, S, levels=(0.05, 0.95))

    @jax.jit
    def std_and_interval(x: Any) -> Any:
        got = predictor(key(5), Q, x)
        return got.std, got.interval(0.9)

    std, (low, high) = std_and_interval(X)
    expected = np.sqrt(0.25 + outputs(5).var(axis=0))
    np.testing.assert_allclose(std, expected, rtol=1e-5)
    assert bool(jnp.all(low < high))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((network, Categorical(), 0), {}, ValueError, "num_samples must be at least 1, got 0"),
        ((network, "categorical", 2), {}, TypeError, r"such as Categorical\(\)"),
        ((nn.Dense(3), Categorical(), 2), {}, TypeError, "what to_bnn returns"),
        ((network, Categorical(), 2), {"levels": (0.5,)}, ValueError, "Classes have no quantiles"),
        ((network, NOISE, 2), {"levels": (1.5,)}, ValueError, "between 0 and 1, got 1.5"),
    ],
)
def test_an_invalid_build_is_an_error(
    arguments: Any, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        predictive.build(*arguments, **options)


def test_an_invalid_call_is_an_error() -> None:
    predictor = predictive.build(network, Categorical())
    with pytest.raises(ValueError, match="needs num_samples"):
        predictor(key(5), Q, X)
    with pytest.raises(ValueError, match="same number of examples"):
        predictor(key(5), gaussian.mean(Q), X, LABELS[:3])
