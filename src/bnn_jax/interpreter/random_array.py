"""A random weight is an array: run any function of the params with Gaussian leaves in their place.

`apply` traces the function to a jaxpr and interprets it with each Gaussian weight carried as a
`RandomArray`: its mean, its std and its noise. The first operation that needs the weight decides
how it is sampled:

    reshape, transpose, cast, ...       act on mean and std; nothing is drawn yet
    a linear map of data                the weight's estimator
    addition to data, the same for all  the estimator's draw for each example
      examples (a bias)
    everything else                     one sample of the weight, the same wherever it is used

The jaxpr is read twice: `plan` collects the uses of each weight and settles its estimator, then the
values are computed. So a weight that is used twice is drawn once from its first use on.

A product with other params or constants is no linear map of data: its rows are not examples. So
data must come in as arguments; arrays that the function closes over are not known to be data.

One mechanism serves dense layers, convolutions, attention and einsum of any JAX network, and no
layer is rewritten. Control flow (scan, while, cond, remat) counts as everything else: its weights
are sampled before it is entered, or a recurrent cell would see fresh noise at every step.

Axis 0 of the data is the example axis; `example_axis` follows it. A weight that meets data whose
examples are not on axis 0 (any more) is sampled once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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


@dataclasses.dataclass(frozen=True)
class _Addition:
    """A weight that is the same for all examples is added to data.

    Attributes:
        part: the slices that leave out its copies.
    """

    part: tuple[slice, ...]


def apply(
    fn: Callable[..., Any],
    key: PRNGKey | Draw,
    posterior: PyTree,
    *args: Any,
    estimator: Callable[[str], str] | str,
    strict: bool = False,
    approximate: bool = False,
    report: dict[str, list[str]] | None = None,
) -> Any:
    """fn(params, *args), with the Gaussian leaves of the posterior random in the forward pass.

    Args:
        fn: a function of a params tree and of arrays, pure and traceable by JAX.
        key: gives the noise; the same key and posterior give the same weights as `gaussian.sample`.
        posterior: the params tree with Gaussian leaves.
        args: pytrees of arrays; axis 0 of the data is the example axis.
        estimator: a name for all, or a function from a weight's path to a name.
        strict: an estimator that would be wrong for a weight is an error. Otherwise another takes
            its place there, see `Estimator.fallbacks`.
        approximate: keep local_reparam where an example meets a weight at several positions, as in
            a convolution or over time: the output has the right variance but no covariance
            between positions.
        report: filled with {path: [rule that was applied, ...]}.

    Raises:
        EstimatorError: with `strict`, see there.
    """
    draw = Draw.of(key)
    paths_and_leaves, treedef = jax.tree_util.tree_flatten_with_path(posterior, is_leaf=is_gaussian)
    keys = jax.tree.leaves(gaussian.leaf_keys(draw.key, posterior))

    def lift(path: Any, leaf: Any, leaf_key: PRNGKey) -> Any:
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

    lifted = [lift(p, leaf, k) for (p, leaf), k in zip(paths_and_leaves, keys, strict=True)]
    params = jax.tree.unflatten(
        treedef, [x.mean if isinstance(x, RandomArray) else x for x in lifted]
    )
    if not any(isinstance(x, RandomArray) for x in lifted):
        return fn(params, *args)
    args = jax.tree.map(jnp.asarray, args)
    jaxpr, consts, out_shape = jaxprs.trace(fn, params, *args)
    data = data_cells(jax.tree.leaves(args))
    plan(jaxpr, consts, [*map(Cell, lifted), *data])
    values = [_settled(x, strict, approximate) for x in lifted]
    out = interpret(jaxpr, consts, [*map(Cell, values), *data], _EVALUATE)
    return jax.tree.unflatten(jax.tree.structure(out_shape), [_sampled(cell.value) for cell in out])


def plan(jaxpr: jaxprs.Jaxpr, consts: Sequence[Any], cells: Sequence[Cell[Any]]) -> None:
    """Collect the uses of each `RandomArray` among the cells; nothing is computed."""
    for cell in interpret(jaxpr, consts, cells, _PLAN):
        if isinstance(cell.value, RandomArray):
            cell.value.weight.uses.others = True


def data_cells(leaves: Sequence[Array]) -> list[Cell[Any]]:
    examples = next((x.shape[0] for x in leaves if x.ndim > 0), None)
    return [Cell(x, True, 0 if x.ndim > 0 and x.shape[0] == examples else None) for x in leaves]


def _settled(value: Any, strict: bool, approximate: bool) -> Any:
    """A weight with the estimator that its uses allow, or drawn if one draw serves them all."""
    if not isinstance(value, RandomArray):
        return jnp.asarray(value)
    w = value.weight
    w.estimator = settle(w.name, w.estimator, w.uses, strict, approximate)
    return value.sample() if ESTIMATORS[w.estimator].draws_once else value


def _sampled(value: Any) -> Any:
    return value.sample() if isinstance(value, RandomArray) else value


def _is_random(cell: Cell[Any]) -> bool:
    return isinstance(cell.value, RandomArray)


def _match(eqn: Equation, cells: Sequence[Cell[Any]]) -> RandomArray | Use | _Addition | None:
    """What an operation is to its random weight; None: it needs one sample."""
    operation = operation_of(eqn)
    random = [i for i, cell in enumerate(cells) if _is_random(cell)]
    w: RandomArray = cells[random[0]].value
    if operation in VIEWS and len(cells) == 1:
        return _view(eqn, w)
    if len(random) > 1 or all(cell.axis != 0 for cell in cells):
        return None  # The estimators know examples on axis 0 only.
    if operation == "add":
        repeated = [a for a, n in enumerate(w.shape) if n == 1 or a in w.copies]
        part = tuple(slice(0, 1) if a in repeated else slice(None) for a in range(len(w.shape)))
        return _Addition(part) if 0 in repeated else None
    return None if w.copies else use_of(eqn, random[0])


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


def _count(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    match = _match(eqn, cells)
    if isinstance(match, RandomArray):
        return [Cell(match)]
    for cell in cells:
        if _is_random(cell):
            uses = cell.value.weight.uses
            if match is None:
                uses.others = True
            else:
                uses.per_example += 1
                uses.positions |= isinstance(match, Use) and match.positions
    return example_axis.follow(eqn, cells)


def _evaluate(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    """The rule of an operation that meets a random weight; by default, one sample of it."""
    match = _match(eqn, cells)
    if isinstance(match, RandomArray):
        return [Cell(match)]
    if match is None:
        return bound(eqn, [dataclasses.replace(c, value=_sampled(c.value)) for c in cells])
    (w,) = (cell.value for cell in cells if _is_random(cell))
    (x,) = (cell.value for cell in cells if not _is_random(cell))
    estimator = ESTIMATORS[w.weight.estimator]
    w.weight.applied.append(w.weight.estimator)
    if isinstance(match, Use):
        y = estimator.linear(w, match, x)
    else:
        bias = estimator.added(w, match.part, x.shape[0])
        y = x + jnp.broadcast_to(bias, shape_of(eqn.outvars[0]))
    (followed,) = example_axis.follow(eqn, cells)
    return [Cell(y, followed.data, followed.axis)]


def bound(eqn: Equation, cells: Sequence[Cell[Any]]) -> list[Cell[Any]]:
    out = bind(eqn, [cell.value for cell in cells])
    followed = example_axis.follow(eqn, cells)
    return [Cell(y, c.data, c.axis) for c, y in zip(followed, out, strict=True)]


_PLAN: Rules[Any] = Rules(default=_count, plain=example_axis.follow, concerns=_is_random)
_EVALUATE: Rules[Any] = Rules(default=_evaluate, plain=bound, concerns=_is_random)
