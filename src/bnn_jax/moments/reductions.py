"""Sums and maxima over axes, and what networks do with them: softmax, layer normalization, pooling.

A sum of elements has the sum of their variances. A maximum is taken of pairs, then of pairs of
those, each by Clark's formula.

A sum or maximum of x that meets x again is no independent variable. `Reduced` therefore remembers
what it was taken of, and three patterns have rules of their own:

    exp(x) / sum(exp(x))     softmax: the weights p at the means; to first order in x, the variance
                             p_i^2 ((1 - 2 p_i) v_i + sum_j p_j^2 v_j), at most p_i (1 - p_i)
    x - c sum(x)             centring: variance v_i (1 - 2 c) + c^2 sum_j v_j, exact
    stop_gradient(max(x))    the shift of a softmax, which cancels out: a number
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
from bnn_jax.moments import closed_forms
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
        total = Moments(jnp.sum(x.mean, self.axes), jnp.sum(x.variance, self.axes))
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

    def viewed(self, eqn: Equation) -> "Reduced":
        return dataclasses.replace(self, view=lambda x: bind(eqn, [self.view(x)])[0])

    def times(self, factor: Any) -> "Reduced":
        return dataclasses.replace(self, factor=self.factor * factor)


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
    for axis in axes:
        while (size := x.shape[axis]) > 1:
            x = _halved(x, axis, size)
    return Moments(jnp.squeeze(x.mean, tuple(axes)), jnp.squeeze(x.variance, tuple(axes)))


def _halved(x: Moments, axis: int, size: int) -> Moments:
    """The maxima of elements 0 and 1, 2 and 3, ...; an odd one out stays."""

    def part(start: int, stop: int, stride: int) -> Moments:
        return Moments(
            lax.slice_in_dim(x.mean, start, stop, stride, axis),
            lax.slice_in_dim(x.variance, start, stop, stride, axis),
        )

    even = size // 2 * 2
    greatest = closed_forms.maximum(part(0, even, 2), part(1, even, 2))
    if even == size:
        return greatest
    odd = part(even, size, 1)
    return Moments(
        jnp.concatenate([greatest.mean, odd.mean], axis),
        jnp.concatenate([greatest.variance, odd.variance], axis),
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
        return Moments(
            *(lax.slice(a, start, stop, params["window_strides"]) for a in (mean, variance))
        )

    parts = [at(place) for place in np.ndindex(*window)]
    while len(parts) > 1:
        pairs = list(zip(parts[::2], parts[1::2], strict=False))
        odd = [parts[-1]] if len(parts) % 2 else []
        parts = [closed_forms.maximum(*pair) for pair in pairs] + odd
    return parts[0]
