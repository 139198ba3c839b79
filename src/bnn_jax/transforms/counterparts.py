"""The Bayesian layer that takes an ordinary Flax layer's place: its type and its arguments.

`dense_args` and `conv_args` are the defaults of `TransformToBNN`'s get_dense_args and
get_conv_args. A layer that its counterpart cannot express is an error here, before anything is
replaced.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from jax import lax
from jaxtyping import Array

from bnn_jax import gaussian
from bnn_jax.bnn_layers import BayesianLayer, ConvReparam, DenseReparam, NormalPosterior

# The arguments of a Bayesian layer, from the ordinary layer that it replaces.
GetArgs = Callable[[Any], Mapping[str, Any]]


def dense_args(layer: nnx.Linear) -> dict[str, Any]:
    """The arguments of `DenseReparam` that make it an nnx.Linear's counterpart.

    Raises:
        ValueError: a layer with a dot_general or the like of its own.
    """
    _require(layer, "DenseReparam", dot_general=lax.dot_general)
    return {
        "in_channels": layer.in_features,
        "out_channels": layer.out_features,
        "has_bias": layer.use_bias,
    }


def conv_args(layer: nnx.Conv) -> dict[str, Any]:
    """The arguments of `ConvReparam` that make it an nnx.Conv's counterpart.

    Raises:
        ValueError: a layer that `ConvReparam` cannot express: not 2-d, circular, reflecting or
            causal padding, input_dilation, a mask, a conv_general_dilated of its own.
    """
    if len(layer.kernel_size) != 2:
        raise ValueError(
            f"ConvReparam is a 2-d convolution, this nnx.Conv has kernel_size={layer.kernel_size}."
        )
    _require(layer, "ConvReparam", mask=None, conv_general_dilated=lax.conv_general_dilated)
    if _pair(layer.input_dilation) != (1, 1):
        raise ValueError(
            f"ConvReparam has no input_dilation, this nnx.Conv has {layer.input_dilation!r}."
        )
    return {
        "in_channels": layer.in_features,
        "out_channels": layer.out_features,
        "kernel_size": tuple(layer.kernel_size),
        "stride": _pair(layer.strides),
        **_padding_args(layer.padding),
        "dilation": _pair(layer.kernel_dilation),
        "group": layer.feature_group_count,
        "has_bias": layer.use_bias,
    }


# Which Bayesian layer, and which are its default arguments; DenseLocalReparam is a DenseReparam.
COUNTERPARTS: dict[type[nnx.Module], tuple[type[BayesianLayer], GetArgs, str]] = {
    nnx.Linear: (DenseReparam, dense_args, "DenseReparam or DenseLocalReparam"),
    nnx.Conv: (ConvReparam, conv_args, "ConvReparam"),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Layers of type `dnn` become `bnn`, with the arguments get_args(layer) and add_args."""

    dnn: type[nnx.Module]
    bnn: type[BayesianLayer]
    get_args: GetArgs
    add_args: Mapping[str, Any]

    def applies(self, module: nnx.Module) -> bool:
        """A subclass that has a `__call__` of its own computes something else, and is left."""
        return isinstance(module, self.dnn) and type(module).__call__ is self.dnn.__call__


def base_of(dnn_layer_type: Any, bnn_layer_type: Any) -> type[nnx.Module]:
    """nnx.Linear or nnx.Conv, after checking that the two types go together."""
    for name, value in (("dnn_layer_type", dnn_layer_type), ("bnn_layer_type", bnn_layer_type)):
        if not isinstance(value, type):
            raise TypeError(f"TransformToBNN needs a type of layer as {name}, got {value!r}.")
    base = next((base for base in COUNTERPARTS if issubclass(dnn_layer_type, base)), None)
    if base is None:
        raise ValueError(
            "TransformToBNN needs nnx.Linear or nnx.Conv as dnn_layer_type, got "
            f"{dnn_layer_type.__name__}; other layers become Bayesian with bnn_jax.to_bnn."
        )
    target, _, names = COUNTERPARTS[base]
    if not issubclass(bnn_layer_type, target):
        raise ValueError(
            f"TransformToBNN needs {names} as bnn_layer_type for nnx.{base.__name__}, got "
            f"{bnn_layer_type.__name__}."
        )
    return base


def make_rule(
    dnn: type[nnx.Module], bnn: type[BayesianLayer], name: str, get_args: Any, add_args: Any
) -> Rule:
    if not callable(get_args):
        raise TypeError(
            f"TransformToBNN needs a function of a layer that returns a dict as {name}, got "
            f"{get_args!r}."
        )
    added = name.replace("get", "add")
    if add_args is not None and not isinstance(add_args, Mapping):
        raise TypeError(
            f"TransformToBNN needs a dict of {bnn.__name__}'s arguments as {added}, got "
            f"{add_args!r}."
        )
    return Rule(dnn, bnn, get_args, add_args or {})


def new_layer(layer: Any, rule: Rule, std: float | None, rngs: nnx.Rngs) -> BayesianLayer:
    given = rule.get_args(layer)
    if not isinstance(given, Mapping):
        raise TypeError(f"get_args must return a dict of arguments, it returned {given!r}.")
    twice = [name for name in rule.add_args if name in given]
    if twice:
        raise ValueError(
            f"The arguments {', '.join(twice)} come from get_args and from add_args: leave them "
            "out of one."
        )
    weight = layer.kernel[...]
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise ValueError(f"Only floating-point weights can be random, got {weight.dtype}.")
    arguments: dict[str, Any] = {
        "dtype": layer.dtype,
        "param_dtype": weight.dtype,
        "precision": layer.precision,
        "rngs": rngs,
        **given,
        **rule.add_args,
    }
    if std is not None:
        _require_none("keep_weights=True", arguments, "weight_posterior_fn", "bias_posterior_fn")
        dtype = arguments["param_dtype"]
        arguments["weight_posterior_fn"] = _around(weight.astype(dtype), std)
        if layer.bias is not None:
            arguments["bias_posterior_fn"] = _around(layer.bias[...].astype(dtype), std)
    _require_known(rule.bnn, arguments)
    return rule.bnn(**arguments)


def _around(weights: Array, std: float) -> Callable[..., NormalPosterior]:
    return lambda name, shape: NormalPosterior.around(name, gaussian.centred(weights, std))


def _require_none(reason: str, arguments: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name in arguments:
            raise ValueError(f"{reason} sets {name} itself: leave it out.")


def _require_known(bnn: type[BayesianLayer], arguments: Mapping[str, Any]) -> None:
    known = [
        name
        for owner in bnn.__mro__
        if issubclass(owner, BayesianLayer) and "__init__" in vars(owner)
        for name, parameter in inspect.signature(owner.__init__).parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    ]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            shown = ", ".join(dict.fromkeys(known))
            raise TypeError(f"{bnn.__name__} has no argument {name!r}.{hint} It has: {shown}.")


def _require(layer: Any, bnn: str, **usual: Any) -> None:
    """The ordinary layer computes its product as the Bayesian one does."""
    usual |= {"promote_dtype": dtypes.promote_dtype, "preferred_element_type": None}
    for name, value in usual.items():
        if getattr(layer, name, value) is not value:
            raise ValueError(
                f"{bnn} has no {name}, this {type(layer).__name__} has one: leave the layer out "
                "with transform_to_bnn_layer, or use bnn_jax.to_bnn."
            )


def _pair(value: Any) -> tuple[int, int]:
    if value is None:
        return 1, 1
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _padding_args(padding: Any) -> dict[str, Any]:
    """An nnx.Conv's padding as pad_mode and padding."""
    if isinstance(padding, str):
        if padding.upper() in ("SAME", "VALID"):
            return {"pad_mode": padding.lower()}
        raise ValueError(
            f"ConvReparam pads with 'SAME', 'VALID' or by numbers, this nnx.Conv with {padding!r}."
        )
    sides = (padding, padding) if isinstance(padding, int) else padding
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    return {"pad_mode": "pad", "padding": (*pairs[0], *pairs[1])}
