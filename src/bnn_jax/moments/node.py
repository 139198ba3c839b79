"""A chain of elementwise operations on one uncertain array, evaluated as one function.

The factors of x * sigmoid(x) are not independent: both depend on the same x. So an
elementwise operation computes nothing yet. It makes a `Node`, which knows the array that the chain
starts from, its base, and the operations up to here. Moments are computed when an operation needs
them that is not elementwise, or that combines nodes of different bases:

    an affine function of the base        exactly
    relu, exp, abs, sin, ... of one       in closed form, for a normal base
    any other function of the base        by quadrature, for a normal base
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bnn_jax.moments import closed_forms, positions, quadrature
from bnn_jax.moments.value import Moments

# A `Node`, or an array or number without uncertainty.
Operand = Any


@dataclasses.dataclass(frozen=True, eq=False)
class Node:
    """An elementwise function of the base.

    Attributes:
        base: the uncertain array that the function takes.
        name: the last operation; "" for the base itself.
        op: the last operation as a function of its arguments.
        arguments: nodes of the same base, and plain values.
        scale: for an affine function the factor of the base, a number or an array; otherwise None.
        line: the affine function that this one equals on a part of the line, as relu(x) equals x.
        kinks: where it is not smooth: pairs of an affine node and the value it has there.
    """

    base: Moments
    name: str = ""
    op: Callable[..., Array] | None = None
    arguments: tuple[Operand, ...] = ()
    scale: Any = None
    line: "Node | None" = None
    kinks: tuple[tuple["Node", Any], ...] = ()

    @property
    def is_affine(self) -> bool:
        return self.op is None or self.scale is not None

    def at(self, base: Array) -> Array:
        """The value of the function, each operation computed once."""
        values: dict[int, Array] = {}

        def run(x: Operand) -> Any:
            if not isinstance(x, Node):
                return x
            if x.op is None:
                return base
            if id(x) not in values:
                values[id(x)] = x.op(*map(run, x.arguments))
            return values[id(x)]

        return run(self)

    @cached_property
    def moments(self) -> Moments:
        if self.op is None:
            return self.base
        return positions.of_function(self._own_moments(), self.base, self._gain)

    def _own_moments(self) -> Moments:
        if self.scale is not None:
            mean = self.at(self.base.mean)
            scale = jnp.asarray(self.scale, mean.dtype)
            return Moments(mean, jnp.square(scale) * self.base.variance.astype(mean.dtype))
        return _in_closed_form(self) or self._by_quadrature()

    def _gain(self) -> Array:
        """The derivative of each mean by the mean of the base."""
        if self.scale is not None:
            return jnp.broadcast_to(jnp.asarray(self.scale, self.base.dtype), self.base.shape)

        def mean(means: Array) -> Array:
            return self._on(Moments(means, self.base.variance))._own_moments().mean

        return jax.jvp(mean, (self.base.mean,), (jnp.ones_like(self.base.mean),))[1]

    def _on(self, base: Moments) -> "Node":
        """The same function of another base."""
        made: dict[int, Node] = {}

        def run(x: Operand) -> Any:
            if not isinstance(x, Node):
                return x
            if id(x) not in made:
                made[id(x)] = dataclasses.replace(
                    x,
                    base=base,
                    arguments=tuple(map(run, x.arguments)),
                    line=run(x.line),
                    kinks=tuple((run(line), value) for line, value in x.kinks),
                )
            return made[id(x)]

        found: Node = run(self)
        return found

    def _by_quadrature(self) -> Moments:
        unique = {(id(line), _identity(value)): (line, value) for line, value in self.kinks}
        kinks = [_standardised(*kink) for kink in unique.values()]
        return quadrature.moments_of(self.at, self.base, kinks)


def line_of(x: Operand) -> Node | None:
    """The affine function that x equals on a part of the line."""
    if not isinstance(x, Node):
        return None
    return x if x.is_affine else x.line


def _standardised(line: Node, value: Operand) -> Array:
    """Where the affine function has this value: (base - mean) / std."""
    base = line.base
    slope = jnp.asarray(1.0 if line.op is None else line.scale, base.dtype) * base.std
    slope = jnp.where(slope == 0.0, jnp.finfo(base.dtype).tiny, slope)
    return (jnp.asarray(value, base.dtype) - line.at(base.mean).astype(base.dtype)) / slope


def _identity(value: Operand) -> object:
    """Equal for equal numbers; arrays are told apart by identity."""
    known = isinstance(value, int | float | np.generic | np.ndarray) and np.ndim(value) == 0
    return float(value) if known else id(value)


def _in_closed_form(node: Node) -> Moments | None:
    """The moments of one known function of an affine node."""
    uncertain = [x for x in node.arguments if isinstance(x, Node)]
    if len(uncertain) != 1 or not uncertain[0].is_affine:
        return None
    (x,) = uncertain
    if node.name in ("max", "min"):
        (bound,) = (y for y in node.arguments if y is not x)
        return _bounded(x.moments, jnp.asarray(bound, x.moments.dtype), node.name == "min")
    known = _KNOWN.get(node.name)
    return None if known is None else known(x.moments)


def _bounded(x: Moments, bound: Array, above: bool) -> Moments:
    """max(x, bound) = bound + relu(x - bound), and min(x, bound) = bound - relu(bound - x)."""
    sign = -1.0 if above else 1.0
    excess = closed_forms.relu(Moments(sign * (x.mean - bound), x.variance))
    return Moments(bound + sign * excess.mean, excess.variance)


_KNOWN: dict[str, Callable[[Moments], Moments]] = {
    "exp": closed_forms.exp,
    "abs": closed_forms.absolute,
    "sin": closed_forms.sin,
    "cos": closed_forms.cos,
    "square": closed_forms.square,
}
