"""Predictions by moments up to the first operation without a rule, and by samples after it.

The network's rules are applied once (`moments.partial_outputs`). A sample then computes only the
operations that have no rule and what depends on them. Sample s draws the weights that these use
with the keys of method="samples". Values that have been computed as moments are drawn with a key
of their own for each chunk of examples.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax import moments
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.predictive import members, one_pass
from bnn_jax.predictive.kinds import Data, Index, Indices, Inputs, Network
from bnn_jax.predictive.members import Members

_OF_VALUES = 1_000_000  # folded into the key of a sample: no network has as many weights


@dataclasses.dataclass(frozen=True)
class ThenSamples:
    """Samples of the outputs, given the moments of what has rules.

    Attributes:
        antithetic: draw them in pairs with opposite noise.
    """

    antithetic: bool

    @property
    def group_size(self) -> int:
        return 2 if self.antithetic else 1

    def sampler(
        self, network: Network, key: PRNGKey, data: Data, inputs: Inputs, indices: Indices
    ) -> Callable[[Index], tuple[PyTree, ...]]:
        """Returns the function that computes the outputs of a group; moments are computed here."""
        partial = moments.partial_outputs(
            lambda params, *inputs: network(params, data.variables, inputs), data.posterior, *inputs
        )

        def outputs(group: Index) -> tuple[PyTree, ...]:
            weights = jax.random.fold_in(key, group)
            values = jax.random.fold_in(jax.random.fold_in(weights, _OF_VALUES), indices[0])
            return tuple(
                partial.sample(
                    Draw(jax.random.clone(weights), jnp.asarray(sign)), jax.random.clone(values)
                )
                for sign in (1, -1)[: self.group_size]
            )

        return outputs

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        """Returns the outputs of one group, see `Kind.outputs`."""
        return self.sampler(network, key, data, inputs, indices)(group)


def of(
    model: object,
    posterior: PyTree,
    variables: PyTree,
    num_samples: int | None,
    antithetic: bool,
    kwargs: Mapping[str, object],
) -> Members[PyTree]:
    """Checks the arguments of a prediction, and returns the network and its arrays.

    Raises:
        TypeError: a posterior that is not mean-field.
        ValueError: a wrong number of samples, or a plain function without a posterior.
    """
    posterior = one_pass.mean_field("moments_then_samples", model, posterior)
    drawn = members.of(model, posterior, variables, num_samples, antithetic, kwargs)
    program = dataclasses.replace(drawn.program, kind=ThenSamples(antithetic))
    return dataclasses.replace(drawn, program=program)
