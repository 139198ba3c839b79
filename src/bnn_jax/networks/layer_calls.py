"""Calls of a Flax network with a hook around the calls of chosen layers.

    outputs = call(network, paths, hook, network.params, network.variables, (x,))

The hook is called as hook(path, layer, run, arguments): the layer's path, such as "block/conv1";
the layer; `run()`, which returns its output; and the arguments it was called with, the data first.
The result of the hook replaces the layer's output. The network itself does not change.
"""

from collections.abc import Callable, Collection, Mapping, Sequence

import jax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import PyTree

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation
from bnn_jax.networks.hook import Hook as Hook
from bnn_jax.networks.hook import Layer
from bnn_jax.networks.network import Network


def call(
    network: Network,
    paths: Collection[str],
    hook: Hook,
    params: PyTree,
    variables: PyTree,
    inputs: tuple[PyTree, ...],
    kwargs: Mapping[str, PyTree] | None = None,
) -> PyTree:
    """The network's outputs, with the hook around each call of the layers at these paths."""
    return network.call_with_hook(hook, paths, params, variables, inputs, kwargs or {})


def evaluate(network: Network, inputs: tuple[PyTree, ...]) -> PyTree:
    """The network's outputs, in evaluation mode if it is an NNX module."""

    def unused(
        path: str, layer: Layer, run: Callable[[], PyTree], arguments: tuple[PyTree, ...]
    ) -> PyTree:
        return run()

    return call(network, (), unused, network.params, network.variables, inputs)


def last_called(network: Network, paths: Collection[str], inputs: tuple[PyTree, ...]) -> list[str]:
    """Those layers whose outputs reach the network's outputs through none of the others.

    Most networks have one; a network with several heads has one for each head. Nothing is computed:
    the network is traced once.
    """
    order: dict[str, None] = {}

    def mark(
        path: str, layer: Layer, run: Callable[[], PyTree], arguments: tuple[PyTree, ...]
    ) -> PyTree:
        order[path] = None
        return jax.tree.map(lambda a: checkpoint_name(a, _MARK + path), run())

    def marked(params: PyTree) -> PyTree:
        return call(network, paths, mark, params, network.variables, inputs)

    jaxpr, consts, _ = jaxprs.trace(marked, network.params)
    outputs = interpret(jaxpr, consts, [Cell[Marks](frozenset())] * len(jaxpr.invars), _MARKS)
    last = frozenset[str]().union(*(c.value for c in outputs))
    return [path for path in order if path in last]


_MARK = "bnn_jax layer "

Marks = frozenset[str]


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
