"""A linen module with its variables as a `Network`."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from typing import NoReturn

import jax
from flax import linen
from flax.linen.module import InterceptorContext
from jaxtyping import PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.networks.hook import Hook
from bnn_jax.networks.preprocess import Preprocess, preprocessed


@dataclasses.dataclass(frozen=True)
class LinenNetwork:
    """A linen module; its variables are all collections but "params"."""

    module: linen.Module
    params: PyTree
    variables: Mapping[str, PyTree]
    preprocess: Preprocess | None = None

    @classmethod
    def from_module(cls, module: linen.Module, variables: PyTree) -> "LinenNetwork":
        """The module with its variables, as model.init(key, x) returns them."""
        if not isinstance(variables, Mapping) or "params" not in variables:
            got = sorted(variables) if isinstance(variables, Mapping) else type(variables).__name__
            raise ValueError(
                "A linen module needs its variables, {'params': ...} as model.init(key, x) returns "
                f"them; got {got}."
            )
        others = {name: tree for name, tree in variables.items() if name != "params"}
        # Without the boxes of nn.with_partitioning: a leaf is an array, or a Gaussian.
        return cls(module, linen.meta.unbox(dict(variables["params"])), others)

    def call(self, params: PyTree, variables: PyTree, *inputs: PyTree, **kwargs: PyTree) -> PyTree:
        inputs = preprocessed(self.preprocess, inputs)
        return self.module.apply({"params": params, **variables}, *inputs, **kwargs)

    def call_with_hook(
        self,
        hook: Hook,
        paths: Collection[str],
        params: PyTree,
        variables: PyTree,
        inputs: tuple[PyTree, ...],
        kwargs: Mapping[str, PyTree],
    ) -> PyTree:
        with linen.intercept_methods(_interceptor(hook, paths)):
            return self.call(params, variables, *inputs, **kwargs)

    def layer_types(self, *inputs: PyTree, **kwargs: PyTree) -> dict[str, type]:
        if not inputs:
            return _types_by_name(self.params)
        seen: dict[str, type] = {"": type(self.module)}

        def record(
            next_fn: Callable[..., PyTree],
            args: tuple[PyTree, ...],
            kwargs: dict[str, PyTree],
            context: InterceptorContext,
        ) -> PyTree:
            seen["/".join(context.module.path)] = type(context.module)
            return next_fn(*args, **kwargs)

        def run(params: PyTree, variables: PyTree) -> PyTree:
            with linen.intercept_methods(record):
                return self.call(params, variables, *inputs, **{**kwargs, "mutable": True})

        jax.eval_shape(run, self.params, self.variables)
        return seen

    def mutable_options(self) -> dict[str, PyTree]:
        return {"mutable": list(self.variables)}

    def batch_statistics(self, variables: PyTree) -> dict[str, int]:
        """Those in the collection "batch_stats"."""
        names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(variables)]
        return {name: i for i, name in enumerate(names) if name.startswith("batch_stats/")}

    def in_mode(self, *, train: bool) -> "tuple[LinenNetwork, dict[str, bool]]":
        """Finds the mode's argument of the module's __call__ by its name."""
        parameters = inspect.signature(self.module.__call__).parameters
        found = {name: value for name, value in _IN_TRAINING.items() if name in parameters}
        return self, {name: value == train for name, value in found.items()}

    def streams(self) -> tuple[str, ...]:
        return ("dropout",)

    def check_streams(self, streams: tuple[str, ...]) -> None:
        """A linen module takes random streams at every call."""

    def view(self, **attributes: PyTree) -> NoReturn:
        raise TypeError(
            "view() sets attributes of NNX layers, and this is a linen network: pass its own "
            "keyword argument at the call instead, such as train=True."
        )


# Names of the argument of a linen module that selects its mode, and its value in training.
_IN_TRAINING = {
    "train": True,
    "training": True,
    "is_training": True,
    "deterministic": False,
    "use_running_average": False,
}


def _interceptor(hook: Hook, paths: Collection[str]) -> Callable[..., PyTree]:
    # A layer under nn.remat or nn.jit calls itself.
    running: set[str] = set()

    def intercept(
        next_fn: Callable[..., PyTree],
        args: tuple[PyTree, ...],
        kwargs: dict[str, PyTree],
        context: InterceptorContext,
    ) -> PyTree:
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in paths or path in running:
            return next_fn(*args, **kwargs)
        running.add(path)
        try:
            arguments = (*args, *kwargs.values())
            return hook(path, context.module, lambda: next_fn(*args, **kwargs), arguments)
        finally:
            running.remove(path)

    return intercept


def _types_by_name(params: PyTree) -> dict[str, type]:
    """Types from names that Flax gives by itself, such as Dense_0."""
    paths = jax.tree_util.tree_leaves_with_path(params)
    names = {jax.tree_util.keystr(p[:-1], simple=True, separator="/") for p, _ in paths}
    found = {name: re.fullmatch(r"(\w+)_\d+", name.rpartition("/")[2]) for name in names}
    return {
        name: getattr(linen, match[1])
        for name, match in found.items()
        if match and inspect.isclass(getattr(linen, match[1], None))
    }
