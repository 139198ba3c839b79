"""Where the examples are in the values of a forward pass, operation by operation.

Estimators that draw for each example have to know the axis that counts the examples. It is axis 0
of the inputs, and moves when data are transposed or reshaped. Where it cannot be followed, as when
examples and positions are merged into one axis, it is None, and weights are sampled once.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.extend.core as jex

from bnn_jax.interpreter.equations import CALLS, NHWC_CONVOLUTION, operation_of


def of_outputs(eqn: jex.JaxprEqn, axes: Sequence[int | None]) -> list[int | None]:
    """The example axis of each output, from those of the inputs; None: there is none, or unknown.

    Operations without a rule keep the axis where the output has the same size there: they act
    element by element, or along other axes.
    """
    if operation_of(eqn) == NHWC_CONVOLUTION:
        return [0 if axes[0] == 0 else None]
    inner = eqn.params.get(WRAPPERS.get(eqn.primitive.name, ""))
    if inner is not None:
        return _through(getattr(inner, "jaxpr", inner), axes)
    return [_of_output(eqn, axes, _shape(out)) for out in eqn.outvars]


def _through(jaxpr: jex.Jaxpr, axes: Sequence[int | None]) -> list[int | None]:
    env: dict[Any, int | None] = dict(zip(jaxpr.invars, axes, strict=True))

    def read(atom: Any) -> int | None:
        return None if isinstance(atom, jex.Literal) else env.get(atom)

    for eqn in jaxpr.eqns:
        env.update(zip(eqn.outvars, of_outputs(eqn, [read(v) for v in eqn.invars]), strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _of_output(eqn: jex.JaxprEqn, axes: Sequence[int | None], out: tuple[int, ...]) -> int | None:
    rule = _RULES.get(eqn.primitive.name)
    if eqn.primitive.name.startswith("reduce_") and "axes" in eqn.params:
        rule = _reduce
    found = set()
    for i, axis in enumerate(axes):
        if axis is not None:
            moved = axis if rule is None else rule(eqn, i, axis)
            if moved is not None and out[moved : moved + 1] == (_shape(eqn.invars[i])[axis],):
                found.add(moved)
    return found.pop() if len(found) == 1 else None


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _transpose(eqn: jex.JaxprEqn, i: int, axis: int) -> int:
    return tuple(eqn.params["permutation"]).index(axis)


def _reshape(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    """The output's axis of the same size with as many elements before it."""
    shape, out = _shape(eqn.invars[i]), _shape(eqn.outvars[0])
    before = math.prod(shape[:axis])
    same = (k for k, n in enumerate(out) if n == shape[axis] and math.prod(out[:k]) == before)
    return next(same, None)


def _broadcast_in_dim(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    return int(eqn.params["broadcast_dimensions"][axis]) if i == 0 else None


def _squeeze(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    gone = eqn.params["dimensions"]
    return None if axis in gone else axis - sum(int(d) < axis for d in gone)


def _reduce(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    gone = eqn.params["axes"]
    return None if axis in gone else axis - sum(int(d) < axis for d in gone)


def _dot_general(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    contract, batch = eqn.params["dimension_numbers"]
    if axis in contract[i]:
        return None
    if axis in batch[i]:
        return tuple(batch[i]).index(axis)
    free = [
        [a for a in range(len(_shape(v))) if a not in (*contract[k], *batch[k])]
        for k, v in enumerate(eqn.invars)
    ]
    return len(batch[0]) + (len(free[0]) if i == 1 else 0) + free[i].index(axis)


def _conv(eqn: jex.JaxprEqn, i: int, axis: int) -> int | None:
    spec = eqn.params["dimension_numbers"]
    return int(spec.out_spec[0]) if i == 0 and axis == spec.lhs_spec[0] else None


# Operations that only call another jaxpr with the same arguments, and the parameter that holds it.
WRAPPERS = {
    **CALLS,
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}

_RULES: dict[str, Callable[[jex.JaxprEqn, int, int], int | None]] = {
    "transpose": _transpose,
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast_in_dim,
    "squeeze": _squeeze,
    "argmax": _reduce,
    "argmin": _reduce,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
}
