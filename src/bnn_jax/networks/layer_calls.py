"""A look into a Flax network: a hook around the calls of chosen layers.

    outputs = call(network, paths, hook, network.params, network.variables, (x,))

The hook is called as hook(path, layer, run, data): the layer's place, such as "block/conv1"; the
layer; `run()`, which gives its output; and the arguments it was called with, the data first. What
the hook returns takes the output's place. The network itself is not changed: linen has interceptors
for this, and of an NNX module a copy is called, in evaluation mode, whose layers have a subclass.
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

import jax
from flax import linen, nnx
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation
from bnn_jax.networks.network import Network

Hook = Callable[[str, Any, Callable[[], Any], tuple[Any, ...]], Any]


def call(
    network: Network,
    paths: Collection[str],
    hook: Hook,
    params: PyTree,
    variables: PyTree,
    inputs: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """The network's outputs, with the hook around each call of the layers at these paths."""
    kwargs = kwargs or {}
    if network.kind == "linen":
        with linen.intercept_methods(_interceptor(paths, hook)):
            return network.call(params, variables, *inputs, **kwargs)

    def run(module: Any, *inputs: Any, **kwargs: Any) -> Any:
        module.eval()
        layers: list[tuple[Any, Any]] = list(nnx.iter_modules(module))
        for path, layer in layers:
            name = "/".join(map(str, path))
            if name in paths:
                layer.path_for_hook = name
                kind: Any = type(layer)
                object.__setattr__(layer, "__class__", _hooked(kind))
        return module(*inputs, **kwargs)

    before = _HOOK.set(hook)
    try:
        return network.call(params, variables, *inputs, method=run, **kwargs)
    finally:
        _HOOK.reset(before)


def evaluate(network: Network, inputs: tuple[Any, ...]) -> Any:
    """The network's outputs, in evaluation mode if it is an NNX module."""

    def unused(path: str, layer: Any, run: Callable[[], Any], data: tuple[Any, ...]) -> Any:
        return run()

    return call(network, (), unused, network.params, network.variables, inputs)


def last_called(network: Network, paths: Collection[str], inputs: tuple[Any, ...]) -> list[str]:
    """Those layers whose outputs reach the network's outputs through none of the others.

    There is one in most networks, and one for each head of a network with several. Nothing is
    computed: the network is traced once.
    """
    order: dict[str, None] = {}

    def mark(path: str, layer: Any, run: Callable[[], Any], data: tuple[Any, ...]) -> Any:
        order[path] = None
        return jax.tree.map(lambda a: checkpoint_name(a, _MARK + path), run())

    def marked(params: PyTree) -> Any:
        return call(network, paths, mark, params, network.variables, inputs)

    jaxpr, consts, _ = jaxprs.trace(marked, network.params)
    outputs = interpret(jaxpr, consts, [Cell[Marks](frozenset())] * len(jaxpr.invars), _MARKS)
    last = frozenset[str]().union(*(c.value for c in outputs))
    return [path for path in order if path in last]


# The hook of the NNX network that is being called.
_HOOK: ContextVar[Hook] = ContextVar("hook")

_MARK = "bnn_jax layer "

Marks = frozenset[str]


def _interceptor(paths: Collection[str], hook: Hook) -> Callable[..., Any]:
    # A layer under nn.remat or nn.jit calls itself.
    running: set[str] = set()

    def intercept(next_fn: Any, args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        if context.method_name != "__call__" or path not in paths or path in running:
            return next_fn(*args, **kwargs)
        running.add(path)
        try:
            data = (*args, *kwargs.values())
            return hook(path, context.module, lambda: next_fn(*args, **kwargs), data)
        finally:
            running.remove(path)

    return intercept


@functools.cache
def _hooked(kind: type) -> type:
    def hooked_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        data = (*args, *kwargs.values())
        return _HOOK.get()(self.path_for_hook, self, lambda: plain(self, *args, **kwargs), data)

    plain: Any = kind.__call__
    return type(kind)(kind.__name__, (kind,), {"__call__": hooked_call})


def _union(eqn: Equation, cells: Sequence[Cell[Marks]]) -> list[Cell[Marks]]:
    """The marks that the outputs depend on through no other mark."""
    name = str(eqn.params.get("name", ""))
    if eqn.primitive.name == "name" and name.startswith(_MARK):
        return [Cell(frozenset({name.removeprefix(_MARK)}))]
    return [Cell(frozenset[str]().union(*(c.value for c in cells)))] * len(eqn.outvars)


_MARKS: Rules[Marks] = Rules(
    default=_union,
    enters=jaxprs.WRAPPERS | {"scan": "jaxpr"},
    constant=lambda _: Cell(frozenset()),
)
