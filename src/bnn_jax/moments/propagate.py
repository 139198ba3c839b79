"""The mean and variance of a network's outputs under a mean-field posterior, in one pass.

The network is traced to a jaxpr, and each value in it is carried as a mean and a variance per
element. Covariances between elements are neglected, which is exact for a dense network with one
layer, but for those between the positions of convolutions (`positions`). What is passed through a
nonlinear function is taken to be normal.

Sources: Wu, Nowozin, Meeds, Turner, Hernandez-Lobato, Gaunt 2019, "Deterministic Variational
Inference for Robust Bayesian Neural Networks", arXiv:1810.03958; Hernandez-Lobato, Adams 2015,
"Probabilistic Backpropagation", arXiv:1502.05336.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import PyTree

from bnn_jax import gaussian, posteriors
from bnn_jax.interpreter import jaxprs
from bnn_jax.interpreter.interpret import Cell, interpret
from bnn_jax.moments.rules import RULES, moments_of, root
from bnn_jax.moments.value import Moments


def outputs(
    model: object,
    posterior: PyTree,
    *inputs: PyTree,
    variables: PyTree = None,
    **kwargs: PyTree,
) -> PyTree:
    """Returns the mean and variance of the network's outputs; nothing is drawn.

    It costs about as much as two to four passes of the plain network. It can be compiled, mapped by
    vmap and differentiated.

    Args:
        model: what `to_bnn` returns, or a function (params, *inputs) -> outputs.
        posterior: a params tree with Gaussian leaves, a `posteriors.MeanField`, or a
            `posteriors.Point`, whose outputs have variance 0.
        inputs: the network's arguments: pytrees of arrays, or of `Moments` for uncertain inputs.
        variables: the network's other state; the posterior's or the model's own by default.
        kwargs: the network's own, such as train=False.

    Returns:
        The outputs with a `Moments` in place of each array of floating point numbers.

    Raises:
        TypeError: a posterior of another kind, a model that is none of these, or no inputs.
        MomentsError: the network has an operation without a rule; it names the operation, the layer
            and the line.
    """
    if not inputs:
        raise TypeError("The network's inputs are missing: moments.outputs(model, posterior, x).")
    network = traced(model, posterior, inputs, variables, kwargs)
    cells = interpret(network.jaxpr, network.consts, network.cells, RULES)
    return network.with_structure([_out(cell) for cell in cells])


@dataclasses.dataclass(frozen=True)
class Traced:
    """A network as a jaxpr, and the cells of its arguments.

    Attributes:
        jaxpr, consts: those of the network.
        cells: of the leaves of the posterior, then of those of the inputs.
        weights: the paths of the leaves of the posterior.
        structure: that of the outputs.
    """

    jaxpr: jaxprs.Jaxpr
    consts: Sequence[ArrayLike]
    cells: Sequence[Cell[PyTree]]
    weights: tuple[str, ...]
    structure: jax.tree_util.PyTreeDef

    def with_structure(self, leaves: Sequence[PyTree]) -> PyTree:
        """Returns the outputs as the network returns them."""
        return jax.tree.unflatten(self.structure, leaves)


def traced(
    model: object,
    posterior: PyTree,
    inputs: tuple[PyTree, ...],
    variables: PyTree,
    kwargs: dict[str, PyTree],
) -> Traced:
    """Returns the jaxpr of a network; the arguments are those of `outputs`."""
    tree, own_variables = mean_field_tree(posterior)
    call = _call_of(model, own_variables if variables is None else variables, kwargs)
    leaves, structure = jax.tree.flatten((tree, inputs), is_leaf=_is_random)
    lifted = [_lift(leaf) for leaf in leaves]
    arrays = [x.mean if isinstance(x, Moments) else x for x in lifted]

    def function(arrays: list[PyTree]) -> PyTree:
        params, arguments = jax.tree.unflatten(structure, arrays)
        return call(params, *arguments)

    jaxpr, consts, out_shape = jaxprs.trace(function, arrays)
    cells = [root(x) if isinstance(x, Moments) else Cell(x) for x in lifted]
    paths = jax.tree_util.tree_leaves_with_path(tree, is_leaf=gaussian.is_gaussian)
    weights = tuple(gaussian.path_name(path) for path, _ in paths)
    return Traced(jaxpr, consts, cells, weights, jax.tree.structure(out_shape))


def _is_random(x: object) -> bool:
    return gaussian.is_gaussian(x) or isinstance(x, Moments)


def _lift(leaf: PyTree) -> PyTree:
    if isinstance(leaf, Moments):
        return leaf
    if gaussian.is_gaussian(leaf):
        return Moments(leaf.mean, jnp.square(leaf.std))
    return jnp.asarray(leaf)


def _out(cell: Cell[PyTree]) -> PyTree:
    """The moments of an output; whole numbers are as they are."""
    value = cell.value
    if isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return moments_of(value)


def mean_field_tree(posterior: PyTree) -> tuple[PyTree, PyTree]:
    """Returns the params tree of a mean-field posterior, and its variables.

    Raises:
        TypeError: a posterior of another kind.
    """
    if isinstance(posterior, posteriors.MeanField):
        return posterior.tree, posterior.variables
    if isinstance(posterior, posteriors.Point):
        return posterior.params, posterior.variables
    if isinstance(posterior, posteriors.Posterior | list | tuple):
        raise TypeError(
            "Means and variances in one pass need a mean-field posterior: a params tree with "
            f"Gaussian leaves, MeanField or Point; got {type(posterior).__name__}. Use predict "
            "with num_samples."
        )
    return posterior, None


def _call_of(model: object, variables: PyTree, kwargs: dict[str, PyTree]) -> Callable[..., PyTree]:
    """The network as a function of params and inputs."""
    network = getattr(model, "network", None)  # of a BayesianModel
    if network is not None:
        state = getattr(model, "variables", None) if variables is None else variables
        return lambda params, *inputs: network.call(params, state, *inputs, **kwargs)
    if not callable(model):
        raise TypeError(
            "The model must be what to_bnn returns, or a function (params, *inputs) -> outputs; "
            f"got {type(model).__name__}."
        )
    if variables is not None:
        raise ValueError("A plain function has no variables: leave them out, or close over them.")
    return lambda params, *inputs: model(params, *inputs, **kwargs)
