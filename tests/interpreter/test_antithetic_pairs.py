"""Two weight samples at once are the two, one by one, and the first layer costs less than twice."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import gaussian, to_bnn
from bnn_jax.interpreter import antithetic_pairs
from bnn_jax.models import MLP, LeNet5, banded_conv
from bnn_jax.models.transformer import Transformer
from bnn_jax.noise import Draw
from core_helpers import data, key


def one_by_one(fn: Any, posterior: Any, *args: Any) -> list[Any]:
    return [fn(gaussian.sample(Draw(key(7), sign), posterior), *args) for sign in (1, -1)]


def as_pair(fn: Any, posterior: Any, *args: Any) -> tuple[Any, Any]:
    return antithetic_pairs.outputs(fn, posterior, gaussian.deviations(key(7), posterior), *args)


def assert_equal(got: Any, wanted: Any, tolerance: float = 1e-5) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max())


W, V = data(1, 4, 5), data(2, 5, 3)
POSTERIOR = {
    "w": gaussian.centred(W, 0.3),
    "v": gaussian.centred(V, 0.2),
    "b": gaussian.centred(data(3, 1, 5), 0.1),
    "fixed": data(4, 1, 5),
}
X = data(0, 6, 4)

CONV = partial(
    banded_conv,
    window_strides=(1, 1),
    padding="VALID",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
)
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "a dense layer": lambda p, x: x @ p["w"] + p["b"],
    "the weight first": lambda p, x: p["w"].T @ x.T,
    "scaled, and minus": lambda p, x: 2.0 - 3.0 * (x @ p["w"]) - p["fixed"],
    "a bias minus data": lambda p, x: p["b"] - x @ p["fixed"][0, :4, None],
    "a bias plus a number": lambda p, x: (1.0 + p["b"]) * p["fixed"],
    "two layers, no activation": lambda p, x: (x @ p["w"] + p["b"]) @ p["v"],
    "two layers": lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["v"],
    "a tied weight": lambda p, x: jnp.tanh(x @ p["w"]) @ p["w"].T,
    "a weight times another": lambda p, x: x @ (p["w"] * p["b"]),
    "a weight times itself": lambda p, x: x @ (p["w"] @ p["w"].T),
    "a sum of two weights": lambda p, x: x @ (p["w"] + p["b"]) - p["b"],
    "a normalised weight": lambda p, x: (
        x @ (p["w"] / jnp.linalg.norm(p["w"], axis=0, keepdims=True))
    ),
    "a rounded weight": lambda p, x: (x @ p["w"]).astype(jnp.int32).astype(jnp.float32) @ p["v"],
    "an integer": lambda p, x: jnp.argmax(x @ p["w"], axis=-1),
    "rows by number": lambda p, x: p["w"][jnp.arange(3)] + p["b"],
    "a loop": lambda p, x: jax.lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ p["w"]) @ W.T, x),
    "a branch": lambda p, x: jax.lax.cond(p["b"].sum() > 0, jnp.sin, jnp.cos, x @ p["w"]),
    "a convolution": lambda p, x: CONV(x[..., None, None], p["v"].reshape(1, 1, 1, 15)),
    "a function of its own": lambda p, x: jax.jit(lambda a, w: (w, a @ w))(x, p["w"]),
    "nothing random": lambda p, x: {"a": (x, p["fixed"])},
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    fn = FUNCTIONS[name]
    pair, each = jax.jit(lambda q, x: (as_pair(fn, q, x), one_by_one(fn, q, x)))(POSTERIOR, X)
    for got, wanted in zip(pair, each, strict=True):
        assert_equal(got, wanted)


NETWORKS: dict[str, tuple[nn.Module, Any, float]] = {
    "MLP": (MLP((16, 8)), data(5, 4, 12), 1e-5),
    "MLP in bfloat16": (MLP((16, 8), dtype=jnp.bfloat16), data(5, 4, 12), 3e-2),
    "LeNet-5": (LeNet5(conv_general_dilated=banded_conv), data(6, 3, 32, 32, 1), 1e-5),
    "batch statistics": (
        nn.Sequential([nn.Dense(5), nn.BatchNorm(use_running_average=True), nn.Dense(2)]),
        data(7, 4, 6),
        1e-5,
    ),
    "transformer": (Transformer(16, 16, 1), jnp.arange(12).reshape(2, 6), 1e-4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    module, x, tolerance = NETWORKS[name]
    model = to_bnn(module, jax.jit(module.init)(key(1), x), initial_std=0.05)

    def fn(weights: Any, inputs: Any) -> Any:
        return model.network.call(weights, model.variables, inputs)

    pair = jax.jit(lambda q, x: as_pair(fn, q, x))(model.posterior, x)
    each = jax.jit(lambda q, x: one_by_one(fn, q, x))(model.posterior, x)
    for got, wanted in zip(pair, each, strict=True):
        assert_equal(got, wanted, tolerance)


@pytest.mark.parametrize(
    ("name", "products"),
    [
        # For the data the mean and the spread, for what follows two samples each.
        ("a dense layer", 2),
        ("two layers, no activation", 4),
        ("two layers", 4),
        ("a weight times itself", 2 + 2),
        ("nothing random", 0),
        # Called twice, and printed once: the kernel's matrix, and the product.
        ("a convolution", 2),
    ],
)
def test_products(name: str, products: int) -> None:
    jaxpr = jax.make_jaxpr(lambda q, x: as_pair(FUNCTIONS[name], q, x))(POSTERIOR, X)
    assert str(jaxpr).count("dot_general[") == products


def test_a_loop_over_pairs_multiplies_the_data_by_the_means_before_it() -> None:
    def mean_output(q: Any, x: Any, pairs: Any) -> Any:
        def add(i: Any, total: Any) -> Any:
            spreads = gaussian.deviations(jax.random.fold_in(key(7), i), q)
            plus, minus = antithetic_pairs.outputs(FUNCTIONS["two layers"], q, spreads, x)
            return total + plus + minus

        return jax.lax.fori_loop(0, pairs, add, jnp.zeros((6, 3))) / (2 * pairs)

    compiled = jax.jit(mean_output).lower(POSTERIOR, X, 4).compile().as_text()
    assert compiled is not None
    inside = [line for line in compiled.splitlines() if " dot(" in line and "while/body" in line]
    before = compiled[compiled.index("ENTRY") :].count(" dot(")
    assert len(inside) - before == 3
    assert before == 1
