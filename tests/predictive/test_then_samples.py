"""predict(method="moments_then_samples")."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo_linen import CASES

from bnn_jax import gaussian, posteriors, predictive, to_bnn
from bnn_jax.likelihoods import Categorical, Normal
from bnn_jax.predictive import predict
from core_helpers import data, key, random_posterior

X = data(0, 7, 3)
Q = {"first": random_posterior(1, 3, 5), "last": random_posterior(2, 5, 2)}
LABELS = jnp.arange(7) % 2


def network(params: Any, x: Any) -> Any:
    return jnp.sort(jnp.tanh(x @ params["first"]), axis=-1) @ params["last"]


def call(likelihood: Any, num_samples: int | None = 400, seed: int = 0, **kwargs: Any) -> Any:
    defaults: dict[str, Any] = {"posterior": Q, "method": "moments_then_samples"}
    return predict(
        key(seed), network, X, num_samples, likelihood=likelihood, **{**defaults, **kwargs}
    )


def test_it_agrees_with_samples() -> None:
    got = call(Categorical(), 4000, targets=LABELS)
    wanted = call(Categorical(), 4000, seed=1, method="samples", targets=LABELS, keep_samples=True)
    std = np.asarray(jax.nn.softmax(wanted.samples)).std(axis=0)
    error = np.abs(got.probabilities - wanted.probabilities) / std
    assert error.max() < 5 * np.sqrt(2 / 4000)
    np.testing.assert_allclose(got.mutual_information, wanted.mutual_information, rtol=0.15)
    np.testing.assert_allclose(got.log_prob, wanted.log_prob, atol=0.05)
    assert got.num_samples == 4000


def test_a_network_without_any_rule_has_the_samples_of_the_posterior() -> None:
    def rules_fail(params: Any, x: Any) -> Any:
        return x @ jnp.sort(params["first"], axis=-1)

    one, other = (
        predict(
            key(0), rules_fail, X, 6, likelihood=Normal(0.1), posterior=Q, method=method,
            antithetic=True, batch_size=3,
        )
        for method in ("samples", "moments_then_samples")
    )  # fmt: skip
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(one.epistemic_variance, other.epistemic_variance, rtol=1e-4)


def test_antithetic_pairs_have_opposite_noise() -> None:
    def cut_at_the_end(params: Any, x: Any) -> Any:
        return jax.lax.sort(x @ params["first"], dimension=0)[:1]

    predictor = predictive.build(
        cut_at_the_end, Normal(0.1), 2, method="moments_then_samples", antithetic=True
    )
    got = jax.jit(predictor)(key(0), Q, X[:1])
    np.testing.assert_allclose(got.mean, X[:1] @ Q["first"].mean, rtol=1e-5, atol=1e-6)


def test_the_part_with_rules_is_computed_once() -> None:
    def cut(params: Any, x: Any) -> Any:
        return jnp.sort(x @ params["first"], axis=-1)

    predictor = predictive.build(cut, Normal(0.1), 8, method="moments_then_samples")
    jaxpr = jax.make_jaxpr(predictor)(key(0), Q, X)
    loops = [eqn for eqn in jaxpr.eqns if eqn.primitive.name in ("scan", "while")]
    assert loops
    assert "dot_general" in str(jaxpr)
    assert not any("dot_general" in str(eqn.params) for eqn in loops)


def test_the_pure_function_is_the_same_and_has_a_gradient() -> None:
    predictor = predictive.build(network, Categorical(), 400, method="moments_then_samples")
    got = jax.jit(predictor)(key(0), Q, X)
    np.testing.assert_allclose(got.probabilities, call(Categorical()).probabilities, rtol=1e-4)

    def information(x: Any) -> Any:
        return jnp.sum(predictor(key(0), Q, x).mutual_information)

    assert np.isfinite(jax.grad(information)(X)).all()


def test_samples_and_quantiles() -> None:
    got = call(Normal(0.1), keep_samples=True, levels=(0.5,))
    assert got.samples.shape == (400, 7, 2)
    np.testing.assert_allclose(got.mean, got.samples.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.quantiles[0.5], got.mean, atol=0.3)


def test_a_recurrent_network() -> None:
    (case,) = (case for case in CASES if case.name == "linen-bidirectional_lstm")
    model = to_bnn(*case.make(), initial_std=0.05)
    inputs = case.inputs(0)
    outputs = [
        predict(
            key(0), model, inputs, 200, likelihood=lambda y: jax.tree.leaves(y)[0], method=method
        )
        for method in ("samples", "moments_then_samples")
    ]
    std = np.sqrt(outputs[0].epistemic_variance)
    assert np.abs(outputs[0].mean - outputs[1].mean).max() < 5 * std.max() * np.sqrt(2 / 200)
    ratio = np.sqrt(outputs[1].epistemic_variance).mean() / std.mean()
    assert 0.85 < ratio < 1.15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": None}, "needs num_samples"),
        ({"posterior": None}, "method='moments_then_samples' needs a posterior"),
    ],
)
def test_errors(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Categorical(), **arguments)


def test_other_posteriors_are_errors() -> None:
    samples = posteriors.Samples({"first": data(1, 2, 3, 5), "last": data(1, 2, 5, 2)})
    for posterior in (samples, [gaussian.mean(Q)] * 2):
        with pytest.raises(TypeError, match="mean-field posterior"):
            call(Categorical(), posterior=posterior)
