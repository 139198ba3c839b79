"""Checks of the arguments of `BayesianModel.apply`."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax.gaussian import is_gaussian
from bnn_jax.noise import Draw


def check_arguments(key: object, posterior: PyTree, expected: PyTree) -> None:
    """Checks the key and the posterior, which must have the structure of `expected`.

    Raises:
        TypeError: the key is not a JAX key, or the posterior is an array, such as the inputs.
    """
    if not (isinstance(key, Draw) or _is_key(key)):
        raise TypeError(
            f"key must be a JAX key such as jax.random.key(0), got {_describe(key)}: call "
            "model.apply(key, posterior, x)."
        )
    is_array = isinstance(posterior, jax.Array | np.ndarray | np.generic | float | int)
    one_leaf = is_gaussian(expected) or jax.tree_util.all_leaves([expected])
    if posterior is None or (is_array and not one_leaf):
        raise TypeError(
            f"posterior must be a tree like model.posterior, got {_describe(posterior)}: call "
            "model.apply(key, model.posterior, x)."
        )


def _is_key(key: object) -> bool:
    if not isinstance(key, jax.Array):
        return False
    return bool(jnp.issubdtype(key.dtype, jax.dtypes.prng_key)) or (
        key.shape == (2,) and key.dtype == jnp.uint32
    )


def _describe(value: object) -> str:
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape}"
    return f"a {type(value).__name__}" if isinstance(value, dict) else repr(value)
