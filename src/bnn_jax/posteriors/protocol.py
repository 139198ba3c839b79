"""The interface of a posterior: a registered pytree that can be sampled.

    params = posterior.sample(key)   # one draw, for the unmodified network
    params = posterior.mean()

`predict`, the toolbox, checkpoints and reports need these two methods only. A posterior may offer
more:

    variables       the network's other state (batch statistics) that belongs to it
    size            how many distinct draws it holds, if they are finitely many
    draw(key, i)    draw number i with the variables that belong to it; finite posteriors return
                    their member i, so that averages over i are exact, and mixtures take turns
                    between their components
    component(i), num_components
                    the posteriors that it is a mixture of
    outputs(key, network, variables, inputs)
                    the network's outputs for one draw, of a posterior that is more than a
                    distribution of params (dropout masks, a linearised network)
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array, Int, PyTree

from bnn_jax.noise import PRNGKey

Index = int | Int[Array, ""]


@runtime_checkable
class Posterior(Protocol):
    """A distribution over params trees; any registered pytree with these methods serves."""

    def sample(self, key: PRNGKey) -> PyTree:
        """Returns one draw of the params."""
        ...

    def mean(self) -> PyTree:
        """Returns the mean of the params."""
        ...


Network = Callable[..., PyTree]


@runtime_checkable
class HasOutputs(Protocol):
    """A posterior that is more than a distribution over params: it computes outputs itself."""

    def outputs(
        self, key: PRNGKey, network: Network, variables: PyTree, inputs: tuple[PyTree, ...]
    ) -> PyTree:
        """Returns the network's outputs for one draw.

        Args:
            key: gives the noise of the draw.
            network: (params, variables, *inputs) -> outputs, in evaluation mode.
            variables: the network's other state.
            inputs: the arguments of the network.
        """
        ...


def draw(posterior: Posterior, key: PRNGKey, index: Index) -> tuple[PyTree, PyTree]:
    """Returns draw number `index` and its variables; None stands for the network's own variables.

    Args:
        posterior: any posterior.
        key: gives the noise of this draw; a posterior of finitely many draws does not use it.
        index: the number of the draw, from 0.
    """
    own = getattr(posterior, "draw", None)
    if own is not None:
        return own(key, index)
    return posterior.sample(key), getattr(posterior, "variables", None)


def component(posterior: Posterior, index: Index) -> tuple[Posterior, Index]:
    """Returns the component of a mixture that gives draw number `index`, and its number in there.

    The components take turns; a posterior that is no mixture is its own only component.
    """
    count = getattr(posterior, "num_components", None)
    if count is None:
        return posterior, index
    mixture: Any = posterior
    return component(mixture.component(index % count), index // count)


def size(posterior: Posterior) -> int | None:
    """Returns the number of distinct draws that the posterior holds; None if there is no limit."""
    return getattr(posterior, "size", None)
