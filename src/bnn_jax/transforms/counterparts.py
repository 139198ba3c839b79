"""The Bayesian counterpart of an ordinary Flax layer: its type and its arguments.

`dense_args` and `conv_args` are the defaults of get_dense_args and get_conv_args of
`TransformToBNN`. A layer without an equivalent counterpart raises an error before any layer is
replaced.
"""

import dataclasses
import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TypeGuard

import jax.numpy as jnp
from flax import nnx
from flax.nnx.nn import dtypes
from flax.typing import PaddingLike
from jax import lax
from jaxtyping import Array, PyTree

from bnn_jax import gaussian
from bnn_jax.bnn_layers import BayesianLayer, ConvReparam, DenseReparam, NormalPosterior

# The arguments of a Bayesian layer, from the ordinary layer that it replaces.
GetArgs = Callable[..., Mapping[str, object]]


def dense_args(layer: nnx.Linear) -> dict[str, object]:
    """Returns the arguments of the `DenseReparam` that corresponds to an nnx.Linear.

    Raises:
        ValueError: the layer has its own dot_general, promote_dtype or preferred_element_type.
    """
    _require(layer, "DenseReparam", dot_general=lax.dot_general)
    return {
        "in_channels": layer.in_features,
        "out_channels": layer.out_features,
        "has_bias": layer.use_bias,
    }


def conv_args(layer: nnx.Conv) -> dict[str, object]:
    """Returns the arguments of the `ConvReparam` that corresponds to an nnx.Conv.

    Raises:
        ValueError: `ConvReparam` does not support the layer: it is not 2-d, or has circular,
            reflecting or causal padding, input_dilation, a mask or its own conv_general_dilated.
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


# The Bayesian layer, its default arguments, and the allowed types (DenseLocalReparam is a subclass
# of DenseReparam).
COUNTERPARTS: dict[type[nnx.Module], tuple[type[BayesianLayer], GetArgs, str]] = {
    nnx.Linear: (DenseReparam, dense_args, "DenseReparam or DenseLocalReparam"),
    nnx.Conv: (ConvReparam, conv_args, "ConvReparam"),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Replaces layers of type `dnn` by `bnn`, with the arguments get_args(layer) and add_args."""

    dnn: type[nnx.Module]
    bnn: type[BayesianLayer]
    get_args: GetArgs
    add_args: Mapping[str, object]

    def applies(self, module: nnx.Module) -> TypeGuard[nnx.Linear | nnx.Conv]:
        """Returns whether the module has type `dnn` and does not override its `__call__`."""
        return isinstance(module, self.dnn) and type(module).__call__ is self.dnn.__call__


def base_of(dnn_layer_type: type, bnn_layer_type: type) -> type[nnx.Module]:
    """Returns nnx.Linear or nnx.Conv, after a check that the two types correspond."""
    for name, value in (("dnn_layer_type", dnn_layer_type), ("bnn_layer_type", bnn_layer_type)):
        if not isinstance(value, type):
            raise TypeError(f"TransformToBNN: {name} must be a type of layer, got {value!r}.")
    base = next((base for base in COUNTERPARTS if issubclass(dnn_layer_type, base)), None)
    if base is None:
        raise ValueError(
            "TransformToBNN: dnn_layer_type must be nnx.Linear or nnx.Conv, got "
            f"{dnn_layer_type.__name__}. For other layers, use bnn_jax.to_bnn."
        )
    target, _, names = COUNTERPARTS[base]
    if not issubclass(bnn_layer_type, target):
        raise ValueError(
            f"TransformToBNN: bnn_layer_type must be {names} for nnx.{base.__name__}, got "
            f"{bnn_layer_type.__name__}."
        )
    return base


def make_rule(
    dnn: type[nnx.Module],
    bnn: type[BayesianLayer],
    name: str,
    get_args: GetArgs,
    add_args: Mapping[str, object] | None,
) -> Rule:
    if not callable(get_args):
        raise TypeError(
            f"TransformToBNN: {name} must be a function of a layer that returns a dict, got "
            f"{get_args!r}."
        )
    added = name.replace("get", "add")
    if add_args is not None and not isinstance(add_args, Mapping):
        raise TypeError(
            f"TransformToBNN: {added} must be a dict of {bnn.__name__}'s arguments, got "
            f"{add_args!r}."
        )
    return Rule(dnn, bnn, get_args, add_args or {})


def new_layer(
    layer: nnx.Linear | nnx.Conv, rule: Rule, std: float | None, rngs: nnx.Rngs
) -> BayesianLayer:
    given = rule.get_args(layer)
    if not isinstance(given, Mapping):
        raise TypeError(f"get_args must return a dict of arguments, it returned {given!r}.")
    twice = [name for name in rule.add_args if name in given]
    if twice:
        raise ValueError(
            f"The arguments {', '.join(twice)} are given by get_args and by add_args: remove them "
            "from one of the two."
        )
    weight = layer.kernel[...]
    if not jnp.issubdtype(weight.dtype, jnp.floating):
        raise ValueError(f"Only floating-point weights can be random, got {weight.dtype}.")
    arguments: dict[str, PyTree] = {
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


def _require_none(reason: str, arguments: Mapping[str, object], *names: str) -> None:
    for name in names:
        if name in arguments:
            raise ValueError(f"{reason} sets {name}: do not pass it as well.")


def _require_known(bnn: type[BayesianLayer], arguments: Mapping[str, object]) -> None:
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


def _require(layer: nnx.Linear | nnx.Conv, bnn: str, **usual: object) -> None:
    """Raises ValueError if the layer computes its product differently from the Bayesian layer."""
    usual |= {"promote_dtype": dtypes.promote_dtype, "preferred_element_type": None}
    for name, value in usual.items():
        if getattr(layer, name, value) is not value:
            raise ValueError(
                f"{bnn} has no argument {name}, which this {type(layer).__name__} sets: exclude "
                "the layer with transform_to_bnn_layer, or use bnn_jax.to_bnn."
            )


def _pair(value: int | Sequence[int] | None) -> tuple[int, int]:
    if value is None:
        return 1, 1
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


def _padding_args(padding: PaddingLike) -> dict[str, object]:
    """Returns the padding of an nnx.Conv as the arguments pad_mode and padding."""
    if isinstance(padding, str):
        if padding.upper() in ("SAME", "VALID"):
            return {"pad_mode": padding.lower()}
        raise ValueError(
            "ConvReparam supports the padding 'SAME', 'VALID' and numbers; this nnx.Conv has "
            f"{padding!r}."
        )
    sides = (padding, padding) if isinstance(padding, int) else padding
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in sides]
    return {"pad_mode": "pad", "padding": (*pairs[0], *pairs[1])}
