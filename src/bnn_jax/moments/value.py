"""The mean and the variance of each element of an array."""

import dataclasses
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax.gaussian import Leaf

# Small against any variance in use, and so large that mean / variance is finite in float32.
_LEAST_VARIANCE = 1e-26


@dataclasses.dataclass(frozen=True, eq=False)
class Origin:
    """How a value follows from others by moving their elements.

    Attributes:
        function: of arrays in place of the arguments.
        arguments: uncertain or plain values.
    """

    function: Callable[..., Array]
    arguments: tuple[PyTree, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """The correlation between positions that share weights, see `positions`.

    Attributes:
        axes: those of the positions, sorted.
        compute: returns the correlation, with size 1 on these axes.
    """

    axes: tuple[int, ...]
    compute: Callable[[], Array]

    @cached_property
    def correlation(self) -> Array:
        return self.compute()


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("mean", "variance"),
    meta_fields=(),
    drop_fields=("origin", "shared"),
)
@dataclasses.dataclass(frozen=True)
class Moments:
    """The mean and the variance of each element; two arrays of one shape and dtype.

    Covariances between elements are not kept, but for a correlation between positions.

    Attributes:
        mean, variance: the two arrays.
        origin: how the value follows from others, if by moving their elements. No part of the
            pytree.
        shared: the correlation between positions, if it is known. No part of the pytree.
    """

    mean: Leaf
    variance: Leaf
    origin: Origin | None = None
    shared: Shared | None = None

    @property
    def std(self) -> Float[Array, "*shape"]:
        """The standard deviation; its gradient is finite where the variance is 0."""
        least = max(float(jnp.finfo(self.variance.dtype).tiny), _LEAST_VARIANCE)
        return jnp.sqrt(jnp.maximum(self.variance, least))

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.mean.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.mean.dtype


def certain(value: Array) -> Moments:
    """Returns a value without uncertainty: variance 0."""
    return Moments(value, jnp.zeros_like(value))
