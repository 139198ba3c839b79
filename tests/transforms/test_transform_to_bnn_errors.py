"""TransformToBNN: errors, which leave the network unchanged."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import optax
import pytest
from flax import linen, nnx
from transform_to_bnn_helpers import (
    Holder,
    Named,
    Twice,
    assert_nothing_replaced,
    conv,
    linear,
    square,
    trainable,
    transformer,
)

from bnn_jax import LaplacePrior
from bnn_jax.bnn_layers import (
    ConvReparam,
    DenseLocalReparam,
    DenseReparam,
    normal_post_fn,
)
from bnn_jax.transforms import TrainOneStepCell, TransformToBNN, WithLossCell


def stacked() -> nnx.Linear:
    @nnx.vmap
    def make(key: Any) -> nnx.Linear:
        return nnx.Linear(3, 3, rngs=nnx.Rngs(key))

    return make(jax.random.split(jax.random.key(0), 2))


def integer() -> nnx.Linear:
    layer = linear()
    layer.kernel.set_value(jnp.ones((3, 3), jnp.int8))
    return layer


def tied() -> nnx.Linear:
    layer, other = linear(), linear()
    layer.kernel = other.kernel
    return nnx.List([layer, other])


def custom_dot(*args: Any, **options: Any) -> Any:
    return jax.lax.dot_general(*args, **options)


# Each sits behind layers that could be replaced, and were not.
BAD_LAYERS: dict[str, tuple[Callable[[], Any], str]] = {
    "1-d": (lambda: conv(kernel_size=3), "2-d"),
    "3-d": (lambda: conv(kernel_size=(3, 3, 3)), "2-d"),
    "circular": (lambda: conv(padding="CIRCULAR"), "CIRCULAR"),
    "reflect": (lambda: conv(padding="REFLECT"), "REFLECT"),
    "causal": (lambda: conv(padding="CAUSAL"), "CAUSAL"),
    "same_lower": (lambda: conv(padding="SAME_LOWER"), "SAME_LOWER"),
    "negative": (lambda: conv(padding=(-1, 0)), "padding must be at least 0"),
    "input dilation": (lambda: conv(input_dilation=(1, 2)), "input_dilation"),
    "mask": (lambda: conv(mask=jnp.ones((3, 3, 2, 4))), "mask"),
    "dot_general": (lambda: linear(dot_general=custom_dot), "dot_general"),
    "element type": (lambda: linear(preferred_element_type=jnp.float32), "preferred_element"),
    "promotion": (lambda: conv(promote_dtype=lambda x, dtype: x), "promote_dtype"),
    "stacked": (stacked, "stacked"),
    "integers": (integer, "floating-point"),
    "tied": (tied, r"zz.[01].kernel"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_that_cannot_be_converted(name: str) -> None:
    make, message = BAD_LAYERS[name]
    net = Holder(a=linear(), b=conv(), zz=make())
    transform = transformer(net)
    assert_nothing_replaced(
        net, transform.transform_to_bnn_model, ValueError, rf"(?s)^zz.*{message}"
    )


GIVEN = {"in_channels": 3, "out_channels": 3}
WRONG: dict[str, tuple[Callable[[TransformToBNN], Any], type[Exception], str]] = {
    "not callable": (
        lambda t: t.transform_to_bnn_model(get_conv_args={}),
        TypeError,
        "get_conv_args",
    ),
    "no dict": (
        lambda t: t.transform_to_bnn_model(add_dense_args=[1]),
        TypeError,
        "add_dense_args",
    ),
    "no dict returned": (
        lambda t: t.transform_to_bnn_model(lambda layer: [3, 3]),
        TypeError,
        "^a: .*must return",
    ),
    "given twice": (
        lambda t: t.transform_to_bnn_model(add_dense_args={"has_bias": True}),
        ValueError,
        "^a: .*has_bias are given by get_args and by add_args",
    ),
    "unknown": (
        lambda t: t.transform_to_bnn_model(add_conv_args={"weight_prior": LaplacePrior()}),
        TypeError,
        "^b: ConvReparam has no argument 'weight_prior'.*mean 'weight_prior_fn'",
    ),
    "unknown, local": (
        lambda t: t.transform_to_bnn_layer(
            nnx.Linear, DenseLocalReparam, add_args={"approximat": True}
        ),
        TypeError,
        "Did you mean 'approximate'",
    ),
    "missing": (
        lambda t: t.transform_to_bnn_model(lambda layer: {"in_channels": 3}),
        TypeError,
        "^a: .*out_channels",
    ),
    "wrong value": (
        lambda t: t.transform_to_bnn_model(lambda layer: GIVEN | {"out_channels": -1}),
        ValueError,
        "^a: .*out_channels must be at least 1",
    ),
    "activation": (
        lambda t: t.transform_to_bnn_model(add_dense_args={"activation": "rel"}),
        ValueError,
        "^a: .*'relu'",
    ),
    "other shape": (
        lambda t: t.transform_to_bnn_model(
            lambda layer: GIVEN | {"out_channels": 4}, keep_weights=True
        ),
        ValueError,
        "^a: .*shape",
    ),
    "posterior twice": (
        lambda t: t.transform_to_bnn_model(
            add_dense_args={"bias_posterior_fn": normal_post_fn}, keep_weights=True
        ),
        ValueError,
        "^a: keep_weights=True sets bias_posterior_fn",
    ),
    "std": (lambda t: t.transform_to_bnn_model(initial_std=0.0), ValueError, "initial_std"),
    "no type": (lambda t: t.transform_to_bnn_layer("Linear", DenseReparam), TypeError, "dnn_layer"),
    "an instance": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, t.backbone),
        TypeError,
        "bnn_layer_type",
    ),
    "linen": (
        lambda t: t.transform_to_bnn_layer(linen.Dense, DenseReparam),
        ValueError,
        "got Dense",
    ),
    "other layer": (
        lambda t: t.transform_to_bnn_layer(nnx.Embed, DenseReparam),
        ValueError,
        "to_bnn",
    ),
    "mismatch": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, ConvReparam),
        ValueError,
        "bnn_layer_type must be DenseReparam or DenseLocalReparam for nnx.Linear",
    ),
    "mismatch, conv": (
        lambda t: t.transform_to_bnn_layer(nnx.Conv, DenseReparam),
        ValueError,
        "must be ConvReparam for",
    ),
    "ordinary": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, nnx.Linear),
        ValueError,
        "got Linear",
    ),
    "own call": (
        lambda t: t.transform_to_bnn_layer(Twice, DenseReparam),
        ValueError,
        "pass get_args",
    ),
    "absent": (
        lambda t: t.transform_to_bnn_layer(Named, DenseReparam),
        ValueError,
        "type Named to replace; its types are: Conv, Holder, Linear",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, error, message = WRONG[name]
    net = Holder(a=linear(), b=conv())
    transform = transformer(net)
    assert_nothing_replaced(net, lambda: call(transform), error, message)


def test_nothing_to_replace() -> None:
    net = nnx.Sequential(DenseReparam(3, 3, rngs=nnx.Rngs(0)), nnx.LayerNorm(3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="Linear or Conv to replace.*DenseReparam, LayerNorm, Lis"):
        transformer(net).transform_to_bnn_model()


def test_an_optimizer_that_does_not_fit_the_new_parameters() -> None:
    net = Holder(a=linear(), b=linear())
    mask = jax.tree.map(lambda x: True, nnx.state(net, nnx.Param))
    transform = transformer(net, optax.masked(optax.adam(0.1), mask))
    assert_nothing_replaced(net, transform.transform_to_bnn_model, ValueError, ".")
    wrt = nnx.All(nnx.Param, nnx.PathContains("kernel"))
    transform = transformer(net, nnx.Optimizer(net, optax.adam(0.1), wrt=wrt))
    assert_nothing_replaced(
        net, transform.transform_to_bnn_model, ValueError, "^a: The optimizer's filter.*kernel"
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Box:
    content: Any


def test_a_container_that_cannot_be_changed() -> None:
    net = Holder(a=linear(), b=nnx.data(Box(linear())))
    assert_nothing_replaced(
        net, transformer(net).transform_to_bnn_model, ValueError, "b.content is in a container"
    )


def test_wrong_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    net, sgd = linear(), optax.sgd(0.1)
    cell = WithLossCell(net, square)
    momentum = optax.sgd(0.1, momentum=0.9)
    for call, error, message in (
        (lambda: WithLossCell(square, square), TypeError, "backbone must be an nnx.Module"),
        (lambda: WithLossCell(net, 3), TypeError, "loss_fn"),
        (lambda: TrainOneStepCell(net, sgd), TypeError, "WithLossCell.*got Linear"),
        (lambda: TrainOneStepCell(cell, 0.1), TypeError, "optimizer"),
        (lambda: TransformToBNN(cell), TypeError, "trainable_dnn must be a TrainOneStepCell"),
        (lambda: TransformToBNN(trainable(net), "1"), TypeError, "dnn_factor"),
        (lambda: TransformToBNN(trainable(net), 1, True), TypeError, "bnn_factor"),
        (
            lambda: TransformToBNN(trainable(net), 1, -1),
            ValueError,
            "bnn_factor must be at least 0",
        ),
        (lambda: TransformToBNN(trainable(net), rngs=0), TypeError, "rngs must be an nnx.Rngs"),
        (
            lambda: TrainOneStepCell(cell, nnx.Optimizer(cell, momentum, wrt=nnx.Param)),
            ValueError,
            "created for another module",
        ),
        (
            lambda: TrainOneStepCell(cell, nnx.Optimizer(net, momentum, wrt=nnx.BatchStat)),
            ValueError,
            "trains nothing",
        ),
        (
            lambda: TrainOneStepCell(cell, nnx.ModelAndOptimizer(net, sgd)),
            TypeError,
            "ModelAndOptimizer",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
