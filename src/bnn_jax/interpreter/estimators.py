"""How a Gaussian weight enters a linear map: y = linear(x, W), W ~ N(mean, std) element by element.

Three rules with one marginal law of y and three covariances, hence three gradient variances:

    reparam         W = mean + std * eps, one draw shared by the whole batch.
    local_reparam   y ~ N(linear(x, mean), linear(x^2, std^2)), drawn for each output element.
                    Exact only where each example meets each weight once, as in (batch, in) @ (in,
                    out).
    flipout         linear(x, mean) + out_signs * linear(x * in_signs, std * eps): one draw of eps
                    for the batch, made nearly independent between examples by random signs.
                    The law within an example is that of reparam, shared positions included.

`linear` is any function that is linear in x and in W: a product, a convolution, an einsum. The
rules know nothing of layers; the shapes of the signs are the caller's to give.

Sources: Kingma, Salimans, Welling 2015, arXiv:1506.02557 (local reparameterisation);
Wen, Vicol, Ba, Tran, Grosse 2018, arXiv:1803.04386 (flipout).
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax import noise
from bnn_jax.noise import PRNGKey

Linear = Callable[[Any, Any], Any]

ESTIMATORS = ("reparam", "local_reparam", "flipout")


def check_estimator(name: str) -> str:
    if name not in ESTIMATORS:
        raise ValueError(f"Unknown estimator {name!r}: choose one of {', '.join(ESTIMATORS)}.")
    return name


def reparam(
    key: PRNGKey,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    std: Float[Array, "..."],
    *,
    antithetic: bool = False,
) -> Float[Array, "..."]:
    """One weight draw for the whole batch; Blundell et al. 2015, arXiv:1505.05424."""
    return linear(x, perturb(mean, std * noise.normal(key, mean.shape, mean.dtype), antithetic))


def local_reparam(
    key: PRNGKey,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    std: Float[Array, "..."],
    *,
    antithetic: bool = False,
) -> Float[Array, "..."]:
    """An independent draw of every output element. Costs a second linear map, of the squares."""
    y = linear(x, mean)
    variance = linear(jnp.square(x), jnp.square(std))
    # The derivative of sqrt is infinite at 0, which an all-zero input reaches.
    spread = jnp.sqrt(jnp.maximum(variance, jnp.finfo(variance.dtype).tiny))
    return perturb(y, spread * noise.normal(key, y.shape, y.dtype), antithetic)


def flipout(
    key: PRNGKey,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    deviation: Float[Array, "..."],
    *,
    in_signs: tuple[int, ...],
    out_signs: tuple[int, ...],
    antithetic: bool = False,
) -> Float[Array, "..."]:
    """One weight draw, decorrelated between examples by signs. Costs a second linear map.

    Args:
        deviation: std * eps, the draw's difference from the mean.
        in_signs: shape of the signs on x: full on the example and the contracted axes, else 1.
        out_signs: shape of the signs on y: full on the example and the output axes, else 1.
    """
    in_key, out_key = jax.random.fold_in(key, 1), jax.random.fold_in(key, 2)
    if math.prod(in_signs[1:]) == 1:
        # An example has one sign on x, which multiplies those on y and changes nothing. So both
        # maps are of the same x, and one map.
        both = jax.vmap(linear, in_axes=(None, 0))(x, jnp.stack([mean, deviation]))
        y, flipped = both[0], both[1]
    else:
        y = linear(x, mean)
        flipped = linear(x * noise.signs(in_key, in_signs, x.dtype), deviation)
    return perturb(y, flipped * noise.signs(out_key, out_signs, flipped.dtype), antithetic)


def perturb(mean: Any, spread: Any, antithetic: bool) -> Any:
    """Mean + spread, or its antithetic twin mean - spread."""
    return mean - spread if antithetic else mean + spread
