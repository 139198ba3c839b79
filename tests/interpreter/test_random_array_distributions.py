"""The distribution of what random arrays give: one weight or one bias for each example."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax.interpreter import random_array
from core_helpers import assert_covariance, assert_mean, data, key
from core_helpers import random_posterior as random

P = {"b": random(3, 4)}


@pytest.mark.parametrize("estimator", [pytest.param("reparam", marks=pytest.mark.slow), "flipout"])
@pytest.mark.parametrize("order", ["bti,io->bto", "io,bti->obt", "bti,hio->bhto", "bhi,hio->bho"])
def test_einsum_has_the_distribution_of_one_weight_per_example(estimator: str, order: str) -> None:
    left, right = order.split("->")[0].split(",")
    letters = {"b": 2, "t": 2, "i": 2, "o": 2, "h": 2}
    x_part = left if "b" in left else right
    w_part = right if "b" in left else left
    q = random(1, *(letters[c] for c in w_part))
    x = data(2, *(letters[c] for c in x_part))
    fn = jax.jit(
        jax.vmap(
            lambda k: random_array.apply(
                lambda w, a: jnp.einsum(order, *((a, w) if left == x_part else (w, a))),
                k,
                q,
                x,
                estimator=estimator,
            )
        )
    )
    y = np.asarray(fn(jax.random.split(key(3), 20_000)))
    out = order.split("->")[1]
    y = np.moveaxis(y, 1 + out.index("b"), 1)[:, 1].reshape(20_000, -1)
    # The Jacobian of the second example's output by the weight gives its covariance.
    second = jax.jacobian(
        lambda w: jnp.take(
            jnp.einsum(order, *((x, w) if left == x_part else (w, x))), 1, axis=out.index("b")
        ).ravel()
    )(q.mean).reshape(y.shape[1], -1)
    assert_mean(y, second @ q.mean.ravel())
    assert_covariance(y, (second * q.std.ravel()[None] ** 2) @ second.T)


@pytest.mark.parametrize("estimator", ["local_reparam", "flipout"])
def test_a_bias_is_one_draw_for_each_example(estimator: str) -> None:
    def fn(p: Any, x: Any) -> Any:
        return x + p["b"][None, None]

    x = jnp.zeros((3, 2, 4))
    y = random_array.apply(fn, key(0), P, x, estimator=estimator)
    np.testing.assert_array_equal(y[:, 0], y[:, 1])  # positions share it
    offset = np.abs(y[:, 0] - P["b"].mean[None])
    if estimator == "flipout":  # one magnitude, random signs
        np.testing.assert_allclose(offset[0], offset[1], rtol=1e-5, atol=1e-6)
    else:
        assert not np.any(np.isclose(offset[0], offset[1]))


def test_a_weight_of_each_position_is_one_draw_for_each_example() -> None:
    q = {"position": random(1, 1, 5, 3)}
    y = jax.vmap(
        lambda k: random_array.apply(
            lambda p, x: x + p["position"], k, q, jnp.zeros((2, 5, 3)), estimator="local_reparam"
        )
    )(jax.random.split(key(0), 5000))
    assert_mean(y, np.broadcast_to(q["position"].mean, (2, 5, 3)))
    spread = np.asarray(y) - np.asarray(q["position"].mean)
    assert_mean(spread**2, np.broadcast_to(q["position"].std ** 2, (2, 5, 3)))
    assert_mean(spread[:, 0] * spread[:, 1], np.zeros((5, 3)))
