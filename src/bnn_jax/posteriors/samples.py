"""Finitely many params trees: the posterior of an ensemble or of a Markov chain."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors.protocol import Index


@partial(jax.tree_util.register_dataclass, data_fields=("params", "variables"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Samples:
    """Equally weighted params trees.

    Attributes:
        params: the params tree whose leaves have the samples on a new axis 0.
        variables: the network's other state for each sample, stacked likewise; None for the
            model's own.
    """

    params: PyTree
    variables: PyTree = None

    @classmethod
    def of(cls, trees: Sequence[PyTree], variables: Sequence[PyTree] | None = None) -> "Samples":
        """Stacks params trees, and their variables if each has its own."""
        if not trees:
            raise ValueError("Samples needs at least one params tree, got none.")
        return cls(_stack(trees), _stack(variables) if variables is not None else None)

    @property
    def size(self) -> int:
        return len(jax.tree.leaves(self.params)[0])

    def sample(self, key: PRNGKey) -> PyTree:
        return self.draw(key, jax.random.randint(key, (), 0, self.size))[0]

    def mean(self) -> PyTree:
        return jax.tree.map(_mean, self.params)

    def draw(self, key: PRNGKey, index: Index) -> tuple[PyTree, PyTree]:
        """Returns the sample number `index`, modulo the number of samples, and its variables."""
        i = jnp.asarray(index) % self.size
        return jax.tree.map(lambda leaf: leaf[i], (self.params, self.variables))


def _stack(trees: Sequence[PyTree]) -> PyTree:
    structures = {jax.tree.structure(tree) for tree in trees}
    shapes = {tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree)) for tree in trees}
    if len(structures) > 1 or len(shapes) > 1:
        raise ValueError(
            "Samples must be params trees of one network, with the same structure and shapes."
        )
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _mean(leaf: Array) -> Float[Array, "..."]:
    return jnp.mean(leaf, axis=0, dtype=leaf.dtype)
