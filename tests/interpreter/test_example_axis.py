"""The example axis is followed through a network; where it is lost, weights are drawn once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian
from bnn_jax.interpreter import random_array
from bnn_jax.models import banded_conv
from core_helpers import data

X = data(0, 3, 4, 5)  # examples, positions, features
W = gaussian.centred(data(1, 5, 2), 0.3)
B = gaussian.centred(data(2, 5), 0.3)


def rules(fn: Callable[..., Any], *inputs: Any) -> list[str]:
    report: dict[str, list[str]] = {}
    posterior = {"w": W, "b": B}

    def run(key: Any) -> Any:
        return random_array.apply(fn, key, posterior, *inputs, estimator="flipout", report=report)

    jax.eval_shape(run, jax.random.key(0))
    return [*report["w"], *report["b"]]


def rows_added(x: jax.Array) -> jax.Array:
    """Each row and the next, as a convolution of images with one channel."""
    layout = ("NHWC", "HWIO", "NHWC")
    kernel = jnp.ones((2, 1, 1, 1))
    return banded_conv(x[..., None], kernel, (1, 1), "VALID", dimension_numbers=layout)[..., 0]


KEPT: dict[str, Callable[..., Any]] = {
    "at once": lambda p, x: x @ p["w"],
    "elementwise": lambda p, x: jnp.tanh(x * 2.0) @ p["w"],
    "positions summed": lambda p, x: x.sum(axis=1) @ p["w"],
    "positions reduced by max": lambda p, x: jnp.max(x, axis=1) @ p["w"],
    "there and back": lambda p, x: x.swapaxes(0, 1).swapaxes(0, 1) @ p["w"],
    "flattened": lambda p, x: x.reshape(3, 20)[:, :5] @ p["w"],
    "split": lambda p, x: x.reshape(3, 2, 2, 5) @ p["w"],
    "one more axis": lambda p, x: x[:, None] @ p["w"],
    "in jit": lambda p, x: jax.jit(lambda y: y.swapaxes(0, 1))(x.swapaxes(0, 1)) @ p["w"],
    "attention": lambda p, x: jnp.einsum("bqk,bkd->bqd", x @ x.swapaxes(1, 2), x) @ p["w"],
    "time major scan": lambda p, x: (
        jax.lax.scan(lambda c, s: (c, s * 2.0), 0.0, x.swapaxes(0, 1))[1].swapaxes(0, 1) @ p["w"]
    ),
    "bias": lambda p, x: x + p["b"][None, None],
    "after banded_conv": lambda p, x: rows_added(x) @ p["w"],
    "product, weight on the left": lambda p, x: jnp.einsum("fo,btf->bto", p["w"], x),
}
LOST: dict[str, Callable[..., Any]] = {
    "time major": lambda p, x: x.swapaxes(0, 1) @ p["w"],
    "merged": lambda p, x: x.reshape(12, 5) @ p["w"],
    "merged and split": lambda p, x: x.reshape(12, 5).reshape(3, 4, 5) @ p["w"],
    "time major and merged": lambda p, x: x.swapaxes(0, 1).reshape(12, 5) @ p["w"],
    "bias, time major": lambda p, x: x.swapaxes(0, 1) + p["b"][None, None],
    "mapped over positions": lambda p, x: jax.vmap(lambda s: s + p["b"][None], 1, 1)(x),
    "examples summed": lambda p, x: x.sum(axis=0) @ p["w"],
    "in jit": lambda p, x: jax.jit(lambda y: y.swapaxes(0, 1))(x) @ p["w"],
    "banded_conv, time major": lambda p, x: rows_added(x.swapaxes(0, 1)) @ p["w"],
    "in remat": lambda p, x: jax.checkpoint(lambda y: y.swapaxes(0, 1))(x) @ p["w"],
}


@pytest.mark.parametrize("name", KEPT)
def test_where_the_examples_stay_on_axis_0(name: str) -> None:
    assert rules(KEPT[name], X) == ["flipout"]


@pytest.mark.parametrize("name", LOST)
def test_where_they_are_not_on_axis_0_the_weight_is_drawn_once(name: str) -> None:
    assert rules(LOST[name], X) == ["reparam"]


def test_an_input_without_examples_does_not_hide_them() -> None:
    mask = jnp.ones((4, 4))
    masked = lambda p, x, m: jnp.einsum("qk,bkd->bqd", m, x) @ p["w"]  # noqa: E731
    assert rules(masked, X, mask) == ["flipout"]
    scaled = lambda p, x, m: (x * m.sum(axis=0)[None, :, None]) @ p["w"]  # noqa: E731
    assert rules(scaled, X, mask) == ["flipout"]


@pytest.mark.parametrize("name", ["merged", "time major", "mapped over positions"])
@pytest.mark.parametrize("estimator", ["flipout", "local_reparam"])
def test_the_distribution_of_a_sum_over_positions(name: str, estimator: str) -> None:
    """Independent draws at each position would give it less than its variance."""
    axis = {"merged": None, "time major": 0, "mapped over positions": 1}[name]

    def total(p: Any, x: Any) -> Any:
        out = LOST[name](p, x)
        return (out.reshape(3, 4, -1).sum(axis=1) if axis is None else out.sum(axis=axis))[0, 0]

    def estimate(key: Any) -> Any:
        return random_array.apply(total, key, {"w": W, "b": B}, X, estimator=estimator)

    keys = jax.random.split(jax.random.key(1), 20)
    got = [float(jax.jit(estimate)(k)) for k in keys]
    exact = [float(total(gaussian.sample(k, {"w": W, "b": B}), X)) for k in keys]
    np.testing.assert_allclose(got, exact, rtol=1e-4, atol=1e-5)
