"""Fixed points of a network's outputs, which are taken to be independent normal variables.

    outputs_s = mean + std * z_s,   s = 0, ..., POINTS - 1

The points z are the same for all examples: a Latin hypercube of normal quantiles, with mean 0,
variance 1 and, for few outputs, no correlation. So means and variances of the outputs are exact,
and averages of functions of one output very nearly. For ten classes the error of the probabilities
is that of about 1,500 independent samples of the logits.

Source: McKay, Beckman, Conover 1979, "A comparison of three methods for selecting values of input
variables in the analysis of output from a computer code".
"""

import functools
import itertools
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from bnn_jax.moments import Moments

POINTS = 128


def at_points(outputs: PyTree) -> Callable[[Array], PyTree]:
    """Returns the function from the number of a point to the outputs there.

    Args:
        outputs: as `moments.outputs` returns them.
    """
    leaves, structure = jax.tree.flatten(outputs, is_leaf=_is_moments)
    points = _points_for(leaves)

    def at(s: Array) -> PyTree:
        values = [
            y.mean + y.std * _like(z[s], y.mean) if _is_moments(y) else y
            for y, z in zip(leaves, points, strict=True)
        ]
        return jax.tree.unflatten(structure, values)

    return at


def means(outputs: PyTree) -> PyTree:
    """Returns the outputs with the mean in place of each `Moments`."""
    return _each(lambda y: y.mean, outputs)


def variances(outputs: PyTree) -> PyTree:
    """Returns the outputs with the variance in place of each `Moments`."""
    return _each(lambda y: y.variance, outputs)


def shifted(outputs: PyTree, z: Array) -> PyTree:
    """Returns the outputs at mean + z std, the same number z for all of them."""
    return _each(lambda y: y.mean + z.astype(y.dtype) * y.std, outputs)


def _each(fn: Callable[[Moments], Array], outputs: PyTree) -> PyTree:
    return jax.tree.map(lambda y: fn(y) if _is_moments(y) else y, outputs, is_leaf=_is_moments)


def _is_moments(x: object) -> bool:
    return isinstance(x, Moments)


def _like(point: Array, mean: Array) -> Array:
    """A point for the last axis of an output, the same along all others."""
    shape = (1,) * max(0, mean.ndim - 1) + point.shape
    return jnp.reshape(point, shape if mean.ndim else ()).astype(mean.dtype)


def _points_for(leaves: list[PyTree]) -> list[Array]:
    """For each output (points, size of its last axis)."""
    # An output (examples,) has one value for each example.
    sizes = [y.shape[-1] if len(y.shape) > 1 else 1 for y in leaves]
    ends = np.cumsum([0, *sizes])
    every = normal_points(int(ends[-1]))
    return [jnp.asarray(every[:, a:b]) for a, b in itertools.pairwise(ends)]


@functools.cache
def normal_points(size: int) -> Float[np.ndarray, "points size"]:
    """Returns fixed points of the standard normal distribution, the same in every process."""
    quantile = statistics.NormalDist().inv_cdf
    values = np.asarray([quantile((i + 0.5) / POINTS) for i in range(POINTS)])
    # RandomState's numbers are the same in all versions of NumPy.
    rng = np.random.RandomState(0)
    z = np.stack([rng.permutation(values) for _ in range(size)], axis=1)
    if size < POINTS // 2:
        covariance = z.T @ z / POINTS
        z = np.linalg.solve(np.linalg.cholesky(covariance), z.T).T
    return (z / z.std(axis=0)).astype(np.float32)
