"""Mean and variance of a function of one normal variable, element by element.

Smooth functions: Gauss-Hermite quadrature with 20 points, exact for polynomials of degree 19. A
function with kinks (leaky relu, elu, hard tanh) is integrated piece by piece between them, by
Gauss-Legendre quadrature with 20 points a piece on mean +- 7 std.
"""

import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bnn_jax.moments.value import Moments

POINTS = 20
_REACH = 7.0


def moments_of(fn: Callable[[Array], Array], x: Moments, kinks: Sequence[Array] = ()) -> Moments:
    """Returns the moments of fn(x).

    Args:
        fn: an elementwise function of arrays with the shape of x.
        x: normal variables.
        kinks: for each kink an array of the shape of x, where it is: (kink - mean) / std.

    Points at which the function is not finite, such as the logarithm of a negative number, are left
    out.
    """
    points, weights = _hermite(x) if not kinks else _pieces(x, kinks)
    values = jax.vmap(fn)(x.mean[None] + x.std[None] * points)
    weights = jnp.broadcast_to(weights, values.shape).astype(values.dtype)
    finite = jnp.isfinite(values)
    weights = jnp.where(finite, weights, 0.0)
    values = jnp.where(finite, values, 0.0)
    weights = weights / jnp.sum(weights, axis=0, keepdims=True)
    mean = jnp.sum(weights * values, axis=0, keepdims=True)
    variance = jnp.sum(weights * jnp.square(values - mean), axis=0)
    return Moments(mean[0], variance)


def _hermite(x: Moments) -> tuple[Array, Array]:
    points, weights = np.polynomial.hermite_e.hermegauss(POINTS)
    shape = (POINTS,) + (1,) * len(x.shape)
    return jnp.asarray(points.reshape(shape), x.dtype), jnp.asarray(weights.reshape(shape), x.dtype)


def _pieces(x: Moments, kinks: Sequence[Array]) -> tuple[Array, Array]:
    """Points and weights on (pieces * points, *shape), standardised."""
    inner = jnp.sort(jnp.stack([jnp.clip(kink, -_REACH, _REACH) for kink in kinks]), axis=0)
    end = jnp.full((1, *x.shape), _REACH, x.dtype)
    low, high = jnp.concatenate([-end, inner]), jnp.concatenate([inner, end])
    nodes, weights = np.polynomial.legendre.leggauss(POINTS)
    shape = (POINTS, 1) + (1,) * len(x.shape)
    node = jnp.asarray(nodes.reshape(shape), x.dtype)
    weight = jnp.asarray(weights.reshape(shape), x.dtype)
    half = (0.5 * (high - low))[None]
    points = (0.5 * (high + low))[None] + half * node
    density = jnp.exp(-0.5 * jnp.square(points)) / math.sqrt(2.0 * math.pi)
    flat = (-1, *x.shape)
    return points.reshape(flat), (half * weight * density).reshape(flat)
