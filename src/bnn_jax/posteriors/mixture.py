"""A mixture of posteriors of one kind: ensembles of Bayes by Backprop, MultiSWAG."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import protocol
from bnn_jax.posteriors.protocol import Index, Posterior


@partial(jax.tree_util.register_dataclass, data_fields=("components",), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Mixture:
    """Equally weighted posteriors.

    Attributes:
        components: a posterior whose leaves have the components on a new axis 0.

    Source: Wilson, Izmailov 2020, "Bayesian Deep Learning and a Probabilistic Perspective of
    Generalization", arXiv:2002.08791 (MultiSWAG).
    """

    components: Posterior

    @classmethod
    def of(cls, posteriors: Sequence[Posterior]) -> "Mixture":
        """Stacks posteriors of one kind and of one network."""
        if not posteriors:
            raise ValueError("Mixture needs at least one posterior, got none.")
        return cls(jax.tree.map(lambda *leaves: jnp.stack(leaves), *posteriors))

    @property
    def num_components(self) -> int:
        return len(jax.tree.leaves(self.components)[0])

    def component(self, index: Index) -> Posterior:
        """Returns the component number `index`."""
        return jax.tree.map(lambda leaf: leaf[index], self.components)

    def sample(self, key: PRNGKey) -> PyTree:
        which, within = jax.random.split(key)
        index = jax.random.randint(which, (), 0, self.num_components)
        return self.component(index).sample(within)

    def mean(self) -> PyTree:
        means = jax.vmap(lambda component: component.mean())(self.components)
        return jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0, dtype=leaf.dtype), means)

    def draw(self, key: PRNGKey, index: Index) -> tuple[PyTree, PyTree]:
        """Returns a draw of component `index` modulo their number, and its variables.

        Taking the components in turns makes an average over draws a stratified one.
        """
        turn = jnp.asarray(index) // self.num_components
        component = self.component(jnp.asarray(index) % self.num_components)
        return protocol.draw(component, key, turn)
