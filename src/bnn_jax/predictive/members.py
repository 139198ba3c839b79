"""The networks that a prediction averages over: weight samples, an ensemble, dropout masks, or one.

`of` sorts what a caller may pass into arrays (`data`) and a `Program`, which says what to do with
them. Programs of the same network are equal, so a second prediction compiles nothing.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PyTree

from bnn_jax import gaussian
from bnn_jax.interpreter import antithetic_pairs
from bnn_jax.noise import Draw, PRNGKey

Index = Int[Array, ""]
Indices = Int[Array, "batch"]


@dataclasses.dataclass(frozen=True)
class Program:
    """How member s computes its outputs. All fields are compared by value or identity.

    Attributes:
        kind: "weights" (drawn from a posterior, or given), "ensemble" (one tree of several), or
            "noise" (the function draws noise of its own).
        call: the network.
        takes_variables: whether it is called with its other state behind the params.
        own_variables: whether each member of an ensemble has its own of it.
        antithetic: draw the weights in pairs with opposite noise.
        options: the keyword arguments that are not arrays: (structure, ((position, value), ...)).
    """

    kind: str
    call: Callable[..., Any]
    takes_variables: bool
    own_variables: bool
    antithetic: bool
    options: Any

    @property
    def group_size(self) -> int:
        """How many members in a row are computed together, for they share their noise."""
        return 2 if self.antithetic else 1

    def prepared(self, data: Any) -> Any:
        """The data with all computed that is the same for every member."""
        if self.kind != "weights":
            return data
        return data | {"posterior": gaussian.with_std(data["posterior"])}

    def outputs(
        self, key: PRNGKey, data: Any, group: Index, x: PyTree, indices: Indices
    ) -> tuple[Any, ...]:
        """What the members of a group say about the examples of x.

        Args:
            group: its number. The members are in rows of `group_size` each.
            indices: the places of the examples in the data.
        """
        kwargs = self._kwargs(data["options"])
        inputs = x if isinstance(x, tuple) else (x,)
        if self.kind == "noise":
            member_key = jax.random.fold_in(key, group)

            def one(index: Array, example: tuple[Any, ...]) -> Any:
                example_key = jax.random.fold_in(member_key, index)
                alone = jax.tree.map(lambda a: a[None], example)
                return jax.tree.map(lambda a: a[0], self.call(example_key, *alone, **kwargs))

            return (jax.vmap(one)(indices, inputs),)
        variables = data["variables"]
        if self.own_variables:
            variables = jax.tree.map(lambda a: a[group], variables)
        state = (variables,) if self.takes_variables else ()

        def network(weights: PyTree, inputs: tuple[Any, ...]) -> Any:
            return self.call(weights, *state, *inputs, **kwargs)

        weights = data["posterior"]
        if self.kind == "ensemble":
            return (network(jax.tree.map(lambda a: a[group], weights), inputs),)
        group_key = jax.random.fold_in(key, group)
        if self.antithetic:
            spreads = gaussian.deviations(group_key, weights)
            return antithetic_pairs.outputs(network, weights, spreads, inputs)
        # The sign is always +1, but XLA on CPU does not know: it would fuse a plain sum with the
        # products that follow, take the draws apart for it, and make their bits twice.
        draw = Draw(group_key, jnp.where(group < 0, -1, 1))
        return (network(gaussian.sample(draw, weights), inputs),)

    def _kwargs(self, arrays: Mapping[int, Any]) -> dict[str, Any]:
        structure, fixed = self.options
        leaves = dict(fixed) | dict(arrays)
        return dict(jax.tree.unflatten(structure, [leaves[i] for i in range(len(leaves))]))


@dataclasses.dataclass(frozen=True)
class Members:
    """`num_samples` networks: a program and the arrays it works on."""

    program: Program
    data: dict[str, Any]
    num_samples: int


def of(
    model: Any,
    posterior: Any,
    variables: PyTree,
    num_samples: int | None,
    antithetic: bool,
    kwargs: Mapping[str, Any],
) -> Members:
    """Check what `predict` was called with, and name what it averages over."""
    if num_samples is not None and (isinstance(num_samples, bool) or num_samples < 1):
        raise ValueError(f"num_samples has to be a whole number >= 1, got {num_samples!r}.")
    network = getattr(model, "network", None)  # of a BayesianModel
    if network is not None:
        call = network.call
        posterior = model.posterior if posterior is None else posterior
        variables = model.variables if variables is None else variables
    elif callable(model) and not _is_flax_module(model):
        call = model
        if variables is not None:
            raise ValueError("A plain function has no variables: leave them out, or close over.")
    else:
        raise TypeError(
            "predict takes what to_bnn returns, a function (params, x) with posterior=, or a "
            f"function (key, x) that draws its own noise; got {type(model).__name__}. Convert a "
            "Flax module with to_bnn, or pass a function that calls it."
        )
    if posterior is None:
        kind, samples = "noise", _required(num_samples, "A function that draws its own noise")
    elif isinstance(posterior, list | tuple):
        kind, samples = "ensemble", _ensemble_size(posterior, num_samples)
        posterior = _stacked(posterior)
    elif gaussian.random_leaves(posterior):
        kind, samples = "weights", _required(num_samples, "A posterior")
    else:
        kind, samples = "weights", 1
        if num_samples not in (None, 1):
            raise ValueError(
                f"There is no random weight in the posterior, so num_samples={num_samples} would "
                "repeat one network: leave num_samples out."
            )
    if antithetic and not (kind == "weights" and gaussian.random_leaves(posterior)):
        raise ValueError(
            "antithetic draws weights in pairs with opposite noise, and there are no random "
            "weights to draw: leave it out."
        )
    own_variables = isinstance(variables, list | tuple)
    if own_variables:
        if kind != "ensemble":
            raise ValueError(
                "A list of variables is for an ensemble, and there is one posterior: give one tree."
            )
        if len(variables) != samples:
            raise ValueError(
                f"The ensemble has {samples} members and variables has {len(variables)}: give a "
                "tree for each member in the same order, or one for all."
            )
        _check_alike(variables, "variables")
        variables = _stacked(variables)
    options, arrays = _split(kwargs)
    program = Program(kind, call, network is not None, own_variables, antithetic, options)
    return Members(
        program, {"posterior": posterior, "variables": variables, "options": arrays}, samples
    )


def _stacked(trees: Sequence[PyTree]) -> PyTree:
    """One tree, with the members on a new axis 0."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *trees)


def _is_flax_module(model: Any) -> bool:
    """Whether it is a module as Flax makes them, which needs to be converted first."""
    return any(base.__module__.startswith("flax.") for base in type(model).__mro__)


def _required(num_samples: int | None, what: str) -> int:
    if num_samples is None:
        raise ValueError(f"{what} needs num_samples, the number of draws, such as 32.")
    return num_samples


def _ensemble_size(trees: list[Any] | tuple[Any, ...], num_samples: int | None) -> int:
    if not trees:
        raise ValueError("The ensemble is empty: posterior has to be a list of params trees.")
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
        raise ValueError(f"The members of the ensemble have to be {what} of one network.")


def _split(kwargs: Mapping[str, Any]) -> tuple[Any, dict[int, Any]]:
    """Keyword arguments as what can be compared, and arrays."""
    leaves, structure = jax.tree.flatten(dict(kwargs))
    arrays = {i: x for i, x in enumerate(leaves) if isinstance(x, jax.Array | np.ndarray)}
    fixed = tuple((i, x) for i, x in enumerate(leaves) if i not in arrays)
    return (structure, fixed), arrays
