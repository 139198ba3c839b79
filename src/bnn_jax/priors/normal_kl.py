"""The KL divergence of two normal distributions, with a derivative for XLA on CPU."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from bnn_jax.gaussian import Leaf as Number


def normal_kl(a: tuple[Number, Number], b: tuple[Number, Number]) -> Float[Array, "..."]:
    """KL(N(a) || N(b)) by element."""
    return _kl_of_normals(*a, *b)


@jax.custom_jvp
def _kl_of_normals(
    mean_a: Number, std_a: Number, mean_b: Number, std_b: Number
) -> Float[Array, "..."]:
    """KL(N(mean_a, std_a) || N(mean_b, std_b)).

    With u = std_a / std_b and d = u - 1, taken from the difference of the two, it is
    (d (d + 2) + distance^2) / 2 - log(u), which is precise where the two are nearly equal
    if the rounding error of u is added back to the logarithm. It has no branch, because XLA on CPU
    stores the operands of a branch.
    """
    inverse = 1.0 / std_b
    u = std_a * inverse
    d = (std_a - std_b) * inverse
    log_u = jnp.log(u) + (d - (u - 1.0)) * u
    return 0.5 * (d * (d + 2.0) + jnp.square((mean_a - mean_b) * inverse)) - log_u


def _kl_of_normals_jvp(
    primals: tuple[Number, ...], tangents: tuple[Number, ...]
) -> tuple[Array, Array]:
    # Automatic differentiation divides by an array six times, and XLA on CPU stores each result.
    mean_a, std_a, mean_b, std_b = primals
    inverse = 1.0 / std_b
    distance = (mean_a - mean_b) * inverse
    gradients: tuple[Callable[[], Array], ...] = (
        lambda: distance * inverse,
        lambda: (std_a - std_b) * inverse * ((std_a + std_b) * inverse) / std_a,
        lambda: -distance * inverse,
        lambda: inverse * (1.0 - jnp.square(std_a * inverse) - jnp.square(distance)),
    )
    value = _kl_of_normals(*primals)
    tangent = jnp.zeros_like(value)
    for gradient, d in zip(gradients, tangents, strict=True):
        if not isinstance(d, SymbolicZero):
            tangent = tangent + gradient() * d
    return value, tangent


_kl_of_normals.defjvp(_kl_of_normals_jvp, symbolic_zeros=True)
