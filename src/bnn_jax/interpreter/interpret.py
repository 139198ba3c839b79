"""One evaluator of jaxprs, for every interpretation of them.

An interpretation replaces the values of a function by values of its own type, such as
random weights, antithetic pairs or sets of names. Its rules say what an operation does with them:

    rules = Rules(default=..., table={"dot_general": ..., "add": ...})
    cells = interpret(*trace(fn, *args)[:2], [Cell(value) for value in values], rules)

The idea is that of oryx's `propagate` and equinox's `finalise_jaxpr`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.jaxprs import Equation, Jaxpr, Literal
from bnn_jax.interpreter.linear_maps import operation_of

V = TypeVar("V")


@dataclasses.dataclass(frozen=True)
class Cell(Generic[V]):
    """A value during an interpretation.

    Attributes:
        value: an array, or what the interpretation carries instead of one.
        data: whether it depends on the function's data and not on its params alone.
        axis: the axis that counts the examples; None if there is none, or it is not known.
    """

    value: V
    data: bool = False
    axis: int | None = None


Rule = Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]] | None]


@dataclasses.dataclass(frozen=True)
class Rules(Generic[V]):
    """What each operation does with cells.

    Attributes:
        default: the rule of every operation that the table lacks.
        table: rules by the operation's name, see `linear_maps.operation_of`. A rule that returns
            None leaves the equation to the default.
        enters: the calls whose inner jaxpr is interpreted in their place. A registered linear map
            is one operation and never entered.
        plain: the rule of an equation none of whose cells concern this interpretation.
        concerns: whether a cell does; by default every one.
        constant: the cell of a constant or literal.
    """

    default: Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]]]
    table: Mapping[str, Rule[V]] = dataclasses.field(default_factory=dict)
    enters: dict[str, str] = dataclasses.field(default_factory=lambda: jaxprs.CALLS)
    plain: Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]]] | None = None
    concerns: Callable[[Cell[V]], bool] = lambda _: True
    constant: Callable[[Any], Cell[V]] = Cell


def interpret(
    jaxpr: Jaxpr, consts: Sequence[Any], values: Sequence[Cell[V]], rules: Rules[V]
) -> list[Cell[V]]:
    """The cells of a jaxpr's outputs for those of its inputs, equation by equation."""
    env: dict[Any, Cell[V]] = dict(
        zip(jaxpr.constvars, map(rules.constant, consts), strict=bool(consts))
    )
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(atom: Any) -> Cell[V]:
        return rules.constant(atom.val) if isinstance(atom, Literal) else env[atom]

    for eqn in jaxpr.eqns:
        cells = [read(atom) for atom in eqn.invars]
        env.update(zip(eqn.outvars, _equation(eqn, cells, rules), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn: Equation, cells: Sequence[Cell[V]], rules: Rules[V]) -> Sequence[Cell[V]]:
    if rules.plain is not None and not any(map(rules.concerns, cells)):
        return rules.plain(eqn, cells)
    operation = operation_of(eqn)
    inner = jaxprs.called(eqn, rules.enters) if operation == eqn.primitive.name else None
    if inner is not None:
        return interpret(*inner, cells, rules)
    rule = rules.table.get(operation)
    out = None if rule is None else rule(eqn, cells)
    return rules.default(eqn, cells) if out is None else out
