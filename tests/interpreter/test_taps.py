"""Taps: features and shifts of linear maps, from which the gradient of a weight follows exactly."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnn_jax.interpreter import taps
from bnn_jax.models.banded_conv import banded_conv

IMAGE = jax.random.normal(jax.random.key(0), (1, 8, 8, 2))
SEQUENCE = jax.random.normal(jax.random.key(1), (1, 5, 4))
DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def conv(p: Any, x: Any) -> Any:
    y = lax.conv_general_dilated(x, p["w"], (2, 1), "SAME", dimension_numbers=DIMENSIONS)
    return jnp.tanh(y) + p["b"][None, None, None]


def banded(p: Any, x: Any) -> Any:
    return banded_conv(x, p["w"], (1, 1), "VALID", dimension_numbers=DIMENSIONS)


def grouped(p: Any, x: Any) -> Any:
    return lax.conv_general_dilated(
        x, p["w"], (1, 1), "SAME", dimension_numbers=DIMENSIONS, feature_group_count=2
    )


def sequence(p: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["w"]) @ p["v"]


def merged(p: Any, x: Any) -> Any:
    return jnp.tanh(x.reshape(-1, 4) @ p["w"]).reshape(1, -1)


def transposed(p: Any, x: Any) -> Any:
    return jnp.einsum("ntd,hkd->nthk", x, p["w"])


def transposed_by_itself(p: Any, x: Any) -> Any:
    return jax.nn.relu(x @ p["w"].T)


def jitted(p: Any, x: Any) -> Any:
    return jax.jit(sequence)(p, x)


def twice(p: Any, x: Any) -> Any:
    return jnp.tanh(x @ p["w"]) @ p["w"]


def decayed(p: Any, x: Any) -> Any:
    return x @ p["w"] + jnp.sum(p["w"] ** 2)


def scanned(p: Any, x: Any) -> Any:
    return lax.scan(lambda h, _: (jnp.tanh(h @ p["w"]), None), x, None, length=2)[0]


def product_of_weights(p: Any, x: Any) -> Any:
    return x @ (p["w"] @ p["v"])


Shapes = dict[str, tuple[int, ...]]

# (network, shapes of its params, input, positions of each weight that can be tapped)
CASES: dict[str, tuple[Callable[..., Any], Shapes, Any, dict[str, int]]] = {
    "conv": (conv, {"w": (3, 3, 2, 4), "b": (4,)}, IMAGE, {"w": 32}),
    "banded_conv": (banded, {"w": (3, 3, 2, 4)}, IMAGE, {"w": 36}),
    "grouped conv": (grouped, {"w": (3, 3, 1, 4)}, IMAGE, {}),
    "sequence": (sequence, {"w": (4, 3), "v": (3, 2)}, SEQUENCE, {"w": 5, "v": 5}),
    "merged": (merged, {"w": (4, 3)}, SEQUENCE, {"w": 5}),
    "einsum": (transposed, {"w": (2, 3, 4)}, SEQUENCE, {"w": 5}),
    "transposed": (transposed_by_itself, {"w": (3, 4)}, SEQUENCE, {"w": 5}),
    "jit": (jitted, {"w": (4, 3), "v": (3, 2)}, SEQUENCE, {"w": 5, "v": 5}),
    "used twice": (twice, {"w": (4, 4)}, SEQUENCE, {}),
    "used otherwise too": (decayed, {"w": (4, 3)}, SEQUENCE, {}),
    "in a loop": (scanned, {"w": (4, 4)}, SEQUENCE, {}),
    "product of weights": (product_of_weights, {"w": (4, 3), "v": (3, 2)}, SEQUENCE, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_follows_from_the_features_and_the_shift(name: str) -> None:
    network, shapes, x, positions = CASES[name]
    keys = jax.random.split(jax.random.key(2), len(shapes))
    params = {n: jax.random.normal(k, s) for k, (n, s) in zip(keys, shapes.items(), strict=True)}
    found = taps.find(network, params, shapes, x)
    assert {path: tap.positions for path, tap in found.items()} == positions
    shifts = {path: jnp.zeros((tap.positions, tap.outputs)) for path, tap in found.items()}

    def squares(outputs: Any) -> Any:
        return jnp.sum(jnp.sin(outputs))

    def shifted(shifts: Any) -> Any:
        outputs, features = taps.call(network, params, found, shifts, x)
        return squares(outputs), features

    gradients, features = jax.grad(shifted, has_aux=True)(shifts)
    exact = jax.grad(lambda p: squares(network(p, x)))(params)
    for path, tap in found.items():
        leaf = tap.leaf(features[path].T @ gradients[path], shapes[path])
        np.testing.assert_allclose(leaf, exact[path], rtol=1e-4, atol=1e-5)


def test_a_map_with_many_more_inputs_than_outputs_is_not_tapped() -> None:
    """Its features would take as many evaluations; a product has them for nothing."""
    shapes = {"w": (3, 3, 2, 1)}
    params = {"w": jnp.zeros(shapes["w"])}
    wide = {"w": (9 * taps.MAX_EVALUATIONS, 1)}

    def product(p: Any, x: Any) -> Any:
        return x @ p["w"]

    def one_output(p: Any, x: Any) -> Any:
        return lax.conv_general_dilated(x, p["w"], (1, 1), "SAME", dimension_numbers=DIMENSIONS)

    assert taps.find(one_output, params, shapes, IMAGE)
    large = {"w": jnp.zeros((5, 7, 2, 1))}
    assert not taps.find(one_output, large, large, IMAGE)
    x = jnp.zeros((1, wide["w"][0]))
    assert taps.find(product, {"w": jnp.zeros(wide["w"])}, wide, x)
