"""The networks that a prediction averages over: weight samples, an ensemble, dropout masks, or one.

`of` sorts the arguments of `predict` into arrays (`Data`) and a `Program`, the functions that use
them. Programs of the same network are equal, so a second prediction compiles nothing. A new kind of
members is a class of `kinds` and a case in `_kind_of`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Generic

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian, posteriors
from bnn_jax._parameters import check_count, describe
from bnn_jax.noise import PRNGKey
from bnn_jax.predictive.kinds import (
    AnyPosterior,
    Data,
    Ensemble,
    Index,
    Indices,
    Inputs,
    Kind,
    Network,
    OwnNoise,
    Posterior,
    Prepares,
    WeightSamples,
)

# The keyword arguments that are not arrays: their structure, and ((position, value), ...).
Options = tuple[jax.tree_util.PyTreeDef, tuple[tuple[int, object], ...]]


@dataclasses.dataclass(frozen=True)
class Program:
    """The functions of a prediction. All fields are compared by value or identity.

    Attributes:
        kind: how the members compute their outputs.
        call: the network.
        takes_variables: whether the network is called with its other state after the params.
        options: the keyword arguments that are not arrays, see `Options`.
    """

    kind: Kind
    call: Callable[..., PyTree]
    takes_variables: bool
    options: Options

    @property
    def group_size(self) -> int:
        """How many consecutive members are computed together."""
        return self.kind.group_size

    def prepared(self, data: Data) -> Data:
        """Returns the data with all values computed that are the same for every member."""
        return dataclasses.replace(data, posterior=gaussian.with_std(data.posterior))

    def sampler(
        self, key: PRNGKey, data: Data, x: PyTree, indices: Indices
    ) -> Callable[[Index], tuple[PyTree, ...]]:
        """Returns a function of a group: the outputs of each member, see `Kind.outputs`."""
        inputs = x if isinstance(x, tuple) else (x,)
        network, kind = self.network(data), self.kind
        if isinstance(kind, Prepares):
            return kind.sampler(network, key, data, inputs, indices)

        def outputs(group: Index) -> tuple[PyTree, ...]:
            found = kind.outputs(network, key, data, group, inputs, indices)
            _check_examples(found, indices)
            return found

        return outputs

    def network(self, data: Data) -> Network:
        """Returns the network with its keyword arguments."""
        structure, fixed = self.options
        leaves = dict(fixed) | dict(data.options)
        kwargs = jax.tree.unflatten(structure, [leaves[i] for i in range(len(leaves))])

        def network(weights: PyTree, variables: PyTree, inputs: Inputs) -> PyTree:
            state = (variables,) if self.takes_variables else ()
            return self.call(weights, *state, *inputs, **kwargs)

        return network


@dataclasses.dataclass(frozen=True)
class Members(Generic[Posterior]):
    """`num_samples` networks: a program and the arrays it uses."""

    program: Program
    data: Data[Posterior]
    num_samples: int


def of(
    model: object,
    posterior: PyTree,
    variables: PyTree,
    num_samples: int | None,
    antithetic: bool,
    kwargs: Mapping[str, object],
) -> Members[PyTree]:
    """Checks the arguments of `predict`, and returns the networks that it averages over."""
    call = check(model, num_samples)
    if not isinstance(antithetic, bool):
        raise TypeError(f"antithetic must be True or False, got {describe(antithetic)}.")
    if isinstance(posterior, posteriors.MeanField | posteriors.Point):
        variables = posterior.variables if variables is None else variables
        posterior = (
            posterior.tree if isinstance(posterior, posteriors.MeanField) else posterior.params
        )
    network = getattr(model, "network", None)  # of a BayesianModel
    if network is not None:
        own = getattr(model, "posterior", None)
        if posterior is not None:
            _check_like(posterior, own)
        posterior = own if posterior is None else posterior
        variables = getattr(model, "variables", None) if variables is None else variables
    elif variables is not None:
        raise ValueError("A plain function has no variables: leave them out, or close over.")
    own_variables = isinstance(variables, list | tuple)
    kind, samples = _kind_of(posterior, num_samples, antithetic, own_variables)
    if isinstance(kind, Ensemble):
        posterior = _stacked(posterior)
    if own_variables:
        _check_own_variables(variables, kind, samples)
        variables = _stacked(variables)
    options, arrays = _split(kwargs)
    program = Program(kind, call, network is not None, options)
    return Members(program, Data(posterior, variables, arrays), samples)


def check(model: object, num_samples: int | None) -> Callable[..., PyTree]:
    """Returns the function that calls the network; checks it and the number of samples."""
    if num_samples is not None:
        check_count("num_samples", num_samples)
    network = getattr(model, "network", None)  # of a BayesianModel
    if network is not None:
        return network.call
    if not callable(model) or _is_flax_module(model):
        raise TypeError(
            "predict takes what to_bnn returns, a function (params, x) with posterior=, or a "
            f"function (key, x) that draws its own noise; got {type(model).__name__}. Convert a "
            "Flax module with to_bnn, or pass a function that calls it."
        )
    return model


def _kind_of(
    posterior: PyTree, num_samples: int | None, antithetic: bool, own_variables: bool
) -> tuple[Kind, int]:
    """Returns how members are computed, and their number."""
    if isinstance(posterior, posteriors.Posterior):
        if antithetic:
            raise ValueError(
                "antithetic=True is for a mean-field posterior, got "
                f"{type(posterior).__name__}: leave it out."
            )
        samples = num_samples or posteriors.size(posterior)
        return AnyPosterior(), _required(samples, "A posterior")
    random = not isinstance(posterior, list | tuple) and gaussian.random_leaves(posterior)
    if antithetic and not random:
        raise ValueError("antithetic=True needs random weights, and the posterior has none.")
    if posterior is None:
        return OwnNoise(), _required(num_samples, "A function that draws its own noise")
    if isinstance(posterior, list | tuple):
        return Ensemble(own_variables), _ensemble_size(posterior, num_samples)
    if random:
        return WeightSamples(antithetic), _required(num_samples, "A posterior")
    if num_samples not in (None, 1):
        raise ValueError(
            f"The posterior has no random weights, so num_samples={num_samples} would repeat one "
            "network: leave num_samples out."
        )
    return WeightSamples(antithetic), 1


def _check_examples(outputs: PyTree, indices: Indices) -> None:
    """Raises a ValueError unless an output has the examples on axis 0."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(outputs)]
    if not any(shape[:1] == indices.shape for shape in shapes):
        raise ValueError(
            "The network must return an output for each example on axis 0, got the shapes "
            f"{shapes} for {len(indices)} examples: x must have the examples on axis 0."
        )


def _check_like(posterior: PyTree, own: PyTree) -> None:
    """Refuses a params tree of another network than the model's."""
    if isinstance(posterior, posteriors.Posterior | list | tuple):
        return
    found, wanted = (
        {
            gaussian.path_name(path): tuple(jnp.shape(leaf))
            for path, leaf in jax.tree_util.tree_leaves_with_path(gaussian.mean(tree))
        }
        for tree in (posterior, own)
    )
    if found != wanted:
        name = next(n for n in [*wanted, *found] if found.get(n) != wanted.get(n))
        raise ValueError(
            "posterior must be a tree like model.posterior: the shape of "
            f"{name or 'the whole'} is {found.get(name, 'missing')}, and the model's is "
            f"{wanted.get(name, 'missing')}."
        )


def _check_own_variables(variables: Sequence[PyTree], kind: Kind, samples: int) -> None:
    if not isinstance(kind, Ensemble):
        raise ValueError(
            "A list of variables is for an ensemble, and there is one posterior: give one tree."
        )
    if len(variables) != samples:
        raise ValueError(
            f"The ensemble has {samples} members and variables has {len(variables)}: give a "
            "tree for each member in the same order, or one for all."
        )
    _check_alike(variables, "variables")


def _stacked(trees: Sequence[PyTree]) -> PyTree:
    """Returns one tree, with the members on a new axis 0."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


def _is_flax_module(model: object) -> bool:
    """Returns whether the model is a Flax module, which must be converted first."""
    return any(base.__module__.startswith("flax.") for base in type(model).__mro__)


def _required(num_samples: int | None, what: str) -> int:
    if num_samples is None:
        raise ValueError(f"{what} needs num_samples, the number of draws, such as 32.")
    return num_samples


def _ensemble_size(trees: Sequence[PyTree], num_samples: int | None) -> int:
    if not trees:
        raise ValueError("The ensemble is empty: posterior must be a list of params trees.")
    if any(gaussian.random_leaves(tree) for tree in trees):
        raise ValueError(
            "The members of an ensemble are params trees without Gaussian leaves: draw from each "
            "posterior with gaussian.sample, or predict for each."
        )
    _check_alike(trees, "params")
    if num_samples not in (None, len(trees)):
        raise ValueError(
            f"The ensemble has {len(trees)} members and num_samples is {num_samples}: leave "
            "num_samples out."
        )
    return len(trees)


def _check_alike(trees: Sequence[PyTree], what: str) -> None:
    structures = {jax.tree.structure(tree) for tree in trees}
    shapes = {tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(tree)) for tree in trees}
    if len(structures) > 1 or len(shapes) > 1:
        raise ValueError(f"The members of the ensemble must be {what} of one network.")


def _split(kwargs: Mapping[str, object]) -> tuple[Options, dict[int, PyTree]]:
    """Splits keyword arguments into those that can be compared, and arrays."""
    leaves, structure = jax.tree.flatten(dict(kwargs))
    arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}
    fixed = tuple((i, x) for i, x in enumerate(leaves) if i not in arrays)
    return (structure, fixed), arrays
