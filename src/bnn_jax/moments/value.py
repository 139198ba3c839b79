"""The mean and the variance of each element of an array."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax.gaussian import Leaf

# Small against any variance in use, and so large that mean / variance is finite in float32.
_LEAST_VARIANCE = 1e-26


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "variance"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Moments:
    """The mean and the variance of each element; two arrays of one shape and dtype.

    Covariances between elements are not kept.
    """

    mean: Leaf
    variance: Leaf

    @property
    def std(self) -> Float[Array, "*shape"]:
        """The standard deviation; its gradient is finite where the variance is 0."""
        least = max(float(jnp.finfo(self.variance.dtype).tiny), _LEAST_VARIANCE)
        return jnp.sqrt(jnp.maximum(self.variance, least))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.mean.dtype


def certain(value: Array) -> Moments:
    """Returns a value without uncertainty: variance 0."""
    return Moments(value, jnp.zeros_like(value))
