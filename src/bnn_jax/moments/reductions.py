"""Sums and maxima over axes, and what networks do with them: softmax, layer normalization, pooling.

A sum of elements has the sum of their variances, and of their covariances between positions that
share weights (`positions`). A maximum is taken of pairs, then of pairs of
those, each by Clark's formula.

A sum or maximum of x that meets x again is no independent variable. `Reduced` therefore remembers
what it was taken of, and these patterns have rules of their own:

    exp(x) / sum(exp(x))     softmax: the weights p at the means; to first order in x, the variance
                             p_i^2 ((1 - 2 p_i) v_i + sum_j p_j^2 v_j), at most p_i (1 - p_i)
    x - c sum(x)             centring: variance v_i (1 - 2 c) + c^2 sum_j v_j, exact
    l = log(sum(exp(x)))     of pairs, then of pairs of those: l = b + softplus(a - b) has a known
                             mean and variance, for a - b is one normal variable
    x - l                    log_softmax: variance v_i + v_l - 2 cov(x_i, l), where
                             cov(x_i, l) = v_i d E[l] / d m_i
    stop_gradient(max(x))    the shift of a softmax, which cancels out: a number

Source of the covariance: Stein 1981, "Estimation of the mean of a multivariate normal
distribution", lemma 2.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from bnn_jax.interpreter.jaxprs import Equation, bind
from bnn_jax.moments import closed_forms, positions, quadrature
from bnn_jax.moments.node import Node
from bnn_jax.moments.value import Moments


def _itself(x: Array) -> Array:
    return x


@dataclasses.dataclass(frozen=True, eq=False)
class Reduced:
    """A sum or a maximum over axes of a node, perhaps scaled and broadcast again.

    Attributes:
        of: the node.
        axes: those that it was reduced over.
        factor: of the sum; None for a maximum.
        view: reshapes and broadcasts an array that was reduced.
    """

    of: Node
    axes: tuple[int, ...]
    factor: Any
    view: Callable[[Array], Array] = _itself

    @cached_property
    def node(self) -> Node:
        x = self.of.moments
        if self.factor is None:
            greatest = maximum_over(x, self.axes)
            return Node(Moments(self.view(greatest.mean), self.view(greatest.variance)))
        total = Moments(jnp.sum(x.mean, self.axes), positions.variance_of_sum(x, self.axes))
        factor = jnp.asarray(self.factor, total.dtype)
        return Node(
            Moments(self.view(factor * total.mean), self.view(jnp.square(factor) * total.variance))
        )

    @property
    def at_means(self) -> Array:
        """The value at the means; of a maximum, that of the means."""
        if self.factor is None:
            return self.view(jnp.max(self.of.moments.mean, self.axes))
        return self.node.moments.mean

    def at(self, value: Array) -> Array:
        """Returns the reduction of a value of the node."""
        if self.factor is None:
            return self.view(jnp.max(value, self.axes))
        return self.view(jnp.asarray(self.factor, value.dtype) * jnp.sum(value, self.axes))

    def viewed(self, eqn: Equation) -> "Reduced":
        return dataclasses.replace(self, view=lambda x: bind(eqn, [self.view(x)])[0])

    def times(self, factor: object) -> "Reduced":
        return dataclasses.replace(self, factor=self.factor * factor)


@dataclasses.dataclass(frozen=True, eq=False)
class LogSumExp(Reduced):
    """log(sum(exp(x))) over axes of a node x, perhaps broadcast again; factor is None."""

    @cached_property
    def node(self) -> Node:
        total = log_sum_exp_over(self.of.moments, self.axes)
        return Node(Moments(self.view(total.mean), self.view(total.variance)))

    @property
    def at_means(self) -> Array:
        return self.at(self.of.moments.mean)

    def at(self, value: Array) -> Array:
        return self.view(jax.nn.logsumexp(value, self.axes))


def absolute(total: Reduced) -> Reduced | None:
    """Returns |total|, if total is a sum of exp(x): logsumexp takes it."""
    positive = total.factor is not None and total.factor > 0.0
    return total if positive and total.of.name == "exp" else None


def log_sum_exp(total: Reduced) -> LogSumExp | None:
    """Returns log(total), if total is sum(exp(x))."""
    if total.of.name != "exp" or total.factor != 1.0:
        return None
    (exponent,) = total.of.arguments
    return LogSumExp(exponent, total.axes, None, total.view)


def log_softmax(x: Node, total: Reduced) -> Node | None:
    """Returns x - log(sum(exp(x))), if it is that."""
    if total.of is not x or not isinstance(total, LogSumExp):
        return None
    moments, subtracted = x.moments, total.node.moments

    def mean(means: Array) -> Array:
        return jnp.sum(log_sum_exp_over(Moments(means, moments.variance), total.axes).mean)

    covariance = moments.variance * jax.grad(mean)(moments.mean)
    variance = moments.variance - 2.0 * covariance + subtracted.variance
    return Node(Moments(moments.mean - subtracted.mean, jnp.maximum(variance, 0.0)))


def softmax(numerator: Node, total: Reduced) -> Node | None:
    """Returns exp(x) / sum(exp(x)), if it is that."""
    if numerator.name != "exp" or total.of is not numerator or total.factor != 1.0:
        return None
    (exponent,) = numerator.arguments
    x = exponent.moments
    weights = jax.nn.softmax(x.mean, axis=total.axes)
    squares = jnp.square(weights) * x.variance
    spread = jnp.sum(squares, axis=total.axes, keepdims=True)
    variance = (1.0 - 2.0 * weights) * squares + jnp.square(weights) * spread
    return Node(Moments(weights, jnp.clip(variance, 0.0, weights * (1.0 - weights))))


def centred(x: Node, total: Reduced) -> Node | None:
    """Returns x - factor * sum(x), if it is that."""
    if total.of is not x or total.factor is None:
        return None
    moments, subtracted = x.moments, total.node.moments
    factor = jnp.asarray(total.factor, moments.dtype)
    variance = moments.variance * (1.0 - 2.0 * factor) + subtracted.variance
    return Node(Moments(moments.mean - subtracted.mean, jnp.maximum(variance, 0.0)))


def maximum_over(x: Moments, axes: Sequence[int]) -> Moments:
    """The maximum over axes, which are removed."""
    return _paired_over(closed_forms.maximum, x, axes)


def log_sum_exp_over(x: Moments, axes: Sequence[int]) -> Moments:
    """The logarithm of the sum of exponentials over axes, which are removed."""
    return _paired_over(_log_add_exp, x, axes)


def _log_add_exp(a: Moments, b: Moments) -> Moments:
    """The moments of log(exp(a) + exp(b)) for independent normal a and b."""
    difference = Moments(a.mean - b.mean, a.variance + b.variance)
    excess = quadrature.moments_of(jax.nn.softplus, difference)
    weight = quadrature.moments_of(jax.nn.sigmoid, difference).mean
    # The covariance of b and softplus(a - b) is -v_b E[sigmoid(a - b)].
    variance = b.variance * (1.0 - 2.0 * weight) + excess.variance
    return Moments(b.mean + excess.mean, jnp.maximum(variance, 0.0))


def _paired_over(
    pair: Callable[[Moments, Moments], Moments], x: Moments, axes: Sequence[int]
) -> Moments:
    for axis in axes:
        while (size := x.shape[axis]) > 1:
            x = _halved(pair, x, axis, size)
    return Moments(jnp.squeeze(x.mean, tuple(axes)), jnp.squeeze(x.variance, tuple(axes)))


def _halved(
    pair: Callable[[Moments, Moments], Moments], x: Moments, axis: int, size: int
) -> Moments:
    """The function of elements 0 and 1, 2 and 3, ...; an odd one out stays."""

    def part(start: int, stop: int, stride: int) -> Moments:
        return Moments(
            lax.slice_in_dim(x.mean, start, stop, stride, axis),
            lax.slice_in_dim(x.variance, start, stop, stride, axis),
        )

    even = size // 2 * 2
    paired = pair(part(0, even, 2), part(1, even, 2))
    if even == size:
        return paired
    odd = part(even, size, 1)
    return Moments(
        jnp.concatenate([paired.mean, odd.mean], axis),
        jnp.concatenate([paired.variance, odd.variance], axis),
    )


def window_maximum(eqn: Equation, x: Moments) -> Moments:
    """`reduce_window_max`: the maximum of the strided slices, one for each place in the window."""
    params = eqn.params
    # What lies outside of the array never wins: it is below all elements.
    least = lax.stop_gradient(jnp.min(x.mean - 10.0 * x.std))
    pads = [
        (low, high, d - 1)
        for (low, high), d in zip(params["padding"], params["base_dilation"], strict=True)
    ]
    mean = lax.pad(x.mean, least, pads)
    variance = lax.pad(x.variance, jnp.zeros((), x.variance.dtype), pads)
    window, dilation = params["window_dimensions"], params["window_dilation"]
    reach = [(n - 1) * d for n, d in zip(window, dilation, strict=True)]

    def at(place: tuple[int, ...]) -> Moments:
        start = [p * d for p, d in zip(place, dilation, strict=True)]
        stop = [s + n - r for s, n, r in zip(start, mean.shape, reach, strict=True)]
        strides = params["window_strides"]
        return Moments(
            lax.slice(mean, start, stop, strides), lax.slice(variance, start, stop, strides)
        )

    parts = [at(place) for place in np.ndindex(*window)]
    while len(parts) > 1:
        pairs = list(zip(parts[::2], parts[1::2], strict=False))
        odd = [parts[-1]] if len(parts) % 2 else []
        parts = [closed_forms.maximum(*pair) for pair in pairs] + odd
    return parts[0]
