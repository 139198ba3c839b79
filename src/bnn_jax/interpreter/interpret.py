"""The evaluator of jaxprs that all interpretations share.

An interpretation replaces the values of a function by values of another type, such as random
weights, antithetic pairs or sets of names. Its rules define the operations on these values:

    rules = Rules(default=..., table={"dot_general": ..., "add": ...})
    cells = interpret(*trace(fn, *args)[:2], [Cell(value) for value in values], rules)

The design follows `propagate` of oryx and `finalise_jaxpr` of equinox.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from jax.typing import ArrayLike

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.jaxprs import Equation, Jaxpr, Literal, Var
from bnn_jax.interpreter.linear_maps import operation_of

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)


@dataclasses.dataclass(frozen=True)
class Cell(Generic[V_co]):
    """A value during an interpretation.

    Attributes:
        value: an array, or the value that the interpretation uses in place of an array.
        data: whether the value depends on the data of the function and not only on its params.
        axis: the axis that indexes the examples; None if there is none or it is unknown.
    """

    value: V_co
    data: bool = False
    axis: int | None = None


Rule = Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]] | None]


@dataclasses.dataclass(frozen=True)
class Rules(Generic[V]):
    """The rules that define what each operation does with cells.

    Attributes:
        default: the rule of all operations that are not in the table.
        table: rules by the name of the operation, see `linear_maps.operation_of`. If a rule returns
            None, the default rule applies.
        enters: the calls whose inner jaxpr is interpreted. A registered linear map is a single
            operation and is never entered.
        plain: the rule of an equation if `concerns` is False for all of its cells.
        concerns: whether a cell concerns this interpretation; by default, all cells do.
        constant: the function that creates the cell of a constant or literal.
    """

    default: Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]]]
    table: Mapping[str, Rule[V]] = dataclasses.field(default_factory=dict)
    enters: dict[str, str] = dataclasses.field(default_factory=lambda: jaxprs.CALLS)
    plain: Callable[[Equation, Sequence[Cell[V]]], Sequence[Cell[V]]] | None = None
    concerns: Callable[[Cell[V]], bool] = lambda _: True
    constant: Callable[[Any], Cell[V]] = Cell


def interpret(
    jaxpr: Jaxpr, consts: Sequence[ArrayLike], values: Sequence[Cell[V]], rules: Rules[V]
) -> list[Cell[V]]:
    """Returns the cells of a jaxpr's outputs for the cells of its inputs."""
    env: dict[Var, Cell[V]] = dict(
        zip(jaxpr.constvars, map(rules.constant, consts), strict=bool(consts))
    )
    env.update(zip(jaxpr.invars, values, strict=True))

    def read(atom: Var | Literal) -> Cell[V]:
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
