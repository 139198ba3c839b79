"""One view of three kinds of network: linen module, NNX module, plain function.

A `Network` is a params tree of plain dicts, the other state as `variables`, a pure `call`, and what
is known of layer types. The module it was made from is never changed.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen, nnx
from jaxtyping import PyTree


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as a function of its params.

    Attributes:
        params: nested dicts of arrays.
        variables: all other state (batch statistics, streams, caches); None or empty if there is
        none. call: (params, variables, *inputs, **kwargs) -> outputs, or (outputs, new variables)
        when
            kwargs ask for mutable state.
        layer_types: {path of a layer: its type}, where known.
        kind: "linen", "nnx" or "function".
    """

    params: PyTree
    variables: PyTree
    call: Callable[..., Any]
    layer_types: Mapping[str, type]
    kind: str


def as_network(model: Any, variables: Any, inputs: tuple[Any, ...]) -> Network:
    """Any supported model as a `Network`; with example inputs linen tells its layer types."""
    if isinstance(model, nnx.Module):
        if variables is not None:
            raise ValueError(
                "An NNX module holds its own variables: call to_bnn(model) without any."
            )
        return _from_nnx(model)
    if isinstance(model, linen.Module):
        return _from_linen(model, variables, inputs)
    if callable(model) and not isinstance(model, type):
        if variables is None:
            raise ValueError(
                "A plain function apply(params, x) needs its params: to_bnn(apply, params)."
            )
        return Network(variables, None, _function_call(model), {}, "function")
    raise TypeError(
        "to_bnn takes a linen module with its variables, an NNX module, or a function "
        f"apply(params, x) with its params; got {_describe(model)}."
    )


def _describe(model: Any) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__


def _function_call(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(params: PyTree, variables: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        return fn(params, *inputs, **kwargs)

    return call


def _from_linen(module: linen.Module, variables: Any, inputs: tuple[Any, ...]) -> Network:
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = sorted(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise ValueError(
            "A linen module needs its variables, {'params': ...} as model.init(key, x) returns "
            f"them; got {got}."
        )
    others = {name: tree for name, tree in variables.items() if name != "params"}

    def call(params: PyTree, state: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        return module.apply({"params": params, **state}, *inputs, **kwargs)

    types = _linen_layer_types(module, variables, inputs)
    return Network(dict(variables["params"]), others, call, types, "linen")


def _linen_layer_types(
    module: linen.Module, variables: Any, inputs: tuple[Any, ...]
) -> dict[str, type]:
    if inputs:
        seen: dict[str, type] = {"": type(module)}

        def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
            seen["/".join(context.module.path)] = type(context.module)
            return next_fn(*args, **kwargs)

        def run(state: Any) -> Any:
            with linen.intercept_methods(record):
                return module.apply(state, *inputs, mutable=True)

        jax.eval_shape(run, variables)
        return seen
    # Without inputs only the names that Flax gives by itself, Dense_0, tell the type.
    paths = jax.tree_util.tree_leaves_with_path(variables["params"])
    names = {jax.tree_util.keystr(p[:-1], simple=True, separator="/") for p, _ in paths}
    found = {name: re.fullmatch(r"(\w+)_\d+", name.rpartition("/")[2]) for name in names}
    return {
        name: getattr(linen, match[1])
        for name, match in found.items()
        if match and inspect.isclass(getattr(linen, match[1], None))
    }


def _from_nnx(model: nnx.Module) -> Network:
    graph, params, others = _split(model)

    def call(
        weights: PyTree, state: Any, *inputs: Any, mutable: bool = False, **kwargs: Any
    ) -> Any:
        full = jax.tree.map(lambda x: x, params)
        nnx.replace_by_pure_dict(full, weights)
        module = nnx.merge(graph, full, state, copy=True)
        method = kwargs.pop("method", "__call__")
        bound = getattr(module, method) if isinstance(method, str) else method.__get__(module)
        outputs = bound(*inputs, **kwargs)
        return (outputs, _split(module)[2]) if mutable else outputs

    types = {"/".join(map(str, path)): type(module) for path, module in nnx.iter_modules(model)}
    return Network(nnx.to_pure_dict(params), others, call, types, "nnx")


def _split(module: nnx.Module) -> tuple[Any, Any, Any]:
    """Structure, params, and all other state."""
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, params, others = parts
    return graph, params, others
