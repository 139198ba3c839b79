"""From a curvature and a prior to the factors of a Laplace posterior and its evidence.

    posterior precision = G + prior precision
    log p(data) ~ log p(data | w) - sum (w - m)^2 p / 2 + sum log(p) / 2 - log det(G + p) / 2

at the MAP estimate w, for a normal prior with mean m and precision p. With the prior precision of
each layer free, the second line is maximised over it (MacKay 1992). It is a sum over layers, and
for one layer a function of the eigenvalues of G; a grid is refined around its maximum.

Source: Immer et al. 2021, "Scalable Marginal Likelihood Estimation for Model Selection in Deep
Learning", arXiv:2104.04975, equation 6; Daxberger et al. 2021, arXiv:2106.14806, section 3.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PyTree

from bnn_jax import priors
from bnn_jax.gaussian import path_name
from bnn_jax.infer.curvature import Curvature, Totals
from bnn_jax.infer.problem import Problem
from bnn_jax.likelihoods import at_least_float32
from bnn_jax.posteriors.laplace import Diagonal, Factor, Full, Kronecker
from bnn_jax.priors import NormalPrior, Prior

PriorPrecision = Literal["marginal_likelihood", "prior"]

# log10 of the smallest and the largest prior precision of a layer that is tried.
LOWEST, HIGHEST = -4.0, 8.0
GRID, ROUNDS = 65, 4


@dataclasses.dataclass(frozen=True)
class _Part:
    """The weights of one factor.

    Attributes:
        layer: the layer to which they belong.
        paths: the paths of its leaves.
        eigenvalues: those of G, in any order; None if they have not been computed.
        factor: (prior precision of each leaf) -> (factor, log det of the posterior precision).
    """

    layer: str
    paths: tuple[str, ...]
    eigenvalues: Array | None
    factor: Callable[[Sequence[Array]], tuple[Factor, Array]]


def factors(
    curvature: Curvature, totals: Totals, params: PyTree, prior_precision: PriorPrecision
) -> tuple[tuple[Factor, ...], dict[str, Array], Float[Array, ""]]:
    """Returns the factors, the prior precision of each layer, and the log evidence in nats.

    Args:
        curvature: says what the totals are.
        totals: the sums over all examples.
        params: the MAP estimate.
        prior_precision: "prior" for that of the model's prior, "marginal_likelihood" for the best
            one of each layer.
    """
    chosen = prior_precision == "marginal_likelihood"
    leaves = {path_name(p): leaf for p, leaf in jax.tree_util.tree_leaves_with_path(params)}
    weights = {name: at_least_float32(leaves[name]) for name in curvature.shapes}
    own = {name: _normal(prior_of(curvature.problem, name), w) for name, w in weights.items()}
    parts = _parts(curvature, totals, chosen)
    evidence = -totals["nll"]
    found: dict[str, Factor] = {}
    scales: dict[str, Array] = {}
    for layer in dict.fromkeys(part.layer for part in parts):
        members = [part for part in parts if part.layer == layer]
        names = [name for part in members for name in part.paths]
        squares = {name: (weights[name] - own[name][0]) ** 2 for name in names}
        precision = {name: own[name][1] for name in names}
        if chosen:
            eigenvalues = [p.eigenvalues for p in members if p.eigenvalues is not None]
            distance = sum(map(jnp.sum, squares.values()), jnp.zeros(()))
            best = best_precision(eigenvalues, distance)
            precision = {name: jnp.full(squares[name].shape, best) for name in names}
        for name in names:
            log_prior = jnp.log(precision[name]) - precision[name] * squares[name]
            evidence = evidence + 0.5 * jnp.sum(log_prior)
        scales[layer] = jnp.mean(jnp.stack([jnp.mean(precision[name]) for name in names]))
        for part in members:
            factor, log_det = part.factor([precision[name] for name in part.paths])
            found[part.paths[0]] = factor
            evidence = evidence - 0.5 * log_det
    return tuple(found.values()), scales, evidence


def best_precision(eigenvalues: Sequence[Array], distance: Float[Array, ""]) -> Float[Array, ""]:
    """Returns the prior precision p of a layer with the largest marginal likelihood.

    It maximises -sum(log(1 + eigenvalues / p)) - p * distance, between 1e-4 and 1e8.

    Args:
        eigenvalues: those of G of the layer.
        distance: the sum of the squared differences of its weights from the prior's mean.
    """

    def objective(log_precision: Array) -> Array:
        precision = jnp.exp(log_precision)
        terms = [jnp.sum(jnp.log1p(values / precision)) for values in eigenvalues]
        return -sum(terms, precision * distance)

    low, high = (jnp.log(jnp.asarray(10.0**power)) for power in (LOWEST, HIGHEST))
    centre, half = 0.5 * (low + high), 0.5 * (high - low)
    for _ in range(ROUNDS):
        grid = jnp.clip(centre + half * jnp.linspace(-1.0, 1.0, GRID), low, high)
        centre = grid[jnp.argmax(lax.map(objective, grid))]
        half = half * 4.0 / (GRID - 1)
    return jnp.exp(centre)


def prior_of(problem: Problem, path: str) -> Prior:
    """Returns the prior of one weight."""
    prior = problem.model.prior
    return prior if isinstance(prior, Prior) else priors.prior_leaves(prior)[path]


def layer_of(path: str) -> str:
    """Returns the layer of a weight, `conv1` of `conv1/kernel`."""
    return path.rpartition("/")[0] or path


def _normal(prior: Prior, weight: Array) -> tuple[Array, Array]:
    """Mean and precision of a prior, of the weight's shape; 0 and 1 if it is not normal."""
    mean, std = (prior.mean, prior.std) if isinstance(prior, NormalPrior) else (0.0, 1.0)

    def full(value: object) -> Array:
        return jnp.broadcast_to(jnp.asarray(value, weight.dtype), weight.shape)

    return full(mean), full(std) ** -2


def _parts(curvature: Curvature, totals: Totals, with_eigenvalues: bool) -> list[_Part]:
    if curvature.kind == "full":
        return [_full(totals["full"], curvature.shapes, with_eigenvalues)]
    examples = totals["count"]
    return [
        _kronecker(name, totals[name], curvature, examples)
        if isinstance(totals[name], tuple)
        else _diagonal(name, totals[name])
        for name in curvature.shapes
    ]


def _diagonal(name: str, diagonal: Array) -> _Part:
    def factor(precision: Sequence[Array]) -> tuple[Factor, Array]:
        total = diagonal + precision[0]
        return Diagonal(total**-0.5, (name,)), jnp.sum(jnp.log(total))

    return _Part(layer_of(name), (name,), diagonal, factor)


def _kronecker(
    name: str, sums: tuple[Array, Array], curvature: Curvature, examples: Array
) -> _Part:
    tap, shape = curvature.taps[name], curvature.shapes[name]
    axes = (*tap.in_axes, *tap.out_axes)
    a, left = _eigh(sums[0])
    b, right = _eigh(sums[1])
    eigenvalues = a[:, None] * b[None, :] / jnp.maximum(examples * tap.positions, 1.0)

    def factor(precision: Sequence[Array]) -> tuple[Factor, Array]:
        # One precision for the whole kernel: `laplace` refuses a prior with several.
        total = eigenvalues + jnp.ravel(precision[0])[0]
        std = (total**-0.5).reshape([shape[axis] for axis in axes])
        return Kronecker(left, right, std, (name,), axes), jnp.sum(jnp.log(total))

    return _Part(layer_of(name), (name,), eigenvalues, factor)


def _full(matrix: Array, shapes: Mapping[str, tuple[int, ...]], with_eigenvalues: bool) -> _Part:
    paths = tuple(shapes)
    leaf_shapes = tuple(shapes.values())
    values, vectors = _eigh(matrix) if with_eigenvalues else (None, None)

    def factor(precision: Sequence[Array]) -> tuple[Factor, Array]:
        joined = jnp.concatenate([jnp.ravel(p) for p in precision])
        if values is not None and vectors is not None:
            total = values + joined[0]
            root, log_det = vectors * (total**-0.5)[None, :], jnp.sum(jnp.log(total))
        else:
            lower = jnp.linalg.cholesky(matrix + jnp.diag(joined))
            identity = jnp.eye(len(lower), dtype=lower.dtype)
            root = solve_triangular(lower, identity, lower=True).T
            log_det = 2.0 * jnp.sum(jnp.log(jnp.diag(lower)))
        return Full(root, paths, leaf_shapes), log_det

    return _Part("last_layer", paths, values, factor)


def _eigh(matrix: Array) -> tuple[Array, Array]:
    """Eigenvalues, without the negative ones that rounding makes, and eigenvectors."""
    values, vectors = jnp.linalg.eigh(matrix)
    return jnp.maximum(values, 0.0), vectors
