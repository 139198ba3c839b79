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

from bnn_jax.gaussian import path_name


@dataclasses.dataclass(frozen=True)
class Network:
    """A network as a function of its params.

    Attributes:
        params: nested dicts of arrays.
        variables: all other state (batch statistics, streams, caches); None or empty if there is
            none.
        call: (params, variables, *inputs, **kwargs) -> outputs, or (outputs, new variables) when
            kwargs ask for mutable state.
        layer_types: (*inputs, **kwargs) -> {path of a layer: its type}, as far as known. A linen
            module knows its layers only with inputs.
        kind: "linen", "nnx" or "function".
        graph: for NNX, the module's structure and its params.
    """

    params: PyTree
    variables: PyTree
    call: Callable[..., Any]
    layer_types: Callable[..., Mapping[str, type]]
    kind: str
    graph: Any = None

    @property
    def mutable(self) -> Any:
        """The value of `mutable` at a call that asks for all other state."""
        return True if self.kind == "nnx" else list(self.variables or ())

    def batch_statistics(
        self, variables: PyTree
    ) -> tuple[Callable[[dict[str, Any]], PyTree], dict[str, Any]]:
        """The running averages among the variables, by path, and a function that puts them back."""
        named = _batch_statistics(self.kind, variables)
        if not named:
            raise ValueError(
                "The network has no batch statistics (linen's collection batch_stats, or "
                "nnx.BatchStat variables): there is nothing to compute."
            )
        leaves, structure = jax.tree.flatten(variables)

        def merge(statistics: dict[str, Any]) -> PyTree:
            changed = {named[path]: value for path, value in statistics.items()}
            merged = [changed.get(i, leaf) for i, leaf in enumerate(leaves)]
            return jax.tree.unflatten(structure, merged)

        return merge, {path: leaves[i] for path, i in named.items()}


def _batch_statistics(kind: str, variables: PyTree) -> dict[str, int]:
    """{path: position among the leaves} of the running averages."""
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
    if kind == "linen":
        return {name: i for i, name in enumerate(names) if name.startswith("batch_stats/")}
    if kind == "nnx":
        whole = jax.tree.leaves(variables, is_leaf=lambda v: isinstance(v, nnx.Variable))
        marks = [isinstance(v, nnx.BatchStat) for v in whole for _ in jax.tree.leaves(v)]
        return {name: i for i, name in enumerate(names) if marks[i]}
    return {}


def as_network(model: Any, variables: Any) -> Network:
    """Any supported model as a `Network`."""
    if isinstance(model, nnx.Module):
        if variables is not None:
            raise ValueError(
                "An NNX module holds its own variables: call to_bnn(model) without any."
            )
        return _from_nnx(model)
    if isinstance(model, linen.Module):
        return _from_linen(model, variables)
    if callable(model) and not isinstance(model, type):
        if variables is None:
            raise ValueError(
                "A plain function apply(params, x) needs its params: to_bnn(apply, params)."
            )
        return Network(variables, None, _function_call(model), lambda *_, **__: {}, "function")
    raise TypeError(
        "to_bnn takes a linen module with its variables, an NNX module, or a function "
        f"apply(params, x) with its params; got {_describe(model)}."
    )


def nnx_view(network: Network, **attributes: Any) -> Network:
    """An NNX network with other settings of its layers, as `nnx.view` makes them."""
    if network.graph is None:
        raise TypeError(
            f"view() sets attributes of NNX layers, and this is a {network.kind} network: pass its "
            "own keyword argument at the call instead, such as train=True."
        )
    graph, params = network.graph
    module = nnx.merge(graph, params, network.variables, copy=True)
    return _from_nnx(nnx.view(module, **attributes))


def _describe(model: Any) -> str:
    return f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__


def _function_call(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(params: PyTree, variables: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        return fn(params, *inputs, **kwargs)

    return call


def _from_linen(module: linen.Module, variables: Any) -> Network:
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = sorted(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise ValueError(
            "A linen module needs its variables, {'params': ...} as model.init(key, x) returns "
            f"them; got {got}."
        )
    others = {name: tree for name, tree in variables.items() if name != "params"}
    # Without the boxes of nn.with_partitioning: a leaf is an array, or a Gaussian.
    params = linen.meta.unbox(dict(variables["params"]))

    def call(params: PyTree, state: PyTree, *inputs: Any, **kwargs: Any) -> Any:
        return module.apply({"params": params, **state}, *inputs, **kwargs)

    def layer_types(*inputs: Any, **kwargs: Any) -> dict[str, type]:
        if inputs:
            return _called_layers(module, variables, inputs, kwargs)
        return _named_layers(params)

    return Network(params, others, call, layer_types, "linen")


def _called_layers(
    module: linen.Module, variables: Any, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, type]:
    seen: dict[str, type] = {"": type(module)}

    def record(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
        seen["/".join(context.module.path)] = type(context.module)
        return next_fn(*args, **kwargs)

    def run(state: Any) -> Any:
        with linen.intercept_methods(record):
            return module.apply(state, *inputs, **{**kwargs, "mutable": True})

    jax.eval_shape(run, variables)
    return seen


def _named_layers(params: PyTree) -> dict[str, type]:
    """The names that Flax gives by itself, such as Dense_0, tell the type."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = {jax.tree_util.keystr(p[:-1], simple=True, separator="/") for p, _ in paths}
    found = {name: re.fullmatch(r"(\w+)_\d+", name.rpartition("/")[2]) for name in names}
    return {
        name: getattr(linen, match[1])
        for name, match in found.items()
        if match and inspect.isclass(getattr(linen, match[1], None))
    }


def _from_nnx(model: nnx.Module) -> Network:
    graph, params, others = _split(model)
    types = {"/".join(map(str, path)): type(module) for path, module in nnx.iter_modules(model)}

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

    return Network(
        nnx.to_pure_dict(params), others, call, lambda *_, **__: types, "nnx", (graph, params)
    )


def _split(module: nnx.Module) -> tuple[Any, Any, Any]:
    """Structure, params, and all other state."""
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, params, others = parts
    return graph, params, others
