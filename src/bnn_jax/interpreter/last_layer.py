"""Determination of the last layer: the layer that combines its weights with the data last."""

from collections.abc import Callable, Sequence

import jax
from jaxtyping import PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation
from bnn_jax.interpreter.linear_maps import operation_of

Paths = frozenset[str]


def last_layer(
    call: Callable[..., PyTree], params: PyTree, variables: PyTree, inputs: tuple[PyTree, ...]
) -> Paths:
    """Returns the paths of all weights of the last layer, such as kernel and bias.

    The last layer is that of the last product of weights and data in the jaxpr of the network. The
    weights that are combined with the data after this product belong to it as well.

    Raises:
        ValueError: the network combines no weight with its inputs.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    jaxpr, consts, _ = jaxprs.trace(lambda p, x: call(p, variables, *x), params, inputs)
    uses: list[tuple[str, Paths]] = []
    nothing = Cell[Paths](frozenset())

    def meet(eqn: Equation, cells: Sequence[Cell[Paths]]) -> list[Cell[Paths]]:
        """Tracks the weights of each value, and records the operations of weights and data."""
        weights = frozenset[str]().union(*(c.value for c in cells))
        data = any(c.data for c in cells)
        if data and weights:
            uses.append((operation_of(eqn), weights))
        return [Cell(frozenset() if data else weights, data)] * len(eqn.outvars)

    rules = Rules(default=meet, enters=jaxprs.WRAPPERS, constant=lambda _: nothing)
    weights = [Cell(frozenset({name})) for name in names]
    data = [Cell[Paths](frozenset(), data=True)] * (len(jaxpr.invars) - len(names))
    interpret(jaxpr, consts, [*weights, *data], rules)
    if not uses:
        raise ValueError("The network combines no weight with its inputs: there is no last layer.")
    products = [i for i, (operation, _) in enumerate(uses) if operation not in _ELEMENTWISE]
    start = products[-1] if products else len(uses) - 1
    last = frozenset[str]().union(*(paths for _, paths in uses[start:]))
    layers = {path.rpartition("/")[0] for path in last} - {""}
    return last | {name for name in names if name.rpartition("/")[0] in layers}


_ELEMENTWISE = ("add", "add_any", "sub", "mul", "div", "max", "min", "select_n", "pow")
