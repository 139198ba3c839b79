"""The activations that MindSpore's `nn.get_activation` accepts by name, channels last."""

import difflib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

Activation = Callable[[Array], Array]


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

# Activations that are not pure functions of one argument, and what to pass instead.
NOT_BY_NAME = {
    "rrelu": "its slope is random: pass a function that draws it, or 'leakyrelu'",
    "threshold": "it requires two numbers: pass lambda x: jnp.where(x > threshold, x, value)",
}


class UnknownActivation(KeyError, ValueError):
    """An unknown name of an activation. A KeyError, as in MindSpore, and also a ValueError."""

    def __str__(self) -> str:
        return str(self.args[0])


def get_activation(layer: str, activation: object) -> Activation | None:
    """Returns the function for MindSpore's `activation` argument.

    Args:
        layer: the name of the layer, for the error.
        activation: None or "" for no activation, one of MindSpore's names, any function of one
            array, or an NNX module. "prelu" creates a new `nnx.PReLU` with a trained slope.

    Raises:
        UnknownActivation: the name is unknown.
        ValueError: the value is not a name or a function, or it is a class.
    """
    if activation is None or activation == "":
        return None
    if activation == "prelu":
        return nnx.PReLU(negative_slope_init=0.25)
    if isinstance(activation, str):
        return _by_name(layer, activation)
    if isinstance(activation, type) or not callable(activation):
        hint = "pass an instance" if isinstance(activation, type) else "see docs/mindspore.md"
        raise ValueError(
            f"{layer}: activation must be a name, a function or a module, got {activation!r}; "
            f"{hint}."
        )
    return activation


def _by_name(layer: str, name: str) -> Activation:
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    if name in NOT_BY_NAME:
        raise UnknownActivation(
            f"{layer}: activation {name!r} is not available by name: {NOT_BY_NAME[name]}."
        )
    known = sorted([*ACTIVATIONS, "prelu"])
    near = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise UnknownActivation(
        f"{layer}: unknown activation {name!r}.{hint} Known: {', '.join(known)}."
    )
