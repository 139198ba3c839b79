"""Moments up to operations without a rule, samples after."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnn_jax import gaussian, moments
from bnn_jax.noise import Draw
from core_helpers import data, key, random_posterior

X = data(0, 6, 3)
Q = {"first": random_posterior(1, 3, 5), "last": random_posterior(2, 5, 2)}


def recurrent(params: Any, x: Any) -> Any:
    """A scan over the features: the first operation with a weight has no rule."""

    def cell(h: Any, x_t: Any) -> Any:
        h = jnp.tanh(h @ params["recurrent"] + x_t[:, None] @ params["input"])
        return h, h

    h, _ = lax.scan(cell, jnp.zeros((x.shape[0], 4)), x.T)
    return h @ params["last"]


def sorted_network(params: Any, x: Any) -> Any:
    """Sorting has no rule."""
    return jnp.sort(jnp.tanh(x @ params["first"]), axis=-1) @ params["last"]


def drawn(network: Any, posterior: Any, count: int, x: Any = X) -> np.ndarray:
    """Samples of the outputs, (count, examples, outputs)."""

    @jax.jit
    def samples(keys: Any) -> Any:
        partial = moments.partial_outputs(network, posterior, x)

        def one(k: Any) -> Any:
            weights, values = jax.random.split(k)
            return partial.sample(Draw(weights), values)

        return lax.map(one, keys, batch_size=500)

    return np.asarray(samples(jax.random.split(key(7), count)))


@pytest.mark.parametrize("sign", [1, -1])
def test_without_any_rule_the_samples_are_those_of_the_posterior(sign: int) -> None:
    posterior = {
        "input": random_posterior(1, 1, 4),
        "last": random_posterior(2, 4, 2),
        "recurrent": random_posterior(3, 4, 4),
    }
    draw = Draw(key(4), sign)
    partial = moments.partial_outputs(recurrent, posterior, X)
    wanted = recurrent(gaussian.sample(draw, posterior), X)
    np.testing.assert_allclose(partial.sample(draw, key(5)), wanted, rtol=1e-5, atol=1e-6)


def test_a_layer_before_the_cut_is_exact_in_distribution() -> None:
    """The units of a first layer are independent and normal, so nothing is neglected."""
    count = 20_000
    got = drawn(sorted_network, Q, count)

    @jax.jit
    def reference(keys: Any) -> Any:
        return jax.vmap(lambda k: sorted_network(gaussian.sample(k, Q), X))(keys)

    wanted = np.asarray(reference(jax.random.split(key(8), count)))
    error = np.sqrt(2 / count)
    assert (np.abs(got.mean(0) - wanted.mean(0)) / wanted.std(0)).max() < 5 * error
    # The kurtosis of the outputs is at most 5 here, so the variance's error is below 2 error.
    assert np.abs(got.var(0) / wanted.var(0) - 1).max() < 5 * 2 * error
    between = [np.corrcoef(y[:, 0, 0], y[:, 0, 1])[0, 1] for y in (got, wanted)]
    assert abs(between[0] - between[1]) < 5 * error


def test_a_value_is_one_draw_wherever_it_is_used() -> None:
    def zero(params: Any, x: Any) -> Any:
        hidden = x @ params["first"]
        again = jnp.sum(jnp.sort(hidden, axis=-1), axis=-1) - jnp.sum(hidden, axis=-1)
        kernel = params["first"].reshape(-1)
        return again + jnp.sum(jnp.sort(kernel)) - jnp.sum(jnp.sort(params["first"].T.reshape(-1)))

    np.testing.assert_allclose(drawn(zero, Q, 20), 0.0, atol=1e-5)


def test_a_bias_after_the_cut_is_the_same_for_all_examples() -> None:
    posterior = {"bias": random_posterior(1, 2)}

    def network(params: Any, x: Any) -> Any:
        return jnp.sort(x[:, :2] + params["bias"][None], axis=0)

    samples = drawn(network, posterior, 10, jnp.ones_like(X))
    assert samples.shape == (10, 6, 2)
    # Independent biases of equal examples would be sorted by size.
    np.testing.assert_array_equal(np.ptp(samples, axis=1), 0.0)
    assert (samples.std(axis=0) > 0.0).all()


def test_outputs_without_a_cut_are_drawn_from_their_moments() -> None:
    outputs = moments.outputs(lambda p, x: x @ p["first"], Q, X)
    samples = drawn(lambda p, x: x @ p["first"], Q, 20_000)
    error = np.sqrt(1 / 20_000)
    assert (np.abs(samples.mean(0) - outputs.mean) / outputs.std).max() < 5 * error
    assert np.abs(samples.var(0) / outputs.variance - 1).max() < 5 * np.sqrt(2) * error


def test_the_plan_names_weights_and_operations() -> None:
    plan = moments.plan(sorted_network, Q, X)
    assert plan.weights == {"first": "moments", "last": "samples"}
    (error,) = plan.without_rule
    assert error.operation == "sort"
    assert "test_deferred.py" in error.place
    text = str(plan)
    assert text.startswith("first  moments\nlast   samples\nno rule: sort (")
    whole = moments.plan(lambda p, x: x @ p["first"], Q, X)
    assert set(whole.weights.values()) == {"moments"}
    assert whole.without_rule == ()


def test_inside_jit_the_plan_knows_calls() -> None:
    @jax.jit
    def inner(x: Any) -> Any:
        return jnp.sort(jax.nn.relu(x), axis=-1)

    def network(params: Any, x: Any) -> Any:
        return inner(x @ params["first"]) @ params["last"]

    plan = moments.plan(network, Q, X)
    assert plan.weights == {"first": "moments", "last": "samples"}
    samples = drawn(network, Q, 3)
    assert np.isfinite(samples).all()
