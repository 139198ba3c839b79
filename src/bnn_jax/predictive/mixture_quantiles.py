"""Quantiles of a mixture: the predictive distribution over weight samples.

The distribution function of a mixture is the mean of its components'; a quantile is found by
bisection, which needs no density and copes with steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax.likelihoods import Regression, at_least_float32

DOUBLINGS = 100  # of the first bracket: more than any float32 scale needs


def mixture_quantile(
    likelihood: Regression | Callable[[PyTree], Array], outputs: PyTree, level: float
) -> Float[Array, "batch ..."]:
    """The value that the target exceeds with probability 1 - level, for each example.

    Args:
        likelihood: of the components; or a function of the outputs, whose own quantiles over the
            samples are wanted.
        outputs: the network's for each weight sample, (samples, batch, ...).
        level: in (0, 1).

    Returns:
        (batch, ...), exact to the rounding of the outputs' dtype. Of whole numbers it is the
        smallest whose distribution function reaches the level.
    """
    if not isinstance(likelihood, Regression):
        return jnp.quantile(at_least_float32(jax.vmap(likelihood)(outputs)), level, axis=0)
    means = jax.vmap(likelihood.mean)(outputs)
    centre = jnp.mean(means, axis=0)

    def below(values: Array) -> Array:
        cdf = jnp.mean(jax.vmap(lambda o: likelihood.cdf(o, values))(outputs), axis=0)
        return cdf < level

    # Half-widths grow until the bracket holds the quantile, for each element by itself.
    eps = jnp.finfo(centre.dtype).eps
    first = jnp.maximum(jnp.max(jnp.abs(means - centre[None]), axis=0), eps * (1 + jnp.abs(centre)))

    def missed(widths: tuple[Array, Array]) -> tuple[Array, Array]:
        down, up = widths
        return ~below(centre - down) & jnp.isfinite(down), below(centre + up) & jnp.isfinite(up)

    def widen(state: tuple[Array, tuple[Array, Array]]) -> tuple[Array, tuple[Array, Array]]:
        step, (down, up) = state
        too_high, too_low = missed((down, up))
        return step + 1, (
            jnp.where(too_high, 2 * down, down),
            jnp.where(too_low, 2 * up, up),
        )

    def goes_on(state: tuple[Array, tuple[Array, Array]]) -> Array:
        step, widths = state
        too_high, too_low = missed(widths)
        return (step < DOUBLINGS) & (jnp.any(too_high) | jnp.any(too_low))

    _, (down, up) = jax.lax.while_loop(goes_on, widen, (jnp.asarray(0), (first, first)))

    def halve(_: Array, bracket: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bracket
        middle = low + 0.5 * (high - low)
        lower = below(middle)
        return jnp.where(lower, middle, low), jnp.where(lower, high, middle)

    bits = jnp.finfo(centre.dtype).nmant + 8
    _, high = jax.lax.fori_loop(0, bits, halve, (centre - down, centre + up))
    return jnp.round(high) if likelihood.integers else high
