"""A random weight is an array: run any function of the params with Gaussian leaves in their place.

`apply` traces the function to a jaxpr and evaluates it with each Gaussian weight carried as a
`RandomArray`: its mean, its std and its key. The first operation that needs the weight decides how
it is sampled:

    reshape, transpose, cast, ...       act on mean and std; nothing is drawn yet
    dot_general, convolution with data  the leaf's estimator
    addition to data, the same for all  one draw per example (local_reparam), or one draw with
      examples (a bias)                 per-example signs (flipout)
    everything else                     one sample of the weight, the same wherever it is used

A product with other params or constants is of the last kind: their rows are not examples. So the
data has to come in as arguments; of an array that the function closes over it is not known that it
is data.

So one mechanism serves dense layers, convolutions, attention and einsum of any JAX network, and no
layer is rewritten. Control flow (scan, while, cond, remat) counts as everything else: its weights
are sampled before it is entered, or a recurrent cell would see fresh noise at every step.

Axis 0 of the data is the example axis; `example_axis` follows it. A weight that meets data whose
examples are not on axis 0 (any more) is sampled once.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian, is_gaussian
from bnn_jax.interpreter import estimators, example_axis
from bnn_jax.interpreter.equations import (
    CALLS,
    NHWC_CONVOLUTION,
    VIEWS,
    bind,
    operation_of,
    shape_of,
)
from bnn_jax.noise import PRNGKey


@dataclasses.dataclass(frozen=True)
class Origin:
    """Whether a value comes of the data, and the axis that counts the examples, if it is known."""

    data: bool
    axis: int | None


_NOT_DATA = Origin(False, None)


class EstimatorError(ValueError):
    """An estimator was asked for where its result would be wrong."""


@dataclasses.dataclass
class Weight:
    """One Gaussian leaf during one forward pass: its noise, and how it was used."""

    name: str
    posterior: Gaussian
    key: PRNGKey
    estimator: str
    shared: str
    antithetic: bool
    uses: list[str] = dataclasses.field(default_factory=list)
    drawn: Array | None = None

    def sample(self) -> Array:
        """The weight itself: drawn at the first use, the same at every later one."""
        if self.drawn is None:
            self.record("reparam")
            self.drawn = estimators.perturb(self.posterior.mean, self.deviation(), self.antithetic)
        return self.drawn

    def deviation(self) -> Array:
        """A draw's difference from the mean, std * eps."""
        return gaussian.deviation(self.key, self.posterior)

    def record(self, use: str) -> None:
        """Refuse a second use beside which the first would have had other noise."""
        if self.uses:
            raise EstimatorError(
                f"The weight {self.name!r} is used more than once in a forward pass (tied weights, "
                f"or a layer that is called again). The estimator {self.estimator!r} would give "
                f"each use its own noise: choose 'reparam' for it, as in "
                f"estimator={{{self.name!r}: 'reparam', '*': {self.estimator!r}}}."
            )
        self.uses.append(use)


@dataclasses.dataclass(frozen=True)
class RandomArray:
    """A view (reshaped, transposed, cast) of a weight that has not been sampled yet.

    `copies` are the axes along which the view repeats the weight's values.
    """

    weight: Weight
    view: Callable[[Array], Array]
    mean: Array
    std: Array
    copies: tuple[int, ...] = ()

    def sample(self) -> Array:
        return self.view(self.weight.sample())


def apply(
    fn: Callable[..., Any],
    key: PRNGKey,
    posterior: PyTree,
    *args: Any,
    estimator: Callable[[str], str] | str,
    shared: str = "flipout",
    antithetic: bool = False,
    report: dict[str, list[str]] | None = None,
) -> Any:
    """fn(params, *args), with the Gaussian leaves of the posterior random in the forward pass.

    Args:
        fn: a function of a params tree and of arrays, pure and traceable by JAX.
        key: gives the noise; the same key and posterior give the same weights as `gaussian.sample`.
        posterior: the params tree with Gaussian leaves.
        args: pytrees of arrays; axis 0 of the data is the example axis.
        estimator: a name for all, or a function from a weight's path to a name.
        shared: what local_reparam becomes where an example meets a weight at several positions, as
            in a convolution or over time: "flipout"; "error"; or "approximate", local_reparam all
            the same, whose output has the right variance but no covariance between positions.
        antithetic: the twin with all noise negated, for the same key.
        report: filled with {path: [rule that was applied, ...]}.

    Raises:
        EstimatorError: local_reparam or flipout for a weight that is used twice; with
            shared="error", local_reparam where positions share weights.
    """
    if shared not in ("flipout", "error", "approximate"):
        raise ValueError(f"shared is flipout, error or approximate; got {shared!r}.")
    paths_and_leaves, treedef = jax.tree_util.tree_flatten_with_path(posterior, is_leaf=is_gaussian)
    keys = jax.tree.leaves(gaussian.leaf_keys(key, posterior))

    def lift(path: Any, leaf: Any, leaf_key: PRNGKey) -> Any:
        if not is_gaussian(leaf):
            return leaf
        name = gaussian.path_name(path)
        rule = estimators.check_estimator(
            estimator if isinstance(estimator, str) else estimator(name)
        )
        weight = Weight(name, leaf, leaf_key, rule, shared, antithetic)
        if report is not None:
            report[name] = weight.uses
        if rule == "reparam":
            return weight.sample()
        return RandomArray(weight, lambda w: w, leaf.mean, leaf.std)

    lifted = [lift(p, leaf, k) for (p, leaf), k in zip(paths_and_leaves, keys, strict=True)]
    params = jax.tree.unflatten(
        treedef, [x.mean if isinstance(x, RandomArray) else x for x in lifted]
    )
    if not any(isinstance(x, RandomArray) for x in lifted):
        return fn(params, *args)
    args = jax.tree.map(jnp.asarray, args)
    closed, out_shape = jax.make_jaxpr(fn, return_shape=True)(params, *args)
    flat_params = [x if isinstance(x, RandomArray) else jnp.asarray(x) for x in lifted]
    data = jax.tree.leaves(args)
    examples = next((x.shape[0] for x in data if x.ndim > 0), None)
    origins = [_NOT_DATA] * len(flat_params) + [
        Origin(True, 0 if x.ndim > 0 and x.shape[0] == examples else None) for x in data
    ]
    out, _ = _evaluate(closed.jaxpr, closed.consts, [*flat_params, *data], origins)
    return jax.tree.unflatten(jax.tree.structure(out_shape), [_sampled(x) for x in out])


def _evaluate(
    jaxpr: jex.Jaxpr, consts: Sequence[Any], args: Sequence[Any], origins: Sequence[Origin]
) -> tuple[list[Any], list[Origin]]:
    """Evaluate a jaxpr, equation by equation, on values of which some are RandomArrays.

    Args:
        origins: for each argument, whether it is data, and where its examples are.

    Returns:
        The outputs, and the origin of each.
    """
    env: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    # Constants are not data: their rows are no examples either. So data has to be an argument.
    origin_of = dict(zip(jaxpr.invars, origins, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if isinstance(atom, jex.Literal) else env[atom]

    def origin(atom: Any) -> Origin:
        return _NOT_DATA if isinstance(atom, jex.Literal) else origin_of.get(atom, _NOT_DATA)

    for eqn in jaxpr.eqns:
        values = [read(atom) for atom in eqn.invars]
        inputs = [origin(atom) for atom in eqn.invars]
        axes = [o.axis for o in inputs]
        with_data = any(o.data for o in inputs)
        outputs = [Origin(with_data, axis) for axis in example_axis.of_outputs(eqn, axes)]
        if not any(isinstance(v, RandomArray) for v in values):
            out = bind(eqn, values)
        elif eqn.primitive.name in CALLS and operation_of(eqn) not in _LINEAR:
            inner = eqn.params[CALLS[eqn.primitive.name]]
            out, outputs = _evaluate(inner.jaxpr, inner.consts, values, inputs)
        else:
            out = _random_equation(eqn, values, axes)
        env.update(zip(eqn.outvars, out, strict=True))
        origin_of.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars], [origin(atom) for atom in jaxpr.outvars]


def _random_equation(
    eqn: jex.JaxprEqn, values: Sequence[Any], axes: Sequence[int | None]
) -> Sequence[Any]:
    """The rule of an operation that meets a random weight; by default, one sample of it.

    Args:
        axes: the example axis of each value; the estimators know axis 0 only.
    """
    operation = operation_of(eqn)
    random = [v for v in values if isinstance(v, RandomArray)]
    out = None
    if operation in VIEWS and len(values) == 1:
        out = _view(eqn, random[0])
    elif operation in _LINEAR and len(random) == 1 and 0 in axes:
        out = _LINEAR[operation](eqn, *values)
    return [out] if out is not None else bind(eqn, [_sampled(v) for v in values])


def _sampled(value: Any) -> Any:
    return value.sample() if isinstance(value, RandomArray) else value


def _view(eqn: jex.JaxprEqn, w: RandomArray) -> RandomArray | None:
    def view(x: Array) -> Array:
        return bind(eqn, [x])[0]

    copies = w.copies
    if eqn.primitive.name == "broadcast_in_dim":
        kept = dict(zip(eqn.params["broadcast_dimensions"], range(w.mean.ndim), strict=True))
        shape = eqn.params["shape"]
        copies = tuple(
            axis
            for axis, size in enumerate(shape)
            if size > 1
            and (axis not in kept or w.mean.shape[kept[axis]] == 1 or kept[axis] in w.copies)
        )
    elif w.copies and eqn.primitive.name not in ("convert_element_type", "copy"):
        return None
    whole = w.view
    return RandomArray(w.weight, lambda x: view(whole(x)), view(w.mean), view(w.std), copies)


def _dot_general(eqn: jex.JaxprEqn, lhs: Any, rhs: Any) -> Any:
    """Data times weight, in either order."""
    (contract, batch) = eqn.params["dimension_numbers"]
    weight_first = isinstance(lhs, RandomArray)
    w, x = (lhs, rhs) if weight_first else (rhs, lhs)
    x_contract, w_contract = (contract[1], contract[0]) if weight_first else contract
    x_batch, w_batch = (batch[1], batch[0]) if weight_first else batch
    x_free = [a for a in range(x.ndim) if a not in (*x_contract, *x_batch)]
    w_free = [a for a in range(w.mean.ndim) if a not in (*w_contract, *w_batch)]
    if w.copies or not x_free or x_free[0] != 0:
        return None  # The examples are contracted, or a batch axis of the product.
    x_is_example = [0, *x_contract, *x_batch]
    in_signs = tuple(n if a in x_is_example else 1 for a, n in enumerate(x.shape))
    x_out = [n if a == 0 else 1 for a, n in enumerate(x.shape) if a in x_free]
    w_out = [w.mean.shape[a] for a in w_free]
    free = [*w_out, *x_out] if weight_first else [*x_out, *w_out]
    out_signs = (*(x.shape[a] for a in x_batch), *free)

    def linear(data: Any, weights: Any) -> Any:
        return bind(eqn, [weights, data] if weight_first else [data, weights])[0]

    shared = len(x_free) > 1
    return _estimate(linear, x, w, shared, in_signs, out_signs)


def _conv_general_dilated(eqn: jex.JaxprEqn, lhs: Any, rhs: Any) -> Any:
    """A convolution of data with a random kernel."""
    if isinstance(lhs, RandomArray) or rhs.copies or eqn.params["batch_group_count"] != 1:
        return None
    spec = eqn.params["dimension_numbers"]
    if spec.lhs_spec[0] != 0:
        return None  # The examples are not what the convolution takes for a batch.
    return _convolution(eqn, lhs, rhs, spec.lhs_spec[:2], spec.out_spec[:2])


def _nhwc_convolution(eqn: jex.JaxprEqn, lhs: Any, rhs: Any) -> Any:
    """A jitted function of images (examples, height, width, channels) and a random kernel."""
    if isinstance(lhs, RandomArray) or rhs.copies:
        return None
    return _convolution(eqn, lhs, rhs, (0, 3), (0, 3))


def _convolution(
    eqn: jex.JaxprEqn, lhs: Array, rhs: RandomArray, in_axes: Sequence[int], out_axes: Sequence[int]
) -> Array:
    """The axes are those of examples and channels, of the data and of the result."""
    out_shape = shape_of(eqn.outvars[0])
    in_signs = tuple(n if a in in_axes else 1 for a, n in enumerate(lhs.shape))
    out_signs = tuple(n if a in out_axes else 1 for a, n in enumerate(out_shape))

    def linear(data: Any, weights: Any) -> Any:
        return bind(eqn, [data, weights])[0]

    positions = [n for a, n in enumerate(out_shape) if a not in out_axes]
    shared = any(n > 1 for n in positions)
    return _estimate(linear, lhs, rhs, shared, in_signs, out_signs)


def _estimate(
    linear: Callable[[Any, Any], Any],
    x: Array,
    w: RandomArray,
    shared: bool,
    in_signs: tuple[int, ...],
    out_signs: tuple[int, ...],
) -> Array:
    weight = w.weight
    options = {"antithetic": weight.antithetic}
    if shared and weight.estimator == "local_reparam" and weight.shared == "error":
        raise EstimatorError(shared_positions(weight.name))
    if weight.estimator == "flipout" or (shared and weight.shared == "flipout"):
        weight.record("flipout")
        deviation = w.view(weight.deviation())
        return estimators.flipout(
            weight.key,
            linear,
            x,
            w.mean,
            deviation,
            in_signs=in_signs,
            out_signs=out_signs,
            **options,
        )
    weight.record("local_reparam")
    return estimators.local_reparam(weight.key, linear, x, w.mean, w.std, **options)


def shared_positions(name: str) -> str:
    """The message for local_reparam where an example meets a weight at more than one position."""
    return (
        f"local_reparam is not exact for {name!r}: an example meets this weight at more than one "
        "position (space or time), and drawing the outputs independently loses their covariance. "
        "Choose 'flipout' for it, or allow the approximation with approximate=True."
    )


def _add(eqn: jex.JaxprEqn, lhs: Any, rhs: Any) -> Any:
    """Data plus a weight that is the same for all examples: a bias."""
    w, x = (lhs, rhs) if isinstance(lhs, RandomArray) else (rhs, lhs)
    repeated = [a for a, n in enumerate(w.mean.shape) if n == 1 or a in w.copies]
    if 0 not in repeated:
        return None
    weight = w.weight
    weight.record(weight.estimator)
    first = tuple(slice(0, 1) if a in repeated else slice(None) for a in range(w.mean.ndim))
    per_example = (x.shape[0], *w.mean[first].shape[1:])
    if weight.estimator == "flipout":
        signs = noise.signs(jax.random.fold_in(weight.key, 1), per_example, w.mean.dtype)
        spread = w.view(weight.deviation())[first] * signs
    else:
        spread = w.std[first] * noise.normal(weight.key, per_example, w.mean.dtype)
    bias = estimators.perturb(w.mean[first], spread, weight.antithetic)
    return x + jnp.broadcast_to(bias, shape_of(eqn.outvars[0]))


_LINEAR: dict[str, Callable[..., Any]] = {
    lax.dot_general_p.name: _dot_general,
    lax.conv_general_dilated_p.name: _conv_general_dilated,
    lax.add_p.name: _add,
    # A jitted function by this name is a convolution, however it computes it.
    NHWC_CONVOLUTION: _nhwc_convolution,
}
