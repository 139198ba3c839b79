"""Evaluation of any function of params with random weights in place of the params.

`apply` traces the function to a jaxpr and interprets it with each Gaussian weight represented by a
`RandomArray`: its mean, its std and its noise. The first operation that requires the weight
determines how it is sampled:

    reshape, transpose, cast, ...       act on mean and std; the weight is not sampled
    a linear map of data                the weight's estimator
    addition to data, the same for all  the estimator's sample for each example
      examples (a bias)
    any other operation                 one sample of the weight, the same for all uses

The jaxpr is interpreted twice: `plan` collects the uses of each weight, which determine its
estimator; then the values are computed. A weight that is used twice is therefore sampled once,
before its first use.

A product with other params or constants is not a linear map of data, because its rows are not
examples. So data must be passed as arguments; arrays that the function closes over are not
recognised as data.

This mechanism covers dense layers, convolutions, attention and einsum of any JAX network without
changes to layers. Control flow (scan, while, cond, remat) belongs to the other operations: its
weights are sampled before it is entered. Otherwise, a recurrent cell would use new noise at every
step.

Axis 0 of the data is the example axis, which `example_axis` tracks. A weight that is combined with
data whose examples are not on axis 0 is sampled once.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.tree_util import KeyPath
from jax.typing import ArrayLike
from jaxtyping import Array, PyTree

from bnn_jax import gaussian
from bnn_jax.gaussian import is_gaussian
from bnn_jax.interpreter import example_axis, jaxprs
from bnn_jax.interpreter.estimators import ESTIMATORS, check_estimator
from bnn_jax.interpreter.interpret import Cell, Rules, interpret
from bnn_jax.interpreter.jaxprs import VIEWS, Equation, bind, shape_of
from bnn_jax.interpreter.linear_maps import Use, operation_of, use_of
from bnn_jax.interpreter.policy import EstimatorError as EstimatorError
from bnn_jax.interpreter.policy import settle
from bnn_jax.interpreter.random_weight import RandomArray, Weight
from bnn_jax.noise import Draw, PRNGKey

Value = ArrayLike | RandomArray


@dataclasses.dataclass(frozen=True)
class _Addition:
    """The addition of a weight that is the same for all examples to data.

    Attributes:
        part: the slices that remove repeated values of the weight.
    """

    part: tuple[slice, ...]


def apply(
    fn: Callable[..., PyTree],
    key: PRNGKey | Draw,
    posterior: PyTree,
    *args: PyTree,
    estimator: Callable[[str], str] | str,
    strict: bool = False,
    approximate: bool = False,
    report: dict[str, list[str]] | None = None,
) -> PyTree:
    """Returns fn(params, *args) for params in which the Gaussian leaves are random.

    Args:
        fn: a pure function of a params tree and of arrays, which JAX can trace.
        key: the noise. The same key and posterior give the same weights as `gaussian.sample`.
        posterior: the params tree with Gaussian leaves.
        args: pytrees of arrays; axis 0 of the data is the example axis.
        estimator: a name for all weights, or a function from the path of a weight to a name.
        strict: raise an error if an estimator is invalid for its weight. Otherwise another
            estimator replaces it, see `Estimator.fallbacks`.
        approximate: use local_reparam also if an example uses a weight at several positions, as in
            a convolution or over time. The output then has the correct variance, but no covariance
            between positions.
        report: a dict that receives {path: [rule that was applied, ...]}.

    Raises:
        EstimatorError: an estimator is invalid for its weight, and `strict` is True.
    """
    draw = Draw.of(key)
    paths_and_leaves, treedef = jax.tree_util.tree_flatten_with_path(posterior, is_leaf=is_gaussian)
    keys = jax.tree.leaves(gaussian.leaf_keys(draw.key, posterior))

    def lift(path: KeyPath, leaf: PyTree, leaf_key: PRNGKey) -> PyTree:
        if not is_gaussian(leaf):
            return leaf
        name = gaussian.path_name(path)
        rule = check_estimator(estimator if isinstance(estimator, str) else estimator(name))
        weight = Weight(name, leaf, dataclasses.replace(draw, key=leaf_key), rule)
        if report is not None:
            report[name] = weight.applied
        if ESTIMATORS[rule].draws_once:
            return weight.drawn
        return RandomArray(weight, leaf.shape)

    lifted: list[Value] = [
        lift(p, leaf, k) for (p, leaf), k in zip(paths_and_leaves, keys, strict=True)
    ]
    params = jax.tree.unflatten(
        treedef, [x.mean if isinstance(x, RandomArray) else x for x in lifted]
    )
    if not any(isinstance(x, RandomArray) for x in lifted):
        return fn(params, *args)
    args = jax.tree.map(jnp.asarray, args)
    jaxpr, consts, out_shape = jaxprs.trace(fn, params, *args)
    data = data_cells(jax.tree.leaves(args))
    plan(jaxpr, consts, [*(Cell(x) for x in lifted), *data])
    values = [Cell(_settled(x, strict, approximate)) for x in lifted]
    out = interpret(jaxpr, consts, [*values, *data], _EVALUATE)
    return jax.tree.unflatten(jax.tree.structure(out_shape), [_sampled(cell.value) for cell in out])


def plan(jaxpr: jaxprs.Jaxpr, consts: Sequence[ArrayLike], cells: Sequence[Cell[Value]]) -> None:
    """Collects the uses of each `RandomArray` among the cells, without any computation."""
    for cell in interpret(jaxpr, consts, cells, _PLAN):
        if isinstance(cell.value, RandomArray):
            cell.value.weight.uses.others = True


def data_cells(leaves: Sequence[Array]) -> list[Cell[Array]]:
    examples = next((x.shape[0] for x in leaves if x.ndim > 0), None)
    return [Cell(x, True, 0 if x.ndim > 0 and x.shape[0] == examples else None) for x in leaves]


def _settled(value: Value, strict: bool, approximate: bool) -> Value:
    """Returns a weight with the estimator that its uses allow, sampled if one sample serves all."""
    if not isinstance(value, RandomArray):
        return jnp.asarray(value)
    w = value.weight
    w.estimator = settle(w.name, w.estimator, w.uses, strict, approximate)
    return value.sample() if ESTIMATORS[w.estimator].draws_once else value


def _sampled(value: Value) -> ArrayLike:
    return value.sample() if isinstance(value, RandomArray) else value


def _is_random(cell: Cell[object]) -> bool:
    return isinstance(cell.value, RandomArray)


def _match(eqn: Equation, cells: Sequence[Cell[object]]) -> RandomArray | Use | _Addition | None:
    """Returns the use of a random weight by an operation; None if it requires one sample."""
    operation = operation_of(eqn)
    random = [(i, c.value) for i, c in enumerate(cells) if isinstance(c.value, RandomArray)]
    position, w = random[0]
    if operation in VIEWS and len(cells) == 1:
        return _view(eqn, w)
    if len(random) > 1 or all(cell.axis != 0 for cell in cells):
        return None  # The estimators support examples on axis 0 only.
    if operation == "add":
        repeated = [a for a, n in enumerate(w.shape) if n == 1 or a in w.copies]
        part = tuple(slice(0, 1) if a in repeated else slice(None) for a in range(len(w.shape)))
        return _Addition(part) if 0 in repeated else None
    return None if w.copies else use_of(eqn, position)


def _view(eqn: Equation, w: RandomArray) -> RandomArray | None:
    copies = w.copies
    if eqn.primitive.name == "broadcast_in_dim":
        kept = dict(zip(eqn.params["broadcast_dimensions"], range(len(w.shape)), strict=True))
        copies = tuple(
            axis
            for axis, size in enumerate(eqn.params["shape"])
            if size > 1 and (axis not in kept or w.shape[kept[axis]] == 1 or kept[axis] in w.copies)
        )
    elif w.copies and eqn.primitive.name not in ("convert_element_type", "copy"):
        return None

    def view(x: Array) -> Array:
        return bind(eqn, [w.view(x)])[0]

    return RandomArray(w.weight, shape_of(eqn.outvars[0]), view, copies)


def _count(eqn: Equation, cells: Sequence[Cell[Value | None]]) -> Sequence[Cell[Value | None]]:
    """Records the uses of the random weights of an operation."""
    match = _match(eqn, cells)
    if isinstance(match, RandomArray):
        return [Cell(match)]
    for cell in cells:
        if isinstance(cell.value, RandomArray):
            uses = cell.value.weight.uses
            if match is None:
                uses.others = True
            else:
                uses.per_example += 1
                uses.positions |= isinstance(match, Use) and match.positions
    return example_axis.follow(eqn, cells)


def _evaluate(eqn: Equation, cells: Sequence[Cell[Value]]) -> Sequence[Cell[Value]]:
    """Returns the outputs of an operation with random weights; by default, for one sample."""
    match = _match(eqn, cells)
    if isinstance(match, RandomArray):
        return [Cell(match)]
    if match is None:
        return bound(eqn, cells)
    (w,) = (cell.value for cell in cells if isinstance(cell.value, RandomArray))
    (x,) = (cell.value for cell in cells if isinstance(cell.value, jax.Array))
    estimator = ESTIMATORS[w.weight.estimator]
    w.weight.applied.append(w.weight.estimator)
    if isinstance(match, Use):
        y = estimator.linear(w, match, x)
    else:
        bias = estimator.added(w, match.part, x.shape[0])
        y = x + jnp.broadcast_to(bias, shape_of(eqn.outvars[0]))
    (followed,) = example_axis.follow(eqn, cells)
    return [Cell(y, followed.data, followed.axis)]


def bound(eqn: Equation, cells: Sequence[Cell[Value]]) -> Sequence[Cell[Value]]:
    """Returns the outputs of an operation, with one sample of each random weight."""
    out = bind(eqn, [_sampled(cell.value) for cell in cells])
    followed = example_axis.follow(eqn, cells)
    return [Cell(y, c.data, c.axis) for c, y in zip(followed, out, strict=True)]


_PLAN: Rules[Value | None] = Rules(default=_count, plain=example_axis.follow, concerns=_is_random)
_EVALUATE: Rules[Value] = Rules(default=_evaluate, plain=bound, concerns=_is_random)
