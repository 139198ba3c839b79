"""Independent Gaussians for the weights: the posterior of Bayes by Backprop and of IVON."""

import dataclasses
from functools import partial

import jax
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.noise import PRNGKey


@partial(jax.tree_util.register_dataclass, data_fields=("tree", "variables"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class MeanField:
    """A params tree with `Gaussian` leaves.

    Attributes:
        tree: the params tree; leaves that are not Gaussian are deterministic.
        variables: the network's other state, such as batch statistics; None for the model's own.
    """

    tree: PyTree
    variables: PyTree = None

    def sample(self, key: PRNGKey) -> PyTree:
        return gaussian.sample(key, self.tree)

    def mean(self) -> PyTree:
        return gaussian.mean(self.tree)
