"""A single set of params: the posterior of a deterministic network."""

import dataclasses
from functools import partial

import jax
from jaxtyping import PyTree

from bnn_jax.noise import PRNGKey


@partial(jax.tree_util.register_dataclass, data_fields=("params", "variables"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Point:
    """A distribution with all its mass at one params tree.

    Attributes:
        params: the params tree.
        variables: the network's other state, such as batch statistics; None for the model's own.
    """

    params: PyTree
    variables: PyTree = None

    size = 1

    def sample(self, key: PRNGKey) -> PyTree:
        return self.params

    def mean(self) -> PyTree:
        return self.params
