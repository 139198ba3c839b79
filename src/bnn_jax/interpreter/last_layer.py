"""Which layer is the last one: the one whose weights meet the data last."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
from jaxtyping import PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.interpreter.example_axis import WRAPPERS

Paths = frozenset[str]


def last_layer(
    call: Callable[..., Any], params: PyTree, variables: PyTree, inputs: tuple[Any, ...]
) -> Paths:
    """The paths of the last layer's weights: kernel, bias and what else it has.

    It is the layer of the last product of weights and data, found in the network's jaxpr, together
    with the weights that meet the data after it.
    """
    names = [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    closed = jax.make_jaxpr(lambda p, x: call(p, variables, *x))(params, inputs)
    data = len(closed.jaxpr.invars) - len(names)
    uses: list[tuple[str, Paths]] = []
    _walk(closed.jaxpr, [frozenset({name}) for name in names] + [None] * data, uses)
    if not uses:
        raise ValueError("No weight of the network meets the inputs: there is no last layer.")
    products = [i for i, (primitive, _) in enumerate(uses) if primitive not in _ELEMENTWISE]
    start = products[-1] if products else len(uses) - 1
    last = frozenset().union(*(paths for _, paths in uses[start:]))
    layers = {path.rpartition("/")[0] for path in last} - {""}
    return last | {name for name in names if name.rpartition("/")[0] in layers}


_ELEMENTWISE = ("add", "add_any", "sub", "mul", "div", "max", "min", "select_n", "pow")


def _walk(
    jaxpr: jex.Jaxpr, origins: Sequence[Paths | None], uses: list[tuple[str, Paths]]
) -> list[Paths | None]:
    """Follow each value to the weights it is made of; None is data. Notes where the two meet."""
    env: dict[Any, Paths | None] = dict.fromkeys(jaxpr.constvars, frozenset())
    env.update(zip(jaxpr.invars, origins, strict=True))

    def read(atom: Any) -> Paths | None:
        return frozenset() if isinstance(atom, jex.Literal) else env[atom]

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        inner = eqn.params.get(WRAPPERS.get(eqn.primitive.name, ""))
        outputs: list[Paths | None]
        if inner is not None:
            outputs = _walk(getattr(inner, "jaxpr", inner), values, uses)
        else:
            weights = frozenset().union(*(v for v in values if v is not None))
            with_data = any(v is None for v in values)
            if with_data and weights:
                uses.append((eqn.primitive.name, weights))
            outputs = [None if with_data else weights] * len(eqn.outvars)
        env.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]
