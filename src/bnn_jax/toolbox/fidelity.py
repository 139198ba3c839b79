"""Fidelity of approximate inference: the distance between two predictive distributions.

The metrics compare the predictive of an approximate method, p, with that of a reference, q, such
as HMC or many weight samples, example by example. No targets are needed.

    agreement(p, q)                                    # classes, higher is better
    total_variation(p, q)                              # classes, lower is better
    total_variation_gaussian_mixtures(*p, *q)          # numbers, (mean, std) per weight sample
    wasserstein(samples_of_p, samples_of_q)            # numbers, in their own unit

The total variation between two distributions is the largest difference between the probabilities
that they assign to any event:

    TV(p, q) = sum over classes |p - q| / 2,    or the integral of |p(y) - q(y)| / 2

All are symmetric in p and q and run inside `jit`. An example of weight w counts as w copies.
Further axes after the examples are further outputs; a distance is averaged over them.

Sources: Izmailov, Vikram, Hoffman, Wilson 2021, "What Are Bayesian Neural Network Posteriors
Really Like?", arXiv:2104.14421 (agreement, total variation); Wilson, Izmailov, Hoffman, Gal, Li,
Pradier, Vikram, Foong, Lotfi, Farquhar 2022, "Evaluating Approximate Inference in Bayesian Deep
Learning", PMLR 176 (Wasserstein distance for regression).
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Probabilities, Weights

Densities = Float[ArrayIn, "examples points"]
Grid = Float[ArrayIn, "points"]
SamplesOfP = Float[ArrayIn, "samples_of_p examples *outputs"]
SamplesOfQ = Float[ArrayIn, "samples_of_q examples *outputs"]

# The borders of cells lie within this many standard deviations of each component's mean.
_REACH = 6.0


def agreement(p: Probabilities, q: Probabilities, *, weights: Weights = None) -> Float[Array, ""]:
    """Fraction of examples for which both have the same most probable class, in [0, 1].

    If classes are equally probable, the first counts.
    """
    p, q, w = _class_probabilities(p, q, weights)
    return _examples.mean_of(_same_class, w, p, q)


def total_variation(
    p: Probabilities, q: Probabilities, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean over examples of sum over classes |p - q| / 2, in [0, 1]; 0 if p and q are equal."""
    p, q, w = _class_probabilities(p, q, weights)
    return _examples.mean_of(_half_distance, w, p, q)


def total_variation_on_grid(
    p: Densities, q: Densities, grid: Grid, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean over examples of the integral of |p(y) - q(y)| / 2 over a common grid, in [0, 1].

    Args:
        p: densities at the grid points, per unit of y.
        q: densities of the other predictive at the same points.
        grid: values of y, ascending. The densities are taken to be linear between them, and zero
            outside the grid.
        weights: one per example.

    Raises:
        ValueError: shapes that do not match, negative densities, a grid that is not ascending, or
            densities whose integral over the grid is not within 0.01 of 1.
    """
    p, q = _examples.finite_floats(p=p, q=q)
    y = _examples.at_least_float32(grid).astype(p.dtype)
    if p.ndim != 2 or y.shape != p.shape[1:] or len(y) < 2:
        raise ValueError(
            "p and q must be of shape (examples, points), and grid of shape (points,) with at "
            f"least 2 points; got {p.shape} and {y.shape}."
        )
    _check_grid(y)
    _check_densities("p", p, y)
    _check_densities("q", q, y)
    return _examples.mean_of(_area_between, _examples.example_weights(weights, p), p, q, y)


def total_variation_gaussian_mixtures(
    p_mean: SamplesOfP,
    p_std: SamplesOfP,
    q_mean: SamplesOfQ,
    q_std: SamplesOfQ,
    *,
    points: int = 1024,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Mean over examples of the total variation between two mixtures of Gaussians, in [0, 1].

    Each mixture has one component N(mean, std^2) per weight sample, all of equal weight. The
    numbers of samples of p and q may differ.

    The line is cut into cells that are narrow where components are, and the total variation is the
    sum over cells of |probability under p - probability under q| / 2. The result is a lower bound
    of the exact value. It is exact except in cells where the densities cross, where the error falls
    with the square of the cell's width: below 1e-4 for two Gaussians with the default.

    Args:
        p_mean, p_std: (samples of p, examples, *outputs), noise of the targets included in std.
        q_mean, q_std: (samples of q, examples, *outputs).
        points: approximate number of cell borders. The cost is proportional to examples * points *
            samples; memory grows with points * samples only.
        weights: one per example.

    Raises:
        ValueError: shapes that do not match, NaN, or a std that is not positive.
    """
    _examples.check_at_least_one("points", points)
    pm, ps = _components("p", p_mean, p_std)
    qm, qs = _components("q", q_mean, q_std)
    _check_examples("p_mean", "q_mean", pm, qm)
    w = _examples.example_weights(weights, pm[0])
    return _examples.mean(_between_mixtures(pm, ps, qm, qs, points=points), w)


def wasserstein(
    p: SamplesOfP, q: SamplesOfQ, *, order: int = 1, weights: Weights = None
) -> Float[Array, ""]:
    """Mean over examples of the Wasserstein distance between two sets of predictive samples.

    In the unit of the samples. Each set is a distribution with equal probability on every sample:

        W_r(p, q) = (integral over u in (0, 1) of |quantile_p(u) - quantile_q(u)|^r)^(1 / r)

    This is computed exactly, also for different numbers of samples. Sets of n draws from the same
    distribution have a distance of order 1 / sqrt(n), so compare methods at equal n.

    Args:
        p: (samples of p, examples, *outputs).
        q: (samples of q, examples, *outputs).
        order: r; 1 is the area between the two distribution functions, 2 the distance that Wilson
            et al. report.
        weights: one per example.

    Raises:
        ValueError: shapes that do not match, NaN, or an order below 1.
    """
    _examples.check_at_least_one("order", order)
    (x,), (y,) = _examples.finite_floats(p=p), _examples.finite_floats(q=q)
    _check_examples("p", "q", x, y)
    dtype = np.result_type(x.dtype, y.dtype)
    w = _examples.example_weights(weights, x[0].astype(dtype))
    return _examples.mean(_wasserstein(x.astype(dtype), y.astype(dtype), order=order), w)


def _class_probabilities(
    p: Probabilities, q: Probabilities, weights: Weights
) -> tuple[Array, Array, Array]:
    p, q = _examples.class_probabilities(p, "p"), _examples.class_probabilities(q, "q")
    p, q = _examples.floats(p=p, q=q)
    return p, q, _examples.example_weights(weights, p)


def _components(name: str, mean: ArrayIn, std: ArrayIn) -> tuple[Array, Array]:
    m, s = _examples.finite_floats(**{f"{name}_mean": mean, f"{name}_std": std})
    _examples.check_positive(f"{name}_std", s)
    return m, s


def _check_examples(p_name: str, q_name: str, p: Array, q: Array) -> None:
    if min(p.ndim, q.ndim) < 2 or p.shape[1:] != q.shape[1:] or 0 in (len(p), len(q)):
        raise ValueError(
            f"{p_name} and {q_name} must be of shape (samples, examples, *outputs) with at least "
            f"one sample, and equal from axis 1 on; got {p.shape} and {q.shape}."
        )


def _check_grid(grid: Array) -> None:
    _examples.check_finite("grid", grid)
    values = _examples.known(grid)
    if values is not None and not (np.diff(values) > 0).all():
        raise ValueError("grid must be ascending, with no point twice: sort it.")


def _check_densities(name: str, density: Array, grid: Array) -> None:
    values, points = _examples.known(density), _examples.known(grid)
    if values is None or points is None:
        return
    if (values < 0).any():
        raise ValueError(f"{name} must be >= 0, got a minimum density of {values.min():.4g}.")
    mass = np.trapezoid(values, points, axis=1)
    if (np.abs(mass - 1) > 0.01).any():
        worst = mass[np.argmax(np.abs(mass - 1))]
        raise ValueError(
            f"{name} must integrate to 1 over the grid within 0.01, got {worst:.4g}: use a wider "
            "or finer grid."
        )


def _same_class(p: Array, q: Array) -> Array:
    return (jnp.argmax(p, axis=-1) == jnp.argmax(q, axis=-1)).astype(p.dtype)


def _half_distance(p: Array, q: Array) -> Array:
    return 0.5 * jnp.sum(jnp.abs(p - q), axis=-1)


def _area_between(p: Array, q: Array, grid: Array) -> Array:
    gap = p - q
    left, right = gap[:, :-1], gap[:, 1:]
    sides = jnp.abs(left) + jnp.abs(right)
    # Two triangles where a line crosses zero, a trapezoid elsewhere.
    crossing = (jnp.square(left) + jnp.square(right)) / jnp.where(sides > 0, sides, 1)
    height = jnp.where(left * right < 0, crossing, sides)
    return 0.25 * jnp.sum(height * jnp.diff(grid)[None], axis=1)


@partial(jax.jit, static_argnames="points")
def _between_mixtures(pm: Array, ps: Array, qm: Array, qs: Array, *, points: int) -> Array:
    components = len(pm) + len(qm)
    per_component = max(-(-points // components), 12)
    # A different shift for each component (golden ratio), so that similar ones share no borders.
    shifts = np.arange(components)[:, None] * 0.6180339887498949 % 1
    steps = (np.arange(per_component)[None] + shifts) / per_component
    offsets = jnp.asarray(_REACH * (2 * steps - 1), pm.dtype)
    # Every n-th candidate, so that many weight samples do not make many cells.
    every = max(components * per_component // points, 1)

    def of_one(example: tuple[Array, Array, Array, Array]) -> Array:
        pm, ps, qm, qs = example
        mean, std = jnp.concatenate([pm, qm]), jnp.concatenate([ps, qs])
        borders = jnp.sort((mean[:, None] + std[:, None] * offsets).ravel())[::every]
        below_p, below_q = (
            jnp.mean(ndtr((borders[None] - m[:, None]) / s[:, None]), axis=0)
            for m, s in ((pm, ps), (qm, qs))
        )
        gap = jnp.pad(below_p - below_q, 1)
        return 0.5 * jnp.sum(jnp.abs(jnp.diff(gap)))

    flat = tuple(x.reshape(len(x), -1).T for x in (pm, ps, qm, qs))
    return jax.lax.map(of_one, flat).reshape(pm.shape[1:])


@partial(jax.jit, static_argnames="order")
def _wasserstein(x: Array, y: Array, *, order: int) -> Array:
    # Both quantile functions are constant between multiples of 1 / len(x) and of 1 / len(y),
    # counted here in units of 1 / (len(x) * len(y)).
    n, m = len(x), len(y)
    levels = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    start, width = levels[:-1], np.diff(levels) / (n * m)
    gap = jnp.abs(jnp.sort(x, axis=0)[start // m] - jnp.sort(y, axis=0)[start // n])
    powers = jnp.tensordot(jnp.asarray(width, x.dtype), gap**order, axes=1)
    return powers if order == 1 else powers ** (1 / order)
