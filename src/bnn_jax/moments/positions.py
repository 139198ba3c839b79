"""The correlation of an uncertain value between the positions that share a weight.

A kernel is one draw for all positions of an image, so the outputs of a convolution at two positions
are correlated, and their mean over positions has a larger variance than that of independent values.
One number for each example and channel is kept for it: all pairs of positions p != q have

    cov(x_p, x_q) = r s_p s_q,

with the stds s. Each rule gives the sum of the covariances over all pairs, and r follows from it:

    elementwise f      cov(f(x_p), f(x_q)) = g_p g_q cov(x_p, x_q),   g = d E[f(x)] / d m
    x + y              the sum of both covariances
    x y                cov_x cov_y + cov_x m_y m_y + m_x m_x cov_y
    convolution        sum over kernel elements w and inputs x at its positions:
                       v_w m_x m_x + (m_w^2 + v_w) cov_x
    maximum pooling    r stays
    broadcast          r = 1

Other operations lose r, and so count positions as independent. The value is computed only where a
sum over the positions needs it: in networks that end in a mean over positions.

Source of the elementwise rule, to first order in the covariance: Price 1958, "A useful theorem for
nonlinear devices having Gaussian inputs".
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from bnn_jax.interpreter.jaxprs import Equation
from bnn_jax.moments.value import Moments, Shared


def of_function(y: Moments, x: Moments, gain: Callable[[], Array]) -> Moments:
    """Returns y = f(x), elementwise, with its correlation; `gain` returns d E[y] / d m_x."""
    if x.shared is None or y.shape != x.shape:
        return y
    axes = x.shared.axes
    return _with_pairs(y, axes, lambda: _correlation(x) * _pairs(gain() * x.std, axes))


def of_sum(z: Moments, x: Moments, y: Moments) -> Moments:
    """Returns z = x + y or x - y, of independent x and y, with its correlation."""
    axes = _common_axes(x, y)
    if axes is None:
        return z

    def pairs() -> Array:
        return sum(_correlation(part) * _pairs(part.std, axes) for part in (x, y))

    return _with_pairs(z, axes, pairs)


def of_product(z: Moments, x: Moments, y: Moments) -> Moments:
    """Returns z = x y, of independent x and y, with its correlation."""
    axes = _common_axes(x, y)
    if axes is None:
        return z

    def pairs() -> Array:
        r_x, r_y = _correlation(x), _correlation(y)
        both = r_x * r_y * _pairs(x.std * y.std, axes)
        return both + r_x * _pairs(x.std * y.mean, axes) + r_y * _pairs(x.mean * y.std, axes)

    return _with_pairs(z, axes, pairs)


def of_pooling(y: Moments, x: Moments) -> Moments:
    """Returns y, the maxima over windows of positions of x, with the correlation of x."""
    return y if x.shared is None else dataclasses.replace(y, shared=x.shared)


def of_broadcast(y: Moments, x: Moments, dimensions: Sequence[int]) -> Moments:
    """Returns x broadcast to y: a single value at all positions.

    Args:
        y: what x was broadcast to, with the examples on axis 0.
        x: the value.
        dimensions: for each axis of x its axis in y.
    """
    source = {axis: i for i, axis in enumerate(dimensions)}
    axes = tuple(
        axis
        for axis in range(1, len(y.shape))
        if axis not in source or x.shape[source[axis]] != y.shape[axis]
    )
    if not axes or x.shared is not None:
        return y
    shape = tuple(1 if axis in axes else n for axis, n in enumerate(y.shape))
    return dataclasses.replace(y, shared=Shared(axes, lambda: jnp.ones(shape, y.dtype)))


def of_convolution(eqn: Equation, y: Moments, x: Moments, w: Moments) -> Moments:
    """Returns y = convolution(x, w) with its correlation."""
    params = eqn.params
    if params["batch_group_count"] != 1 or any(d != 1 for d in params["lhs_dilation"]):
        return y
    axes = tuple(sorted(params["dimension_numbers"].out_spec[2:]))
    return _with_pairs(y, axes, lambda: _convolution_pairs(params, y, x, w))


def variance_of_sum(x: Moments, axes: tuple[int, ...]) -> Array:
    """Returns the variance of the sum of x over axes."""
    variance = jnp.sum(x.variance, axes)
    if x.shared is None or not set(x.shared.axes) <= set(axes):
        return variance
    pairs = _correlation(x) * _pairs(x.std, x.shared.axes)
    return jnp.maximum(variance + jnp.sum(pairs, axes), 0.0)


def _correlation(x: Moments) -> Any:
    return 0.0 if x.shared is None else x.shared.correlation


def _common_axes(*values: Moments) -> tuple[int, ...] | None:
    """The axes of the positions; None if there are none, or different ones."""
    found = {x.shared.axes for x in values if x.shared is not None}
    return found.pop() if len(found) == 1 else None


def _pairs(u: Array, axes: tuple[int, ...]) -> Array:
    """The sum of u_p u_q over all pairs of different positions, with size 1 on their axes."""
    total = jnp.sum(u, axes, keepdims=True)
    return jnp.square(total) - jnp.sum(jnp.square(u), axes, keepdims=True)


def _with_pairs(y: Moments, axes: tuple[int, ...], pairs: Callable[[], Array]) -> Moments:
    """Returns y with the correlation that has this sum of covariances over pairs."""

    def compute() -> Array:
        largest = jnp.maximum(_pairs(y.std, axes), jnp.finfo(y.dtype).tiny)
        return jnp.clip(pairs() / largest, -1.0, 1.0)

    return dataclasses.replace(y, shared=Shared(axes, compute))


def _convolution_pairs(params: dict[str, Any], y: Moments, x: Moments, w: Moments) -> Array:
    """The sum of covariances over pairs of output positions, with size 1 on their axes."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    lhs, rhs, out = numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec
    window = tuple(w.shape[axis] for axis in rhs[2:])
    sizes = tuple(y.shape[axis] for axis in out[2:])

    def kernel(values: Array) -> Array:
        moved = jnp.transpose(values, rhs)
        return moved.reshape(groups, moved.shape[0] // groups, moved.shape[1], -1)

    def at_elements(values: Array) -> Array:
        """For each element of the window the pairs of the inputs that it meets: (k, n, g, i)."""
        moved = jnp.transpose(values, lhs)
        zero = jnp.zeros((), moved.dtype)
        moved = lax.pad(moved, zero, [(0, 0, 0)] * 2 + [(*pad, 0) for pad in params["padding"]])
        spatial = tuple(range(2, moved.ndim))
        strides = params["window_strides"]
        found = []
        for place in np.ndindex(*window):
            start = [p * d for p, d in zip(place, params["rhs_dilation"], strict=True)]
            stop = [s + (n - 1) * k + 1 for s, n, k in zip(start, sizes, strides, strict=True)]
            part = lax.slice(moved, (0, 0, *start), (*moved.shape[:2], *stop), (1, 1, *strides))
            found.append(jnp.squeeze(_pairs(part, spatial), spatial))
        return jnp.stack(found).reshape(len(found), moved.shape[0], groups, -1)

    def contracted(pairs: Array, weights: Array) -> Array:
        return jnp.einsum("kngi,goik->ngo", pairs, kernel(weights))

    total = contracted(at_elements(x.mean), w.variance)
    if x.shared is not None and x.shared.axes == tuple(sorted(lhs[2:])):
        r = jnp.transpose(x.shared.correlation, lhs).reshape(1, x.shape[lhs[0]], groups, -1)
        total += contracted(r * at_elements(x.std), jnp.square(w.mean) + w.variance)
    whole = total.reshape(total.shape[0], -1, *(1 for _ in sizes))
    return jnp.transpose(whole, [out.index(axis) for axis in range(len(out))])
