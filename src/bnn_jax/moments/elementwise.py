"""The rules of elementwise operations.

Nodes of one base are joined to a longer chain, see `node`. Nodes of different bases count as
independent: sums, products, quotients and maxima of two have rules, other operations have none.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from bnn_jax.interpreter.jaxprs import Equation, bind, dtype_of, shape_of
from bnn_jax.moments import closed_forms, positions
from bnn_jax.moments.errors import no_rule
from bnn_jax.moments.node import Node, Operand, line_of
from bnn_jax.moments.value import Moments, Origin, certain

_COMPARISONS = ("ge", "gt", "le", "lt", "eq", "ne")

# Smooth, or with kinks that `_kinks` knows.
OPERATIONS = (
    *("add", "add_any", "sub", "mul", "div", "neg", "max", "min", "clamp", "select_n", "abs"),
    *("sign", "square", "integer_pow", "pow", "sqrt", "cbrt", "exp", "exp2", "expm1", "log"),
    *("log1p", "logistic", "tanh", "sinh", "cosh", "sin", "cos", "tan", "asinh", "atan"),
    *("erf", "erfc", "lgamma", "digamma", "convert_element_type", "copy", "reduce_precision"),
    *("is_finite", "and", "or", "not", "xor"),
    *_COMPARISONS,
)


def apply(eqn: Equation, operands: Sequence[Operand]) -> Node:
    """Returns the output of an elementwise operation with at least one `Node`."""
    shape = shape_of(eqn.outvars[0])
    operands = [_broadcast(x, shape) for x in operands]
    bases = {id(x.base) for x in operands if isinstance(x, Node)}
    if len(bases) > 1:
        return Node(_of_independent(eqn, operands))
    name = eqn.primitive.name
    scale = _scale(name, eqn, operands)
    lines = [line_of(x) if isinstance(x, Node) else x for x in operands]
    op = partial(_bind_one, eqn)
    (base,) = {id(x.base): x.base for x in operands if isinstance(x, Node)}.values()
    if scale is not None:
        return Node(base, name, op, tuple(operands), scale)
    kinks = tuple(k for x in operands if isinstance(x, Node) for k in x.kinks)
    return Node(
        base,
        name,
        op,
        tuple(operands),
        line=_line(name, eqn, operands, lines, base),
        kinks=kinks + _kinks(name, operands, lines),
    )


def _bind_one(eqn: Equation, *values: Any) -> Array:
    return bind(eqn, values)[0]


def _broadcast(x: Operand, shape: tuple[Any, ...]) -> Operand:
    """A smaller node as one of the full shape, whose elements count as independent."""
    if not isinstance(x, Node) or x.base.shape == shape:
        return x

    def expanded(values: Array) -> Array:
        return jnp.broadcast_to(values, shape)

    moments = x.moments
    origin = Origin(expanded, (x,))
    whole = Moments(expanded(moments.mean), expanded(moments.variance), origin)
    first = len(shape) - len(moments.shape)
    return Node(positions.of_broadcast(whole, moments, range(first, len(shape))))


def _scale(name: str, eqn: Equation, operands: Sequence[Operand]) -> Any:
    """The factor of the base in an affine operation of affine nodes; None for all others."""
    nodes = [x for x in operands if isinstance(x, Node)]
    if not all(x.is_affine for x in nodes):
        return None
    dtype = dtype_of(eqn.outvars[0])
    if not jnp.issubdtype(dtype, jnp.inexact):
        return None
    scales: list[Any] = [_factor(x) for x in operands]
    if name == "select_n" and not isinstance(operands[0], Node):
        full = [0.0 if s is None else s for s in scales[1:]]
        shape = shape_of(eqn.outvars[0])
        which = jnp.broadcast_to(operands[0], shape)
        cases = [jnp.broadcast_to(jnp.asarray(s, dtype), shape) for s in full]
        return _bind_one(eqn, which, *cases)
    if name in ("convert_element_type", "copy", "reduce_precision"):
        (scale,) = scales
        return scale if isinstance(scale, float) else jnp.asarray(scale).astype(dtype)
    if name == "neg":
        return -scales[0]
    if name in ("add", "add_any", "sub"):
        sign = -1.0 if name == "sub" else 1.0
        first, second = scales
        if second is None:
            return first
        return sign * second if first is None else first + sign * second
    if name == "mul" and len(nodes) == 1:
        plain, scale = (operands[1], scales[0]) if scales[1] is None else (operands[0], scales[1])
        return plain if isinstance(scale, float) and scale == 1.0 else scale * plain
    if name == "div" and scales[1] is None:
        return scales[0] / operands[1]
    return None


def _factor(x: Operand) -> Any:
    """The factor of the base in an affine node; None for a plain value."""
    if not isinstance(x, Node):
        return None
    return 1.0 if x.op is None else x.scale


def _line(
    name: str, eqn: Equation, operands: Sequence[Operand], lines: Sequence[Operand], base: Moments
) -> Node | None:
    """The affine function that the result equals on a part of the line."""
    nodes = [i for i, x in enumerate(operands) if isinstance(x, Node)]
    if len(nodes) != 1 or lines[nodes[0]] is None:
        return None
    if name in ("max", "min"):
        return lines[nodes[0]]
    if name == "clamp" and nodes == [1]:
        return lines[1]
    scale = _scale(name, eqn, lines)
    if scale is None:
        return None
    return Node(base, name, partial(_bind_one, eqn), tuple(lines), scale)


def _kinks(
    name: str, operands: Sequence[Operand], lines: Sequence[Operand]
) -> tuple[tuple[Node, Any], ...]:
    """The kinks that an operation adds: where an affine function meets a plain value."""
    if name in ("abs", "sign") and lines[0] is not None:
        return ((lines[0], 0.0),)
    if name == "clamp" and isinstance(lines[1], Node):
        return tuple((lines[1], x) for x in (operands[0], operands[2]) if not isinstance(x, Node))
    if name in (*_COMPARISONS, "max", "min"):
        found = [x for x in lines if isinstance(x, Node)]
        plain = [x for x in operands if not isinstance(x, Node)]
        if len(found) == len(plain) == 1:
            return ((found[0], plain[0]),)
    return ()


def _of_independent(eqn: Equation, operands: Sequence[Operand]) -> Moments:
    name = eqn.primitive.name
    if name == "select_n" and not isinstance(operands[0], Node):
        shape = shape_of(eqn.outvars[0])
        cases = [x.moments if isinstance(x, Node) else certain(x) for x in operands[1:]]
        which = jnp.broadcast_to(operands[0], shape)
        return Moments(
            _bind_one(eqn, which, *(c.mean for c in cases)),
            _bind_one(eqn, which, *(c.variance for c in cases)),
        )
    if len(operands) != 2 or not all(isinstance(x, Node) for x in operands):
        raise no_rule(eqn, "its arguments are several uncertain values")
    x, y = operands
    if name in ("add", "add_any", "sub"):
        mean = _bind_one(eqn, x.moments.mean, y.moments.mean)
        total = Moments(mean, x.moments.variance + y.moments.variance)
        return positions.of_sum(total, x.moments, y.moments)
    if name == "mul":
        product = closed_forms.product(x.moments, y.moments)
        return positions.of_product(product, x.moments, y.moments)
    if name == "div":
        inverse = Node(y.base, "inverse", _inverse, (y,))
        return closed_forms.product(x.moments, inverse.moments)
    if name == "max":
        return closed_forms.maximum(x.moments, y.moments)
    if name == "min":
        greatest = closed_forms.maximum(
            *(Moments(-z.mean, z.variance) for z in (x.moments, y.moments))
        )
        return Moments(-greatest.mean, greatest.variance)
    raise no_rule(eqn, "its arguments are several uncertain values")


def _inverse(x: Array) -> Array:
    return 1.0 / x
