"""Taps on the linear layers of a network: what goes into a layer, and a shift of what comes out.

    taps = find(network, params, names, x)                   # nothing is computed
    outputs, features = call(network, params, taps, shifts, x)

For one example, and a weight that enters one linear map y = map(a, W) and nothing else, the map is
a product of matrices, y = features @ W: positions by inputs, times inputs by outputs. A dense layer
has one position, and a convolution has its patches as the features. The derivative of any function
of the outputs with respect to W is then features^T @ (its derivative with respect to the shift),
which is how Kronecker factors are found (Grosse, Martens 2016, arXiv:1602.01407).
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.interpreter import example_axis, jaxprs
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import Equation, bind, shape_of
from bnn_jax.interpreter.linear_maps import Use, use_of
from bnn_jax.interpreter.random_array import bound, data_cells

# The largest number of times that a map is evaluated to find its features.
MAX_EVALUATIONS = 64


@dataclasses.dataclass(frozen=True)
class Tap:
    """A weight that enters one linear map, and nothing else.

    Attributes:
        in_axes, out_axes: the axes of the weight that are the map's inputs and its outputs.
        positions: how often an example meets the weight, in space or time.
        inputs, outputs: sizes of the weight as a matrix.
    """

    in_axes: tuple[int, ...]
    out_axes: tuple[int, ...]
    positions: int
    inputs: int
    outputs: int

    def leaf(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """Returns a matrix (inputs, outputs) as an array of the weight's shape."""
        axes = (*self.in_axes, *self.out_axes)
        return matrix.reshape([shape[a] for a in axes]).transpose(_inverse(axes))


Network = Callable[..., PyTree]
# (the weight's name, its tap or None for any other use, its features, y as a matrix) -> y
_Meet = Callable[[str, Tap | None, Callable[[], Array], Any], Any]


def find(
    network: Network, params: PyTree, names: Collection[str], *inputs: PyTree
) -> dict[str, Tap]:
    """Returns the weights that can be tapped.

    Args:
        network: (params, *inputs) -> outputs.
        params: the params tree; arrays or shapes.
        names: paths of the weights in question.
        inputs: one example, alone in its batch; arrays or shapes.
    """
    uses: dict[str, list[Tap | None]] = {}

    def meet(name: str, tap: Tap | None, features: Callable[[], Array], y: Any) -> Any:
        uses.setdefault(name, []).append(tap)
        return y

    def run(params: PyTree, inputs: tuple[PyTree, ...]) -> PyTree:
        return _interpreted(network, params, names, meet, inputs)

    jax.eval_shape(run, params, inputs)
    return {name: found[0] for name, found in uses.items() if len(found) == 1 and found[0]}


def call(
    network: Network,
    params: PyTree,
    taps: Mapping[str, Tap],
    shifts: Mapping[str, Array],
    *inputs: PyTree,
) -> tuple[PyTree, dict[str, Array]]:
    """Returns the outputs of the network, and the features (positions, inputs) of each tap.

    Args:
        network: (params, *inputs) -> outputs.
        params: the params tree.
        taps: what `find` returned.
        shifts: {path: array (positions, outputs)}, added to the output of each tapped map.
        inputs: one example, alone in its batch.
    """
    found: dict[str, Array] = {}

    def meet(name: str, tap: Tap | None, features: Callable[[], Array], y: Any) -> Any:
        found[name] = features()
        return y + shifts[name].astype(y.dtype)

    return _interpreted(network, params, taps, meet, inputs), found


@dataclasses.dataclass(frozen=True)
class _Tapped:
    """A weight on its way to its use; `axes` are the weight's axes in their present order."""

    name: str
    axes: tuple[int, ...]
    value: Array


def _interpreted(
    network: Network,
    params: PyTree,
    names: Collection[str],
    meet: _Meet,
    inputs: tuple[PyTree, ...],
) -> PyTree:
    """Calls the network, and `meet` at each use of the weights of these names."""
    inputs = jax.tree.map(jnp.asarray, inputs)
    jaxpr, consts, out_shape = jaxprs.trace(network, params, *inputs)

    def weight(path: Any, leaf: Array) -> Cell[Any]:
        name = path_name(path)
        return Cell(_Tapped(name, tuple(range(leaf.ndim)), leaf) if name in names else leaf)

    weights = [weight(path, leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]

    def array(cell: Cell[Any]) -> Any:
        if not isinstance(cell.value, _Tapped):
            return cell.value
        return meet(cell.value.name, None, lambda: cell.value.value, cell.value.value)

    def evaluate(eqn: Equation, cells: Sequence[Cell[Any]]) -> Sequence[Cell[Any]]:
        moved = _moved(eqn, cells)
        if moved is not None:
            return moved
        used = _used(eqn, cells, meet)
        if used is not None:
            return used
        return bound(eqn, [dataclasses.replace(cell, value=array(cell)) for cell in cells])

    rules: Rules[Any] = Rules(
        default=evaluate, plain=bound, concerns=lambda cell: isinstance(cell.value, _Tapped)
    )
    cells = interpret(jaxpr, consts, [*weights, *data_cells(jax.tree.leaves(inputs))], rules)
    return jax.tree.unflatten(jax.tree.structure(out_shape), [array(cell) for cell in cells])


def _moved(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]] | None:
    """The weight after an operation that moves its axes or casts it."""
    operation = eqn.primitive.name
    if operation not in ("transpose", "convert_element_type", "copy"):
        return None
    w: _Tapped = cells[0].value
    axes = w.axes
    if operation == "transpose":
        axes = tuple(axes[a] for a in eqn.params["permutation"])
    return [Cell(_Tapped(w.name, axes, bind(eqn, [w.value])[0]))]


def _used(eqn: Equation, cells: Sequence[Cell[Any]], meet: _Meet) -> list[Cell[Any]] | None:
    """The output of a linear map whose weight can be tapped."""
    at = [i for i, cell in enumerate(cells) if isinstance(cell.value, _Tapped)]
    if len(cells) != 2 or len(at) != 1:
        return None
    use = use_of(eqn, at[0])
    if use is None or use.w_out is None:
        return None
    w, x = cells[at[0]].value, cells[1 - at[0]].value
    w_out = use.w_out
    out = shape_of(eqn.outvars[0])
    places = [a for a in range(len(out)) if a not in use.y_out]
    order = (*places, *use.y_out)
    w_in = [a for a in range(w.value.ndim) if a not in w_out]
    tap = Tap(
        in_axes=tuple(w.axes[a] for a in w_in),
        out_axes=tuple(w.axes[a] for a in w_out),
        positions=math.prod(out[a] for a in places),
        inputs=math.prod(w.value.shape[a] for a in w_in),
        outputs=math.prod(w.value.shape[a] for a in w_out),
    )
    product = eqn.primitive.name == "dot_general"
    if not product and tap.inputs > MAX_EVALUATIONS * tap.outputs:
        return None

    def features() -> Array:
        if product:
            return _rows(eqn, at[0], x).reshape(tap.positions, tap.inputs)
        return _patches(use, x, w.value, (*w_in, *w_out), order, tap)

    (y,) = bind(eqn, [w.value, x] if at[0] == 0 else [x, w.value])
    matrix = y.transpose(order).reshape(tap.positions, tap.outputs)
    shifted = meet(w.name, tap, features, matrix)
    y = shifted.reshape([out[a] for a in order]).transpose(_inverse(order))
    (followed,) = example_axis.follow(eqn, cells)
    return [Cell(y, followed.data, followed.axis)]


def _rows(eqn: Equation, weight: int, x: Array) -> Array:
    """The data of a product, with the axes that are summed over last, in the weight's order."""
    contract, _ = eqn.params["dimension_numbers"]
    pairs = sorted(zip(contract[weight], contract[1 - weight], strict=True))
    summed = [axis for _, axis in pairs]
    return x.transpose([*(a for a in range(x.ndim) if a not in summed), *summed])


def _patches(
    use: Use,
    x: Array,
    w: Array,
    w_order: tuple[int, ...],
    order: tuple[int, ...],
    tap: Tap,
) -> Array:
    """The features of any linear map: its outputs under weights that pass one input each.

    A weight of m outputs passes m inputs at once.
    """
    shape = [w.shape[a] for a in w_order]
    columns = []
    for start in range(0, tap.inputs, tap.outputs):
        unit = np.eye(tap.inputs, tap.outputs, -start).reshape(shape).transpose(_inverse(w_order))
        y = use.map(x, jnp.asarray(unit, w.dtype))
        columns.append(y.transpose(order).reshape(tap.positions, tap.outputs))
    return jnp.concatenate(columns, axis=1)[:, : tap.inputs]


def _inverse(order: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(a) for a in np.argsort(order))
