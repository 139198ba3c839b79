"""The kinds of networks that a prediction averages over, each a class with the method `outputs`."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Generic, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree

from bnn_jax import gaussian, posteriors
from bnn_jax._compiler import false_at_run_time
from bnn_jax.interpreter import antithetic_pairs
from bnn_jax.noise import Draw, PRNGKey

Index = Int[Array, ""]
Indices = Int[Array, "batch"]
Inputs = tuple[PyTree, ...]
# (params or a key, the network's other state, inputs) -> outputs
Network = Callable[[PyTree, PyTree, Inputs], PyTree]
Posterior = TypeVar("Posterior")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("posterior", "variables", "options"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Data(Generic[Posterior]):
    """The arrays of a prediction, apart from its examples.

    Attributes:
        posterior: that from which weights are drawn, or the members' params on a new axis 0.
        variables: the network's other state; of an ensemble also one for each member, on axis 0.
        options: {position: array} of the keyword arguments that are arrays.
    """

    posterior: Posterior
    variables: PyTree
    options: Mapping[int, PyTree]


@runtime_checkable
class Kind(Protocol):
    """How the members of a group compute their outputs; compared by value."""

    @property
    def group_size(self) -> int:
        """How many consecutive members are computed together, because they share their noise."""
        ...

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        """Returns the outputs of each member of a group.

        Args:
            network: see `Network`.
            key: the prediction's.
            data: the arrays.
            group: the group's number; a group has `group_size` consecutive members.
            inputs: the examples.
            indices: the positions of the examples in the data.
        """
        ...


@runtime_checkable
class Prepares(Kind, Protocol):
    """A kind that computes something once for all groups."""

    def sampler(
        self, network: Network, key: PRNGKey, data: Data, inputs: Inputs, indices: Indices
    ) -> Callable[[Index], tuple[PyTree, ...]]:
        """Returns the outputs as a function of the group; the arguments are those of `outputs`."""
        ...


@dataclasses.dataclass(frozen=True)
class WeightSamples:
    """Weights drawn from a params tree with Gaussian leaves; without such leaves, the tree itself.

    Attributes:
        antithetic: draw them in pairs with opposite noise.
    """

    antithetic: bool

    @property
    def group_size(self) -> int:
        return 2 if self.antithetic else 1

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        group_key = jax.random.fold_in(key, group)
        if self.antithetic:
            spreads = gaussian.deviations(group_key, data.posterior)
            return antithetic_pairs.outputs(
                lambda weights, inputs: network(weights, data.variables, inputs),
                data.posterior,
                spreads,
                inputs,
            )
        sign = jnp.where(false_at_run_time(group), -1, 1)
        weights = gaussian.sample(Draw(group_key, sign), data.posterior)
        return (network(weights, data.variables, inputs),)


@dataclasses.dataclass(frozen=True)
class AnyPosterior:
    """Draws of a `posteriors.Posterior`, with the variables or the outputs that belong to them."""

    @property
    def group_size(self) -> int:
        return 1

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        draw_key = jax.random.fold_in(key, group)
        posterior, turn = posteriors.component(data.posterior, group)
        if isinstance(posterior, posteriors.HasOutputs):

            def call(params: PyTree, variables: PyTree, *inputs: PyTree) -> PyTree:
                return network(params, variables, inputs)

            return (posterior.outputs(draw_key, call, data.variables, inputs),)
        params, own = posteriors.draw(posterior, draw_key, turn)
        return (network(params, data.variables if own is None else own, inputs),)


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """Params trees, one for each member.

    Attributes:
        own_variables: whether each member has its own other state.
    """

    own_variables: bool

    @property
    def group_size(self) -> int:
        return 1

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        def member(tree: PyTree) -> PyTree:
            return jax.tree.map(lambda a: a[group], tree)

        variables = member(data.variables) if self.own_variables else data.variables
        return (network(member(data.posterior), variables, inputs),)


@dataclasses.dataclass(frozen=True)
class OwnNoise:
    """A function that draws its own noise, with a key for each member and example."""

    @property
    def group_size(self) -> int:
        return 1

    def outputs(
        self,
        network: Network,
        key: PRNGKey,
        data: Data,
        group: Index,
        inputs: Inputs,
        indices: Indices,
    ) -> tuple[PyTree, ...]:
        member_key = jax.random.fold_in(key, group)

        def one(index: Array, example: Inputs) -> PyTree:
            example_key = jax.random.fold_in(member_key, index)
            alone = jax.tree.map(lambda a: a[None], example)
            return jax.tree.map(lambda a: a[0], network(example_key, None, alone))

        try:
            return (jax.vmap(one)(indices, inputs),)
        except TypeError as error:
            raise TypeError(
                "Without posterior= a function is called as (key, x), and this one failed "
                f"({str(error)[:100]}): give posterior= for a function (params, x)."
            ) from error
