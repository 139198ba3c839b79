"""A network whose activations are dropped out at random: the posterior of MC dropout."""

import dataclasses
from collections.abc import Callable
from functools import partial

import jax
from jaxtyping import PyTree

from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors.protocol import Index

# (key, network, params, variables, inputs) -> outputs under one draw of the masks
Masked = Callable[[PRNGKey, Callable[..., PyTree], PyTree, PyTree, tuple[PyTree, ...]], PyTree]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("params", "variables"),
    meta_fields=("masked",),
)
@dataclasses.dataclass(frozen=True)
class Dropout:
    """Params whose network is random by its dropout masks.

    `sample` returns the params alone: a draw of the outputs is that of `outputs`.

    Attributes:
        params: the params tree.
        variables: the network's other state; None for the model's own.
        masked: the network with masks, (key, network, params, variables, inputs) -> outputs.

    Source: Gal, Ghahramani 2016, "Dropout as a Bayesian Approximation", arXiv:1506.02142.
    """

    params: PyTree
    variables: PyTree
    masked: Masked

    def sample(self, key: PRNGKey) -> PyTree:
        return self.params

    def mean(self) -> PyTree:
        return self.params

    def draw(self, key: PRNGKey, index: Index) -> tuple[PyTree, PyTree]:
        return self.params, self.variables

    def outputs(
        self,
        key: PRNGKey,
        network: Callable[..., PyTree],
        variables: PyTree,
        inputs: tuple[PyTree, ...],
    ) -> PyTree:
        """Returns the outputs under one draw of the masks; each example has masks of its own.

        Args:
            key: gives the masks.
            network: (params, variables, *inputs) -> outputs, in evaluation mode.
            variables: the network's other state, if the posterior has none.
            inputs: the arguments of the network.
        """
        own = variables if self.variables is None else self.variables
        return self.masked(key, network, self.params, own, inputs)
