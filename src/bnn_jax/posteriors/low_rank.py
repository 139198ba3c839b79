"""A Gaussian with a diagonal plus low-rank covariance: the posterior of SWAG."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, noise
from bnn_jax.noise import PRNGKey


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("centre", "variance", "deviations", "variables"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class LowRank:
    """N(centre, diag(variance) + D^T D), where the rows of D are the deviations.

    Attributes:
        centre: the mean, a params tree.
        variance: the diagonal for each leaf; None for a leaf that is deterministic.
        deviations: the rows of D for each leaf, on a new axis 0; None likewise.
        variables: the network's other state, such as batch statistics; None for the model's own.

    Source: Maddox et al. 2019, arXiv:1902.02476, section 3.3.
    """

    centre: PyTree
    variance: PyTree
    deviations: PyTree
    variables: PyTree = None

    def sample(self, key: PRNGKey) -> PyTree:
        shared, own = jax.random.split(key)
        rows = jax.tree.leaves(self.deviations)
        weights = noise.normal(shared, (len(rows[0]) if rows else 0,))
        keys = gaussian.leaf_keys(own, self.centre)

        def draw(
            leaf: Array, key: PRNGKey, variance: Array | None, deviations: Array | None
        ) -> Array:
            return _draw(key, leaf, variance, deviations, weights)

        return jax.tree.map(draw, self.centre, keys, self.variance, self.deviations)

    def mean(self) -> PyTree:
        return self.centre


def _draw(
    key: PRNGKey,
    centre: Array,
    variance: Array | None,
    deviations: Array | None,
    weights: Float[Array, " rank"],
) -> Array:
    """Returns a draw of one leaf; all leaves share the weights of the low-rank part."""
    if variance is None or deviations is None:
        return centre
    shift = jnp.sqrt(variance) * noise.normal(key, centre.shape, variance.dtype)
    shift = shift + jnp.tensordot(weights.astype(deviations.dtype), deviations, 1)
    return centre + shift.astype(centre.dtype)
