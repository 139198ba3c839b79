"""Functions of independent normal variables whose mean and variance are known in closed form.

With a = mean / std, and the normal density phi and distribution function Phi at a:

    relu        mean = std (a Phi + phi)
                variance = std^2 (Phi + a^2 Phi (1 - Phi) + a phi (1 - 2 Phi) - phi^2)
    exp         mean = exp(m + v / 2), variance = mean^2 (exp(v) - 1)
    x y         mean = m_x m_y, variance = v_x (m_y^2 + v_y) + m_x^2 v_y

All forms of the variance avoid differences of large numbers: they are accurate where the std is
small against the mean.

Sources: Clark 1961, "The greatest of a finite set of random variables" (the maximum); Frey, Hinton
1999, "Variational learning in nonlinear Gaussian belief networks" (relu).
"""

import math

import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array

from bnn_jax.moments.value import Moments


def maximum(x: Moments, y: Moments) -> Moments:
    """Returns the moments of the maximum of two independent normal variables (Clark 1961)."""
    variance = x.variance + y.variance
    theta = Moments(x.mean, variance).std
    below, above, density = _at((x.mean - y.mean) / theta)
    difference = x.mean - y.mean
    excess = difference * below + theta * density
    second = (
        jnp.square(difference) * below * above
        + x.variance * below
        + y.variance * above
        + difference * theta * density * (above - below)
        - variance * jnp.square(density)
    )
    return Moments(y.mean + excess, jnp.maximum(second, 0.0))


def relu(x: Moments) -> Moments:
    std = x.std
    a = x.mean / std
    below, above, density = _at(a)
    mean = std * jnp.maximum(a * below + density, 0.0)
    relative = (
        below + jnp.square(a) * below * above + a * density * (above - below) - jnp.square(density)
    )
    return Moments(mean, x.variance * jnp.maximum(relative, 0.0))


def absolute(x: Moments) -> Moments:
    std = x.std
    a = x.mean / std
    below, above, density = _at(a)
    mean = std * (a * (below - above) + 2.0 * density)
    relative = (
        1.0
        + 4.0 * jnp.square(a) * below * above
        - 4.0 * a * density * (below - above)
        - 4.0 * jnp.square(density)
    )
    return Moments(mean, x.variance * jnp.maximum(relative, 0.0))


def exp(x: Moments) -> Moments:
    mean = jnp.exp(x.mean + 0.5 * x.variance)
    return Moments(mean, jnp.square(mean) * jnp.expm1(x.variance))


def sin(x: Moments) -> Moments:
    return Moments(jnp.exp(-0.5 * x.variance) * jnp.sin(x.mean), _wave(x, 1.0))


def cos(x: Moments) -> Moments:
    return Moments(jnp.exp(-0.5 * x.variance) * jnp.cos(x.mean), _wave(x, -1.0))


def square(x: Moments) -> Moments:
    mean = jnp.square(x.mean)
    return Moments(mean + x.variance, 4.0 * mean * x.variance + 2.0 * jnp.square(x.variance))


def product(x: Moments, y: Moments) -> Moments:
    """Returns the moments of the product of two independent variables, normal or not."""
    variance = x.variance * (jnp.square(y.mean) + y.variance) + jnp.square(x.mean) * y.variance
    return Moments(x.mean * y.mean, variance)


def _wave(x: Moments, sign: float) -> Array:
    """The variance of sin(x) with sign 1, of cos(x) with sign -1."""
    decay = jnp.exp(-x.variance)
    return -0.5 * jnp.expm1(-x.variance) * (1.0 + sign * decay * jnp.cos(2.0 * x.mean))


def _at(a: Array) -> tuple[Array, Array, Array]:
    """The standard normal Phi(a), 1 - Phi(a) and density, where a may be huge."""
    a = jnp.clip(a, -30.0, 30.0)
    below = ndtr(a)
    return below, 1.0 - below, jnp.exp(-0.5 * jnp.square(a)) / math.sqrt(2.0 * math.pi)
