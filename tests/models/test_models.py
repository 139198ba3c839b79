"""The example networks: shapes, sizes, and a max pool that is Flax's."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import likelihoods, predict, to_bnn
from bnn_jax.models import MLP, LeNet5, banded_conv, stored_conv
from bnn_jax.models.networks import max_pool_2x2
from core_helpers import data, key


def shapes(module: nn.Module, x: jax.Array) -> dict[str, tuple[int, ...]]:
    params = jax.eval_shape(module.init, key(0), x)["params"]
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(p, simple=True, separator="/"): leaf.shape for p, leaf in leaves}


def test_lenet5_has_the_weights_of_mindspores() -> None:
    got = shapes(LeNet5(), jnp.zeros((2, 32, 32, 1)))
    assert got == {
        "conv1/kernel": (5, 5, 1, 6),
        "conv2/kernel": (5, 5, 6, 16),
        "fc1/kernel": (400, 120),
        "fc1/bias": (120,),
        "fc2/kernel": (120, 84),
        "fc2/bias": (84,),
        "fc3/kernel": (84, 10),
        "fc3/bias": (10,),
    }
    # 150 + 2,400 + 48,120 + 10,164 + 850
    assert sum(int(np.prod(shape)) for shape in got.values()) == 61_684


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_lenet5_maps_images_to_logits(dtype: jnp.dtype) -> None:
    net, x = LeNet5(num_classes=7, dtype=dtype), data(0, 2, 32, 32, 3)
    logits, variables = jax.jit(net.init_with_output)(key(0), x)
    assert (logits.shape, logits.dtype) == ((2, 7), dtype)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    # Examples do not influence each other.
    one = jax.jit(net.apply)(variables, x[:1])
    np.testing.assert_allclose(
        one.astype(jnp.float32), logits[:1].astype(jnp.float32), rtol=2e-2, atol=2e-2
    )


def test_mlp_has_the_layers_it_is_asked_for() -> None:
    got = shapes(MLP(hidden=(8, 6), num_outputs=3), jnp.zeros((2, 4, 4, 1)))
    assert got == {
        "fc1/kernel": (16, 8),
        "fc1/bias": (8,),
        "fc2/kernel": (8, 6),
        "fc2/bias": (6,),
        "fc3/kernel": (6, 3),
        "fc3/bias": (3,),
    }


@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 7), (5, 7), (2, 3)])
def test_max_pool_is_flaxs(size: tuple[int, int]) -> None:
    x = data(0, 2, *size, 3)
    weights = data(1, 2, size[0] // 2, size[1] // 2, 3)

    def flaxs(y: jax.Array) -> jax.Array:
        return nn.max_pool(y, (2, 2), (2, 2))

    np.testing.assert_array_equal(max_pool_2x2(x), flaxs(x))
    # No two numbers are equal here; between equal ones the two share the gradient differently.
    got = jax.grad(lambda y: jnp.sum(weights * max_pool_2x2(y)))(x)
    np.testing.assert_array_equal(got, jax.grad(lambda y: jnp.sum(weights * flaxs(y)))(x))


CONVOLUTIONS = {
    "valid": {"padding": "VALID"},
    "no padding": {"padding": ((0, 0), (0, 0))},
    "wide kernel": {"kernel_size": (2, 4), "padding": "VALID"},
    "same": {"padding": "SAME"},
    "strided": {"padding": "VALID", "strides": (2, 1)},
    "dilated": {"padding": "VALID", "kernel_dilation": 2},
    "transposed": {"padding": ((0, 0), (0, 0)), "input_dilation": 2},
    "grouped": {"padding": "VALID", "feature_group_count": 2},
    "bfloat16": {"padding": "VALID", "dtype": jnp.bfloat16},
}


@pytest.mark.parametrize(
    ("name", "width"),
    # Without padding, rows of outputs in one block and in several, of more than one output and of
    # one, and a kernel that is wider than the image.
    [*((name, 9) for name in CONVOLUTIONS), *(("valid", width) for width in (8, 13, 4, 3, 2))],
)
def test_banded_conv_is_laxs(name: str, width: int) -> None:
    options = {"features": 6, "kernel_size": (3, 3), **CONVOLUTIONS[name]}
    x, tolerance = data(0, 2, 7, width, 4), 2e-2 if "dtype" in options else 1e-5
    ours, lax = nn.Conv(**options, conv_general_dilated=banded_conv), nn.Conv(**options)
    params = jax.jit(lax.init)(key(1), x)

    def loss(net: nn.Conv, params: dict, x: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(net.apply(params, x).astype(jnp.float32)))

    got, expected = (
        jax.jit(jax.value_and_grad(partial(loss, net), (0, 1)))(params, x) for net in (ours, lax)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=10 * tolerance)


def test_banded_conv_is_a_matrix_product() -> None:
    """What makes it fast: no convolution is left."""
    net = LeNet5(conv_general_dilated=banded_conv)
    x = jnp.zeros((2, 32, 32, 1))
    variables = jax.eval_shape(net.init, key(0), x)
    assert "conv_general_dilated" not in str(jax.make_jaxpr(net.apply)(variables, x))


@pytest.mark.parametrize("conv", [{}, {"conv_general_dilated": banded_conv}], ids=["lax", "banded"])
def test_no_layer_of_lenet5_falls_back_to_one_draw_for_the_batch(conv: dict[str, Any]) -> None:
    net, x = LeNet5(**conv), jnp.zeros((2, 32, 32, 1))
    model = to_bnn(net, jax.jit(net.init)(key(0), x), estimator="flipout")
    assert {w.applied for w in model.report(x).weights} == {("flipout",)}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("estimator", ["flipout", "local_reparam", "reparam"])
def test_estimators_see_a_convolution_in_banded_conv(estimator: str, channels: int) -> None:
    x = data(0, 3, 6, 5, channels)
    options = {"features": 2, "kernel_size": (3, 2), "padding": "VALID"}
    plain = nn.Conv(**options)
    variables = jax.jit(plain.init)(key(1), x)

    def value(net: nn.Conv) -> tuple[Any, list[Any]]:
        model = to_bnn(net, variables, estimator=estimator, initial_std=0.3)

        def loss(posterior: Any) -> jax.Array:
            return jnp.sum(jnp.sin(model.apply(key(2), posterior, x)))

        rules = [w.applied for w in model.report(inputs=(x,)).weights]
        return jax.jit(jax.value_and_grad(loss))(model.posterior), rules

    banded, rules = value(nn.Conv(**options, conv_general_dilated=banded_conv))
    laxs, expected_rules = value(plain)
    assert rules == expected_rules
    for a, b in zip(jax.tree.leaves(banded), jax.tree.leaves(laxs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_under_vmap_banded_conv_is_no_convolution_of_examples() -> None:
    """There the examples are on another axis, so the kernel is drawn once."""
    x = data(0, 3, 6, 5, 1)
    net = nn.Conv(2, (3, 2), padding="VALID", use_bias=False, conv_general_dilated=banded_conv)
    params = net.init(key(1), x)["params"]

    def one_by_one(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(lambda image: net.apply({"params": params}, image[None])[0])(x)

    model = to_bnn(one_by_one, params, estimator="flipout", initial_std=0.3)
    (weight,) = model.report(x).weights
    assert weight.applied == ("reparam",)
    got = model.apply(key(2), model.posterior, x)
    weights = model.sample(key(2), model.posterior)
    np.testing.assert_allclose(got, net.apply({"params": weights}, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("estimator", ["flipout", "local_reparam", "reparam"])
def test_stored_conv_is_laxs_under_every_estimator(estimator: str) -> None:
    x = data(0, 3, 6, 5, 2)
    values, rules = [], []
    for options in ({}, {"conv_general_dilated": stored_conv}):
        net = nn.Conv(2, (3, 2), strides=2, use_bias=False, **options)
        model = to_bnn(net, net.init(key(1), x), estimator=estimator, initial_std=0.3)
        rules.append(str(model.report(inputs=(x,))))
        loss = partial(_squares, model, x)
        values.append(jax.jit(jax.value_and_grad(loss))(model.posterior))
    assert rules[0] == rules[1]
    for a, b in zip(*map(jax.tree.leaves, values), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def _squares(model: Any, x: jax.Array, posterior: Any) -> jax.Array:
    return jnp.sum(model.apply(key(2), posterior, x) ** 2)


@pytest.mark.parametrize("options", [{"antithetic": True, "num_samples": 4}, {"method": "moments"}])
def test_stored_conv_predicts_as_laxs(options: dict[str, Any]) -> None:
    x = data(0, 3, 6, 5, 2)
    means = []
    for conv in ({}, {"conv_general_dilated": stored_conv}):
        net = nn.Sequential([nn.Conv(2, (3, 2), **conv), nn.relu, lambda y: y.mean((1, 2))])
        model = to_bnn(net, net.init(key(1), x), initial_std=0.3)
        predicted = predict(key(2), model, x, likelihood=likelihoods.Categorical(), **options)
        means.append(predicted.probabilities)
    np.testing.assert_allclose(*means, rtol=1e-5)
