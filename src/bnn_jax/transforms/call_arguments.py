"""Checks of the arguments of the methods of `BayesianModel`."""

import jax
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax._parameters import check_key, describe
from bnn_jax.noise import Draw


def check_arguments(key: object, posterior: PyTree, expected: PyTree) -> None:
    """Checks the key and the posterior of a call.

    Raises:
        TypeError: the key is not a JAX key, or the posterior is an array, such as the inputs.
    """
    if not isinstance(key, Draw):
        check_key(key, "model.apply(key, posterior, x)")
    check_posterior(posterior, expected, call="model.apply(key, model.posterior, x)")


def check_posterior(posterior: PyTree, expected: PyTree, *, call: str) -> None:
    """Checks that a posterior is a tree, unless `expected` is a single leaf.

    Raises:
        TypeError: it is an array, such as the inputs, or None.
    """
    is_array = isinstance(posterior, jax.Array | np.ndarray | np.generic | float | int)
    one_leaf = gaussian.is_gaussian(expected) or jax.tree_util.all_leaves([expected])
    if posterior is None or (is_array and not one_leaf):
        raise TypeError(
            f"posterior must be a tree like model.posterior, got {describe(posterior)}: call "
            f"{call}."
        )


def check_random(posterior: PyTree, expected: PyTree) -> None:
    """Checks that a posterior has the random weights of `expected`.

    Raises:
        ValueError: it has others, or none.
    """
    found, wanted = (
        {path: leaf.shape for path, leaf in gaussian.random_leaves(tree).items()}
        for tree in (posterior, expected)
    )
    if found != wanted:
        name = next(n for n in [*wanted, *found] if found.get(n) != wanted.get(n))
        raise ValueError(
            "posterior must have the Gaussian leaves of model.posterior: the shape of "
            f"{name or 'the whole'} is {found.get(name, 'missing')}, and the model's is "
            f"{wanted.get(name, 'missing')}."
        )
