"""The activations that MindSpore knows by name (its `nn.get_activation`), channels last."""

import difflib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Activation = Callable[..., Any]


def _fast_gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return x * jax.nn.sigmoid(1.702 * x)


def _softshrink(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.where(x > 0.5, x - 0.5, jnp.where(x < -0.5, x + 0.5, jnp.zeros_like(x)))


def _hshrink(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.where(jnp.abs(x) > 0.5, x, jnp.zeros_like(x))


# The constants are MindSpore's defaults, which differ from JAX's for gelu (its tanh form) and
# leakyrelu (slope 0.2).
ACTIVATIONS: dict[str, Activation] = {
    "elu": jax.nn.elu,
    "fast_gelu": _fast_gelu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=True),
    "hardtanh": jax.nn.hard_tanh,
    "hshrink": _hshrink,
    "hsigmoid": jax.nn.hard_sigmoid,
    "hswish": jax.nn.hard_swish,
    "leakyrelu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "logsigmoid": jax.nn.log_sigmoid,
    "logsoftmax": jax.nn.log_softmax,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "relu6": jax.nn.relu6,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softmax": jax.nn.softmax,
    "softmax2d": jax.nn.softmax,
    "softmin": lambda x: jax.nn.softmax(-x),
    "softshrink": _softshrink,
    "softsign": jax.nn.soft_sign,
    "tanh": jnp.tanh,
    "tanhshrink": lambda x: x - jnp.tanh(x),
}

# Those that are no pure function of one argument, and what to pass instead.
NOT_BY_NAME = {
    "rrelu": "its slope is random: pass a function that draws it, or 'leakyrelu'",
    "threshold": "it needs its two numbers: pass lambda x: jnp.where(x > threshold, x, value)",
}


class UnknownActivation(KeyError, ValueError):
    """No activation of that name: a KeyError as in MindSpore, and a ValueError as elsewhere."""

    def __str__(self) -> str:
        return str(self.args[0])


def get_activation(layer: str, activation: Any) -> Activation | None:
    """The function for MindSpore's `activation` argument.

    Args:
        layer: the layer's name, for the error.
        activation: None or "" for none, one of MindSpore's names, any function of one array, or an
            NNX module. "prelu" makes a new `nnx.PReLU`, whose slope is trained.

    Raises:
        UnknownActivation: a name that is not known.
        ValueError: neither name nor function, or a class that was not instantiated.
    """
    if activation is None or activation == "":
        return None
    if activation == "prelu":
        return nnx.PReLU(negative_slope_init=0.25)
    if isinstance(activation, str):
        return _by_name(layer, activation)
    if isinstance(activation, type) or not callable(activation):
        hint = "instantiate it" if isinstance(activation, type) else "see docs/mindspore.md"
        raise ValueError(
            f"{layer} needs a name, a function or a module as activation, got {activation!r}: "
            f"{hint}."
        )
    return activation


def _by_name(layer: str, name: str) -> Activation:
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name in NOT_BY_NAME:
        raise UnknownActivation(f"{layer} has no activation {name!r}, {NOT_BY_NAME[name]}.")
    known = sorted([*ACTIVATIONS, "prelu"])
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownActivation(
        f"{layer} knows no activation {name!r}.{hint} Known: {', '.join(known)}."
    )
