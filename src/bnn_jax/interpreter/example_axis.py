"""Tracking of the example axis through the operations of a forward pass.

Estimators that sample for each example require the axis that indexes the examples. It is axis 0 of
the inputs, and transposes or reshapes can move it. If it cannot be tracked, for example because
examples and positions are merged into one axis, it is None, and weights are sampled once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation, shape_of
from bnn_jax.interpreter.linear_maps import LINEAR_MAP, operation_of, use_of


def follow(eqn: Equation, cells: Sequence[Cell[object]]) -> list[Cell[None]]:
    """Returns cells of the outputs without values: whether each is data, and its example axis.

    An operation without a rule keeps the axis if the output has the same size there. Such
    operations act on single elements or along other axes.
    """
    known = [Cell(None, c.data, c.axis) for c in cells]
    inner = jaxprs.called(eqn, _FOLLOW.enters)
    if inner is not None and operation_of(eqn) != LINEAR_MAP:
        return interpret(*inner, known, _FOLLOW)
    return _outputs(eqn, known)


def _outputs(eqn: Equation, cells: Sequence[Cell[None]]) -> list[Cell[None]]:
    data = any(c.data for c in cells)
    axes = [c.axis for c in cells]
    return [Cell(None, data, _of_output(eqn, axes, shape_of(out))) for out in eqn.outvars]


_FOLLOW: Rules[None] = Rules(
    default=_outputs, enters=jaxprs.WRAPPERS, constant=lambda _: Cell(None)
)


def _of_output(eqn: Equation, axes: Sequence[int | None], out: tuple[Any, ...]) -> int | None:
    operation = operation_of(eqn)
    rule = _RULES.get(operation)
    if operation.startswith("reduce_") and "axes" in eqn.params:
        rule = _reduce
    found = set()
    for i, axis in enumerate(axes):
        if axis is not None:
            moved = axis if rule is None else rule(eqn, i, axis)
            if moved is not None and out[moved : moved + 1] == (shape_of(eqn.invars[i])[axis],):
                found.add(moved)
    return found.pop() if len(found) == 1 else None


def _transpose(eqn: Equation, i: int, axis: int) -> int:
    return tuple(eqn.params["permutation"]).index(axis)


def _reshape(eqn: Equation, i: int, axis: int) -> int | None:
    """Returns the output axis of the same size and with the same number of elements before it."""
    shape, out = shape_of(eqn.invars[i]), shape_of(eqn.outvars[0])
    before = math.prod(shape[:axis])
    same = (k for k, n in enumerate(out) if n == shape[axis] and math.prod(out[:k]) == before)
    return next(same, None)


def _broadcast_in_dim(eqn: Equation, i: int, axis: int) -> int | None:
    return int(eqn.params["broadcast_dimensions"][axis]) if i == 0 else None


def _squeeze(eqn: Equation, i: int, axis: int) -> int | None:
    gone = eqn.params["dimensions"]
    return None if axis in gone else axis - sum(int(d) < axis for d in gone)


def _reduce(eqn: Equation, i: int, axis: int) -> int | None:
    gone = eqn.params["axes"]
    return None if axis in gone else axis - sum(int(d) < axis for d in gone)


def _dot_general(eqn: Equation, i: int, axis: int) -> int | None:
    contract, batch = eqn.params["dimension_numbers"]
    if axis in contract[i]:
        return None
    if axis in batch[i]:
        return tuple(batch[i]).index(axis)
    free = [
        [a for a in range(len(shape_of(v))) if a not in (*contract[k], *batch[k])]
        for k, v in enumerate(eqn.invars)
    ]
    return len(batch[0]) + (len(free[0]) if i == 1 else 0) + free[i].index(axis)


def _conv(eqn: Equation, i: int, axis: int) -> int | None:
    spec = eqn.params["dimension_numbers"]
    return int(spec.out_spec[0]) if i == 0 and axis == spec.lhs_spec[0] else None


def _linear_map(eqn: Equation, i: int, axis: int) -> int | None:
    use = use_of(eqn, 1)
    return use.out_axis if use is not None and i == 0 and axis == 0 else None


_RULES: dict[str, Callable[[Equation, int, int], int | None]] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast_in_dim,
    "squeeze": _squeeze,
    "argmax": _reduce,
    "argmin": _reduce,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    LINEAR_MAP: _linear_map,
}
