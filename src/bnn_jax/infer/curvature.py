"""The curvature of the data loss: sums over examples of the generalised Gauss-Newton matrix.

    G = sum_i J_i^T H_i J_i,   J_i = d outputs_i / d weights,   H_i = d^2 nll_i / d outputs_i^2

H_i is the Hessian of any likelihood, without its negative eigenvalues (which Student's t and a
learned scale have), so H_i = S_i S_i^T with one column for each output. `Curvature` adds up G over
batches, for chosen weights:

    full        G itself
    diagonal    the diagonal of G
    kronecker   for a kernel, A (x) B / (examples * positions): the Kronecker product of the sums
                A of a a^T over the layer's inputs and B of b b^T over the columns of S_i^T J_i at
                its outputs; for every other weight the diagonal

A kernel is a weight that enters one product or convolution, as `interpreter.taps` finds it; biases,
and weights that are used twice or in a loop, are the other weights. The factors are exact for one
example without positions, and for a linear network whose likelihood has the same Hessian for all
examples. A network of more than `EXACT_OUTPUTS` outputs has random combinations of the columns of
S_i, with a fixed key, instead of all: their mean is right.

Sources: Martens, Grosse 2015, arXiv:1503.05671 (Kronecker factors); Grosse, Martens 2016,
arXiv:1602.01407 (convolutions); Daxberger et al. 2021, arXiv:2106.14806 (Laplace).
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from bnn_jax.gaussian import path_name
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.interpreter import taps
from bnn_jax.interpreter.taps import Tap
from bnn_jax.likelihoods import at_least_float32
from bnn_jax.noise import PRNGKey

Kind = Literal["full", "diagonal", "kronecker"]
# {name: sums}; the names are those of weights, and "count" and "nll".
Totals = dict[str, Any]

# Up to so many outputs every column of S is used in `diagonal` and `kronecker`; above, NUM_PROBES.
EXACT_OUTPUTS, NUM_PROBES = 32, 8
# Outputs of an example above which their Hessian is refused.
MAX_OUTPUTS = 2048
# Numbers of a batch that are in memory at once; examples above that are taken in turns.
MAX_NUMBERS = 2**25


class Example(NamedTuple):
    """What one example adds; in a batch, with examples on a new axis 0.

    Attributes:
        nll: its negative log likelihood in nats.
        features: (positions, inputs) of each tapped kernel.
        gradients: rows of S^T J: (columns, positions, outputs) at the outputs of a tapped kernel,
            (columns, *shape) of another weight.
    """

    nll: Float[Array, "*batch"]
    features: dict[str, Array]
    gradients: dict[str, Array]


@dataclasses.dataclass(frozen=True)
class Curvature:
    """The sums for one network; built by `curvature_of`.

    Attributes:
        problem: the inference problem.
        kind: see above.
        shapes: {path: shape} of the weights, in the order of the params.
        taps: the weights that are kernels.
        outputs: number of outputs of an example.
    """

    problem: Problem
    kind: Kind
    shapes: Mapping[str, tuple[int, ...]]
    taps: Mapping[str, Tap]
    outputs: int

    def zeros(self) -> Totals:
        """Returns the sums over no examples."""
        totals: Totals = {"count": jnp.zeros(()), "nll": jnp.zeros(())}
        if self.kind == "full":
            size = sum(map(math.prod, self.shapes.values()))
            return {**totals, "full": jnp.zeros((size, size))}
        for name, shape in self.shapes.items():
            tap = self.taps.get(name)
            if self.kind == "kronecker" and tap is not None:
                sizes = (tap.inputs, tap.outputs)
                totals[name] = tuple(jnp.zeros((size, size)) for size in sizes)
            else:
                totals[name] = jnp.zeros(shape)
        return totals

    def add(self, totals: Totals, params: PyTree, variables: PyTree, batch: Batch) -> Totals:
        """Returns the sums with those of a batch; to be jitted."""
        count = len(batch[1])
        size = count // _divisor(count, self._numbers())
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), totals["count"]), count)

        def part(totals: Totals, rows: Any) -> tuple[Totals, None]:
            chunk, chunk_keys = rows

            def one(key: PRNGKey, example: Any) -> Example:
                return self._example(key, params, variables, example)

            return self._added(totals, jax.vmap(one)(chunk_keys, chunk)), None

        # A loop over one part costs convolutions on CPU their multi-threaded kernels.
        if size == count:
            return part(totals, (batch, keys))[0]
        rows = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), (batch, keys))
        return lax.scan(part, totals, rows)[0]

    def _example(self, key: PRNGKey, params: PyTree, variables: PyTree, example: Any) -> Example:
        inputs, target = jax.tree.map(lambda a: a[None], example)
        leaves = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
        shifts = {name: jnp.zeros((t.positions, t.outputs)) for name, t in self.taps.items()}
        others = {name: leaves[name] for name in self.shapes if name not in self.taps}
        restored: list[Callable[[Array], PyTree]] = []

        def network(params: PyTree, inputs: PyTree) -> PyTree:
            return self.problem.evaluate(params, variables, inputs)

        def outputs(shifts: PyTree, others: PyTree) -> tuple[Array, dict[str, Array]]:
            merged = jax.tree.unflatten(
                jax.tree.structure(params), list((leaves | others).values())
            )
            out, features = taps.call(network, merged, self.taps, shifts, inputs)
            flat, restore = ravel_pytree(jax.tree.map(at_least_float32, out))
            restored.append(restore)
            return flat, features

        def nll(flat: Array) -> Array:
            return self.problem.likelihood.nll(restored[0](flat), target)

        flat, pull, features = jax.vjp(outputs, shifts, others, has_aux=True)
        columns = _square_root(jax.hessian(nll)(flat))
        if self.kind != "full" and self.outputs > EXACT_OUTPUTS:
            signs = jax.random.rademacher(key, (self.outputs, NUM_PROBES), columns.dtype)
            columns = columns @ signs / math.sqrt(NUM_PROBES)
        of_kernels, of_others = jax.vmap(pull)(columns.T)
        wide = jax.tree.map(at_least_float32, (features, {**of_kernels, **of_others}))
        return Example(nll(flat), *wide)

    def _added(self, totals: Totals, batch: Example) -> Totals:
        added = dict(totals)
        added["count"] = totals["count"] + len(batch.nll)
        added["nll"] = totals["nll"] + jnp.sum(batch.nll).astype(totals["nll"].dtype)
        if self.kind == "full":
            added["full"] = totals["full"] + self._full(batch)
            return added
        for name in self.shapes:
            g, tap = batch.gradients[name], self.taps.get(name)
            if tap is None:
                added[name] = totals[name] + jnp.sum(g**2, axis=(0, 1))
                continue
            a = batch.features[name]
            if self.kind == "kronecker":
                of_inputs, of_outputs = totals[name]
                added[name] = (
                    of_inputs + _einsum("bti,btj->ij", a, a),
                    of_outputs + _einsum("bcto,bctp->op", g, g),
                )
                continue
            if tap.positions == 1:
                squares = _einsum("bti,bcto->io", a**2, g**2)
            else:
                squares = jnp.sum(_einsum("bti,bcto->bcio", a, g) ** 2, axis=(0, 1))
            added[name] = totals[name] + tap.leaf(squares, self.shapes[name])
        return added

    def _full(self, batch: Example) -> Array:
        """G of the leaves, each raveled in its own order, and joined."""
        parts = {name: self._features_and_gradients(name, batch) for name in self.shapes}
        rows = []
        for name, (a, g) in parts.items():
            row = []
            for other, (other_a, other_g) in parts.items():
                outer = _einsum("bco,bcp->bop", g, other_g)
                block = _einsum("bi,bj,bop->iojp", a, other_a, outer)
                block = block.reshape(a.shape[1], g.shape[2], -1)
                block = self._raveled(name, block)
                block = block.T.reshape(other_a.shape[1], other_g.shape[2], -1)
                row.append(self._raveled(other, block).T)
            rows.append(jnp.concatenate(row, axis=1))
        return jnp.concatenate(rows)

    def _features_and_gradients(self, name: str, batch: Example) -> tuple[Array, Array]:
        """Arrays (batch, i), (batch, columns, o) whose products are the rows of S^T J."""
        g, tap = batch.gradients[name], self.taps.get(name)
        ones = jnp.ones((len(g), 1), g.dtype)
        if tap is None:
            return ones, g.reshape(*g.shape[:2], -1)
        a = batch.features[name]
        if tap.positions == 1:
            return a[:, 0], g[:, :, 0]
        return ones, _einsum("bti,bcto->bcio", a, g).reshape(*g.shape[:2], -1)

    def _raveled(self, name: str, rows: Array) -> Array:
        """Rows of a weight as a matrix, (i, o, n), in the order of the leaf, (size, n)."""
        tap, n = self.taps.get(name), rows.shape[-1]
        if tap is None:
            return rows.reshape(-1, n)
        matrix = rows.reshape(tap.inputs, tap.outputs, n)
        leaf = jax.vmap(lambda m: tap.leaf(m, self.shapes[name]), in_axes=-1, out_axes=-1)(matrix)
        return leaf.reshape(-1, n)

    def _numbers(self) -> int:
        """How many numbers an example needs in memory."""
        columns, numbers = min(self.outputs, EXACT_OUTPUTS), self.outputs**2
        for name, shape in self.shapes.items():
            tap, size = self.taps.get(name), math.prod(shape)
            if tap is None:
                numbers += columns * size
                continue
            numbers += tap.positions * (tap.inputs + columns * tap.outputs)
            if self.kind == "diagonal" and tap.positions > 1:
                numbers += columns * size
        return numbers


def curvature_of(
    problem: Problem, kind: Kind, paths: frozenset[str], variables: PyTree, inputs: PyTree
) -> Curvature:
    """Returns the empty sums for the weights of these paths.

    Args:
        problem: the inference problem.
        kind: of the curvature.
        paths: of the weights.
        variables: the network's other state.
        inputs: those of a batch; arrays or shapes.

    Raises:
        ValueError: an example has too many outputs.
    """
    leaves = jax.tree_util.tree_leaves_with_path(problem.params)
    shapes = {path_name(p): tuple(leaf.shape) for p, leaf in leaves if path_name(p) in paths}
    example = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape[1:]), a.dtype), inputs)

    def network(params: PyTree, inputs: PyTree) -> PyTree:
        return problem.evaluate(params, variables, inputs)

    out = jax.eval_shape(network, problem.params, example)
    outputs = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(out))
    if outputs > MAX_OUTPUTS:
        raise ValueError(
            f"laplace: the network has {outputs} outputs for each example, and the Hessian of the "
            f"likelihood is computed for at most {MAX_OUTPUTS}: use another method."
        )
    return Curvature(
        problem, kind, shapes, taps.find(network, problem.params, shapes, example), outputs
    )


def _square_root(hessian: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """S with S S^T = the positive part of a symmetric matrix."""
    if len(hessian) == 1:
        return jnp.sqrt(jnp.maximum(hessian, 0.0))
    values, vectors = jnp.linalg.eigh(hessian)
    return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]


def _divisor(count: int, numbers: int) -> int:
    """The smallest number of equal parts of a batch that are small enough."""
    fits = (n for n in range(1, count) if count % n == 0 and count // n * numbers <= MAX_NUMBERS)
    return next(fits, count)


def _einsum(subscripts: str, *arrays: Array) -> Array:
    return jnp.einsum(subscripts, *arrays, precision=lax.Precision.HIGHEST)
