"""The noise of weights and layers: every normal and every sign is drawn here.

One place to test, to replace by fixed numbers, and to speed up. Callers write `noise.normal(...)`
(the module's attribute, never a copy of the function), so that a replacement reaches all of them.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, Key, UInt32

PRNGKey = Key[Array, ""] | UInt32[Array, "2"]


def normal(
    key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Independent standard normal draws of the given shape.

    Draws of less than 32 bits are made in float32 and rounded: a generator of 16-bit uniforms has
    no tails beyond three or four standard deviations.
    """
    if jnp.dtype(dtype).itemsize < 4:
        return jax.random.normal(key, shape, jnp.float32).astype(dtype)
    return jax.random.normal(key, shape, dtype)


def signs(
    key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
) -> Float[Array, "..."]:
    """Independent signs, -1 or +1 with probability one half each."""
    return jax.random.rademacher(key, shape, dtype)
