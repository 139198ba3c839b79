"""Selection of the weights that become random: the argument `where` of to_bnn.

"layers"     the default: all floating-point arrays except the scale and bias of normalisation
             layers, the slopes of activations, and arrays with "embedding" in their names
"kernels"    as "layers", without the biases
"all"        every floating-point array
"last"       the last layer that combines its weights with the data; requires example inputs
"conv1/*"    a glob over paths such as conv1/kernel, or a list of globs
nn.Dense     a layer type, or a tuple of them
predicate    a function (path, layer type or None, array) -> bool
"""

import difflib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.interpreter.last_layer import last_layer
from bnn_jax.networks.network import Network

Where = str | Sequence[str] | type | tuple[type, ...] | Callable[[str, type | None, Array], bool]

NAMED = ("layers", "kernels", "all", "last")


def select(where: Where, network: Network, inputs: tuple[PyTree, ...]) -> list[str]:
    """Returns the paths of the selected weights, in tree order.

    Raises:
        ValueError: no weight is selected, a selected leaf is not a floating-point array, or example
            inputs are required to determine the layer types or the last layer.
    """
    params, layer_types = network.params, network.layer_types(*inputs)
    leaves = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
    if not leaves:
        raise ValueError("The params tree has no arrays: there is nothing to make random.")
    norms = {_layer(path) for path in leaves if _name(path) == "scale"}
    norms |= {path for path, layer in layer_types.items() if layer.__name__.endswith("Norm")}

    def in_layers(path: str) -> bool:
        name = _name(path)
        return _layer(path) not in norms and "embedding" not in name and name != "negative_slope"

    chosen: list[str]
    if isinstance(where, str) and where == "last":
        if not inputs:
            raise ValueError(
                "where='last' requires example inputs to determine the last layer: "
                "to_bnn(..., where='last', inputs=(x,))."
            )
        last = last_layer(network.call, params, network.variables, inputs)
        chosen = [path for path in leaves if path in last and _is_float(leaves[path])]
    elif isinstance(where, str) and where in NAMED:
        chosen = [
            path
            for path, leaf in leaves.items()
            if _is_float(leaf)
            and (where == "all" or in_layers(path))
            and not (where == "kernels" and (_name(path).endswith("bias") or leaf.ndim < 2))
        ]
    elif isinstance(where, type) or (
        isinstance(where, tuple) and where and all(isinstance(t, type) for t in where)
    ):
        if not layer_types:
            raise ValueError(
                f"where={where!r} is a layer type, but the types of this network's layers are "
                "unknown: pass example inputs, to_bnn(..., inputs=(x,)), or select by path."
            )
        chosen = [p for p in leaves if issubclass(_type_of(p, layer_types) or type(None), where)]
    elif isinstance(where, str | Sequence):
        globs: list[str] = [where] if isinstance(where, str) else [str(glob) for glob in where]
        for glob in globs:
            if not any(fnmatchcase(path, glob) for path in leaves):
                raise ValueError(_no_match(f"The pattern {glob!r}", glob, leaves))
        chosen = [path for path in leaves if any(fnmatchcase(path, glob) for glob in globs)]
    elif callable(where):
        chosen = [p for p, leaf in leaves.items() if where(p, _type_of(p, layer_types), leaf)]
    else:
        raise TypeError(
            f"where must be one of {', '.join(NAMED)}, a path pattern or a list of them, a layer "
            f"type, or a function (path, layer type, array) -> bool; got {where!r}."
        )
    if not chosen:
        raise ValueError(_no_match(f"where={where!r}", "", leaves))
    for path in chosen:
        if not _is_float(leaves[path]):
            raise ValueError(
                f"where={where!r} selects {path!r} of dtype {jnp.result_type(leaves[path])}: only "
                "floating-point weights can be random. Exclude it."
            )
    return chosen


def match(patterns: Mapping[str, str], path: str) -> str | None:
    """Returns the value of the first pattern that the path matches."""
    return next((value for glob, value in patterns.items() if fnmatchcase(path, glob)), None)


def _is_float(leaf: PyTree) -> bool:
    return bool(jnp.issubdtype(jnp.result_type(leaf), jnp.floating))


def _layer(path: str) -> str:
    return path.rpartition("/")[0]


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _type_of(path: str, layer_types: Mapping[str, type]) -> type | None:
    return layer_types.get(_layer(path))


def _no_match(what: str, glob: str, leaves: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(glob, leaves, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    shown = ", ".join(leaves)
    kinds = "" if any(map(_is_float, leaves.values())) else " None is floating point."
    return f"{what} matches no weight.{hint} The network's weights are: {shown}.{kinds}"
