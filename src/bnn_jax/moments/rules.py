"""What each operation does with means and variances.

    linear(x, W) of independent x, W    mean = linear(m_x, m_W),
                                        variance = linear(v_x, m_W^2 + v_W) + linear(m_x^2, v_W)
    reshape, slice, sum, gather, ...    act on mean and variance
    concatenate, pad, ...               act on mean and variance; plain arguments have variance 0
    elementwise operations              see `elementwise` and `node`
    convolutions, then sums             also carry a correlation between positions, see `positions`
    sums, maxima, pooling               see `reductions`; so softmax and log_softmax
    rsqrt (of normalization layers)     a number, at the mean
    stop_gradient                       a number, at the mean
    everything else                     a `MomentsError`; so is control flow with uncertain values

The rule of linear maps is that of a sum of products x_i W_j without further factors, which products
of matrices, convolutions and registered linear maps are.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation, bind
from bnn_jax.interpreter.linear_maps import LINEAR_MAP
from bnn_jax.moments import elementwise, positions, reductions
from bnn_jax.moments.errors import MomentsError, no_rule
from bnn_jax.moments.node import Node, Operand
from bnn_jax.moments.reductions import Reduced
from bnn_jax.moments.value import Moments, Origin, certain

Cells = Sequence[Cell[PyTree]]


def is_uncertain(cell: Cell[PyTree]) -> bool:
    return isinstance(cell.value, Node | Reduced)


def moments_of(value: PyTree) -> Moments:
    """The moments of a cell's value; variance 0 of a plain one."""
    operand = _operand(value)
    return operand.moments if isinstance(operand, Node) else certain(jnp.asarray(operand))


def _constant(value: PyTree) -> Cell[PyTree]:
    """A constant array as a `jax.Array`; a number as it is."""
    return Cell(value if np.ndim(value) == 0 else jnp.asarray(value))


def _operand(value: PyTree) -> Operand:
    return value.node if isinstance(value, Reduced) else value


def _plain(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    return [Cell(y) for y in bind(eqn, [cell.value for cell in cells])]


def _unknown(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    raise no_rule(eqn)


def _elementwise(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    values = [cell.value for cell in cells]
    name = eqn.primitive.name
    if name == "max" and isinstance(values[0], Reduced) != isinstance(values[1], Reduced):
        found, other = values if isinstance(values[0], Reduced) else values[::-1]
        if _is_lowest(other):
            return [Cell(found)]
    if name in ("abs", "log") and isinstance(values[0], Reduced):
        of_sum = reductions.absolute if name == "abs" else reductions.log_sum_exp
        total = of_sum(values[0])
        if total is not None:
            return [Cell(total)]
    if len(values) == 2 and isinstance(values[1], Reduced) and isinstance(values[0], Node):
        node = _with_own_reduction(name, *values)
        if node is not None:
            return [Cell(node)]
    if name in ("div", "mul") and _is_sum(values[0]) and _is_number(values[1]):
        factor = float(values[1])
        return [Cell(values[0].times(1.0 / factor if name == "div" else factor))]
    return [Cell(elementwise.apply(eqn, [_operand(value) for value in values]))]


def _with_own_reduction(name: str, x: Node, total: Reduced) -> Node | None:
    """An operation of a node and its own sum, maximum or log-sum-exp, if it has a rule."""
    if name == "div":
        return reductions.softmax(x, total)
    if name == "sub":
        return reductions.centred(x, total) or reductions.log_softmax(x, total)
    return None


def _is_sum(value: PyTree) -> bool:
    return isinstance(value, Reduced) and value.factor is not None


def _is_number(value: PyTree) -> bool:
    return isinstance(value, int | float | np.generic | np.ndarray) and np.ndim(value) == 0


def _is_lowest(value: PyTree) -> bool:
    return _is_number(value) and float(value) == -np.inf


def _view(eqn: Equation, cells: Cells) -> list[Cell[PyTree]] | None:
    """An operation on the elements of its first argument; others are plain indices."""
    first, *others = (cell.value for cell in cells)
    if any(is_uncertain(cell) for cell in cells[1:]):
        return None
    if isinstance(first, Reduced) and not others:
        return [Cell(first.viewed(eqn))]
    x = moments_of(first)
    means, variances = (bind(eqn, [part, *others]) for part in (x.mean, x.variance))
    moved = [
        Moments(mean, variance, _origin(eqn, i, cells))
        for i, (mean, variance) in enumerate(zip(means, variances, strict=True))
    ]
    if eqn.primitive.name == "broadcast_in_dim":
        moved = [positions.of_broadcast(moved[0], x, eqn.params["broadcast_dimensions"])]
    return [Cell(Node(moments)) for moments in moved]


def _origin(eqn: Equation, output: int, cells: Cells) -> Origin:
    """How an output of a rearrangement follows from its arguments."""
    return Origin(lambda *x: bind(eqn, x)[output], tuple(cell.value for cell in cells))


def _call(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    """Step inside. An inner equation may not know its layer: the call does."""
    inner = jaxprs.called(eqn, jaxprs.WRAPPERS)
    assert inner is not None
    try:
        return interpret(*inner, cells, RULES)
    except MomentsError as error:
        raise error.at(eqn) from None


def _axes(eqn: Equation) -> tuple[int, ...]:
    return tuple(int(axis) for axis in eqn.params["axes"])


def _sum(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    return [Cell(Reduced(_operand(cells[0].value), _axes(eqn), 1.0))]


def _greatest(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    return [Cell(Reduced(_operand(cells[0].value), _axes(eqn), None))]


def _least(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    x = moments_of(cells[0].value)
    y = reductions.maximum_over(Moments(-x.mean, x.variance), _axes(eqn))
    return [Cell(Node(Moments(-y.mean, y.variance)))]


def _window_maximum(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    x = moments_of(cells[0].value)
    return [Cell(Node(positions.of_pooling(reductions.window_maximum(eqn, x), x)))]


def _joined(arrays: slice) -> Callable[[Equation, Cells], list[Cell[PyTree]] | None]:
    """The rule of an operation that puts arrays together; the other arguments are plain."""

    def rule(eqn: Equation, cells: Cells) -> list[Cell[PyTree]] | None:
        chosen = range(len(cells))[arrays]
        if any(is_uncertain(cell) for i, cell in enumerate(cells) if i not in chosen):
            return None
        parts = [
            moments_of(c.value) if i in chosen else Moments(c.value, c.value)
            for i, c in enumerate(cells)
        ]
        (mean,) = bind(eqn, [part.mean for part in parts])
        (variance,) = bind(eqn, [part.variance for part in parts])
        return [Cell(Node(Moments(mean, variance, _origin(eqn, 0, cells))))]

    return rule


def _linear(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    """A map that is linear in each of its two arguments."""
    lhs, rhs = (_operand(cell.value) for cell in cells)

    def apply(x: Array, y: Array) -> Array:
        return bind(eqn, [x, y])[0]

    if not isinstance(rhs, Node):
        x = lhs.moments
        moments = Moments(apply(x.mean, rhs), apply(x.variance, jnp.square(rhs)))
    elif not isinstance(lhs, Node):
        y = rhs.moments
        moments = Moments(apply(lhs, y.mean), apply(jnp.square(lhs), y.variance))
    else:
        x, y = lhs.moments, rhs.moments
        variance = apply(x.variance, jnp.square(y.mean) + y.variance)
        variance += apply(jnp.square(x.mean), y.variance)
        moments = Moments(apply(x.mean, y.mean), variance)
    if eqn.primitive.name == "conv_general_dilated":
        parts = (moments_of(cell.value) for cell in cells)
        moments = positions.of_convolution(eqn, moments, *parts)
    return [Cell(Node(moments))]


def _at_mean(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    value = cells[0].value
    mean = value.at_means if isinstance(value, Reduced) else moments_of(value).mean
    return [Cell(y) for y in bind(eqn, [mean])]


def _identities(eqn: Equation, cells: Cells) -> list[Cell[PyTree]]:
    return [Cell(cell.value) for cell in cells]


_VIEWS = (
    *("reshape", "transpose", "rev", "squeeze", "expand_dims", "broadcast_in_dim", "tile"),
    *("slice", "dynamic_slice", "gather", "split", "sharding_constraint"),
    *("cumsum", "reduce_window_sum"),
)

RULES: Rules[PyTree] = Rules(
    default=_unknown,
    table=dict.fromkeys(elementwise.OPERATIONS, _elementwise)
    | dict.fromkeys(_VIEWS, _view)
    | dict.fromkeys(("dot_general", "conv_general_dilated", LINEAR_MAP), _linear)
    | dict.fromkeys(("rsqrt", "stop_gradient"), _at_mean)
    | dict.fromkeys(("name", "optimization_barrier"), _identities)
    | dict.fromkeys(jaxprs.WRAPPERS, _call)
    | {
        "reduce_sum": _sum,
        "reduce_max": _greatest,
        "reduce_min": _least,
        "reduce_window_max": _window_maximum,
        "concatenate": _joined(slice(None)),
        "pad": _joined(slice(None)),
        "dynamic_update_slice": _joined(slice(2)),
    },
    enters={},
    plain=_plain,
    concerns=is_uncertain,
    constant=_constant,
)


def root(moments: Moments) -> Cell[PyTree]:
    """The cell of an uncertain value."""
    return Cell(Node(moments))
