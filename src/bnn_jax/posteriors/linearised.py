"""A network that is linear in its weights: the predictive of a posterior by its tangent.

    outputs = f(mean) + Jacobian of f at the mean (weights - mean)

The curvature of a Laplace approximation is that of this linear network, and a Laplace posterior
predicts better with it than with the network itself.
"""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors.laplace import Laplace
from bnn_jax.posteriors.protocol import Network


@partial(jax.tree_util.register_dataclass, data_fields=("weights",), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Linearised:
    """A Laplace posterior whose outputs are those of the network linearised about its mean.

    Attributes:
        weights: the posterior of the weights; `sample` and `mean` are its own.

    Source: Immer, Korzepa, Bauer 2021, "Improving predictions of Bayesian neural nets via local
    linearization", arXiv:2008.08400, section 3.
    """

    weights: Laplace

    @property
    def variables(self) -> PyTree:
        return self.weights.variables

    def sample(self, key: PRNGKey) -> PyTree:
        return self.weights.sample(key)

    def mean(self) -> PyTree:
        return self.weights.mean()

    def outputs(
        self, key: PRNGKey, network: Network, variables: PyTree, inputs: tuple[PyTree, ...]
    ) -> PyTree:
        """Returns the outputs of the linear network under one draw of its weights.

        Args:
            key: gives the draw.
            network: (params, variables, *inputs) -> outputs, in evaluation mode.
            variables: the network's other state, if the posterior has none.
            inputs: the arguments of the network.
        """
        own = variables if self.variables is None else self.variables
        leaves, structure = jax.tree.flatten(self.mean())
        drawn = jax.tree.leaves(self.sample(key))
        # The leaves that are not random are constants, so their layers have no tangents.
        random = [i for i, leaf in enumerate(leaves) if drawn[i] is not leaf]

        def call(values: list[Array]) -> PyTree:
            changed = dict(zip(random, values, strict=True))
            merged = [changed.get(i, leaf) for i, leaf in enumerate(leaves)]
            return network(jax.tree.unflatten(structure, merged), own, *inputs)

        at = [leaves[i] for i in random]
        outputs, tangents = jax.jvp(call, (at,), ([drawn[i] - leaves[i] for i in random],))
        return jax.tree.map(jnp.add, outputs, tangents)
