"""An NNX module as a `Network`."""

import dataclasses
import functools
import types
from collections.abc import Callable, Collection, Mapping

import jax
from flax import nnx
from jaxtyping import PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.networks.hook import Hook
from bnn_jax.networks.preprocess import Preprocess, preprocessed


@dataclasses.dataclass(frozen=True)
class NnxNetwork:
    """An NNX module; its variables are an `nnx.State` of all that is not an nnx.Param.

    Attributes:
        params: nested dicts of arrays.
        variables: all other state.
        graph: the module's structure.
        param_state: its params as an `nnx.State`.
        layers: {path of a layer: its type}.
        preprocess: applied to the input of a call.
    """

    params: PyTree
    variables: PyTree
    graph: nnx.GraphDef[nnx.Module]
    param_state: PyTree
    layers: Mapping[str, type]
    preprocess: Preprocess | None = None

    @classmethod
    def from_module(cls, module: nnx.Module) -> "NnxNetwork":
        graph, params, others = _split(module)
        layers = {_name(path): type(layer) for path, layer in nnx.iter_modules(module)}
        return cls(nnx.to_pure_dict(params), others, graph, params, layers)

    def call(
        self,
        params: PyTree,
        variables: PyTree,
        *inputs: PyTree,
        mutable: bool = False,
        method: str | Callable[..., PyTree] = "__call__",
        **kwargs: PyTree,
    ) -> PyTree:
        """Calls a method of the module, by name or as a function whose first argument is it."""
        inputs = preprocessed(self.preprocess, inputs)
        full = jax.tree.map(lambda x: x, self.param_state)
        nnx.replace_by_pure_dict(full, params)
        module = nnx.merge(self.graph, full, variables, copy=True)
        if isinstance(method, str):
            outputs = getattr(module, method)(*inputs, **kwargs)
        else:
            outputs = method(module, *inputs, **kwargs)
        return (outputs, _split(module)[2]) if mutable else outputs

    def call_with_hook(
        self,
        hook: Hook,
        paths: Collection[str],
        params: PyTree,
        variables: PyTree,
        inputs: tuple[PyTree, ...],
        kwargs: Mapping[str, PyTree],
    ) -> PyTree:
        """Calls a copy of the module, in evaluation mode, whose layers call the hook.

        NNX has no interceptors. Each of these layers of the copy becomes a subclass of its own type
        instead. A wrapper module around it would not do: networks read attributes of their layers,
        as embed.attend(h) does, and Python looks for `__call__` in the type alone.
        """

        def run(module: nnx.Module, *inputs: PyTree, **kwargs: PyTree) -> PyTree:
            module.eval()
            for path, layer in list(nnx.iter_modules(module)):
                if _name(path) in paths:
                    # The class is set past the checks of nnx.Module.__setattr__.
                    object.__setattr__(layer, "__class__", _with_hook(type(layer)))
                    setattr(layer, _ATTRIBUTE, (hook, _name(path)))
            return module(*inputs, **kwargs)

        return self.call(params, variables, *inputs, method=run, **kwargs)

    def layer_types(self, *inputs: PyTree, **kwargs: PyTree) -> Mapping[str, type]:
        return self.layers

    def mutable_options(self) -> dict[str, PyTree]:
        return {"mutable": True}

    def batch_statistics(self, variables: PyTree) -> dict[str, int]:
        """The `nnx.BatchStat` variables."""
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
        whole = jax.tree.leaves(variables, is_leaf=lambda v: isinstance(v, nnx.Variable))
        chosen = [isinstance(v, nnx.BatchStat) for v in whole for _ in jax.tree.leaves(v)]
        return {name: i for i, name in enumerate(names) if chosen[i]}

    def in_mode(self, *, train: bool) -> "tuple[NnxNetwork, dict[str, bool]]":
        """Sets the mode of dropout and batch normalisation layers."""
        attributes = {"deterministic": not train, "use_running_average": not train}
        return self.view(raise_if_not_found=False, **attributes), {}

    def streams(self) -> tuple[str, ...]:
        return ()

    def check_streams(self, streams: tuple[str, ...]) -> None:
        if streams:
            raise ValueError(
                f"streams={streams!r} are random streams of linen modules, and this is an NNX "
                "module, which holds its own: leave streams out."
            )

    def view(self, **attributes: PyTree) -> "NnxNetwork":
        module = nnx.merge(self.graph, self.param_state, self.variables, copy=True)
        viewed = self.from_module(nnx.view(module, **attributes))
        return dataclasses.replace(viewed, preprocess=self.preprocess)


# The name of a layer's attribute that holds the hook and the layer's path.
_ATTRIBUTE = "_bnn_jax_hook"


@functools.cache
def _with_hook(layer_type: type[nnx.Module]) -> type[nnx.Module]:
    """A subclass whose `__call__` calls the hook; cached, since NNX registers every new class."""
    plain: Callable[..., PyTree] = layer_type.__call__

    def call(self: nnx.Module, *args: PyTree, **kwargs: PyTree) -> PyTree:
        hook, path = getattr(self, _ATTRIBUTE)
        return hook(path, self, lambda: plain(self, *args, **kwargs), (*args, *kwargs.values()))

    name: str = layer_type.__name__
    return types.new_class(name, (layer_type,), exec_body=lambda body: body.update(__call__=call))


def _split(module: nnx.Module) -> tuple[nnx.GraphDef[nnx.Module], PyTree, PyTree]:
    """Structure, params, and all other state."""
    parts: tuple[nnx.GraphDef[nnx.Module], PyTree, PyTree]
    parts = nnx.split(module, nnx.Param, ...)  # type: ignore[assignment]
    return parts


def _name(path: tuple[object, ...]) -> str:
    return "/".join(map(str, path))
