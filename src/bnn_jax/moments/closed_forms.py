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

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array

from bnn_jax._compiler import materialise
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
    return _stored(y.mean + excess, jnp.maximum(second, 0.0), variance)


def relu(x: Moments) -> Moments:
    std = x.std
    a = x.mean / std
    below, above, density = _at(a)
    mean = std * jnp.maximum(a * below + density, 0.0)
    relative = (
        below + jnp.square(a) * below * above + a * density * (above - below) - jnp.square(density)
    )
    return _stored(mean, x.variance * jnp.maximum(relative, 0.0), x.variance)


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


def _stored(mean: Array, variance: Array, known: Array) -> Moments:
    """Moments in memory: XLA would compute them again for each use, in pooling many times over."""
    one = 1.0 + 0.0 * known
    return Moments(materialise(mean, divide_by=one), materialise(variance, divide_by=one))


def _wave(x: Moments, sign: float) -> Array:
    """The variance of sin(x) with sign 1, of cos(x) with sign -1."""
    decay = jnp.exp(-x.variance)
    return -0.5 * jnp.expm1(-x.variance) * (1.0 + sign * decay * jnp.cos(2.0 * x.mean))


def _at(a: Array) -> tuple[Array, Array, Array]:
    """The standard normal Phi(a), 1 - Phi(a) and density, where a may be huge."""
    a = jnp.clip(a, -30.0, 30.0)
    return *_tails(a), _density(a)


def _density(a: Array) -> Array:
    return jnp.exp(-0.5 * jnp.square(a)) / math.sqrt(2.0 * math.pi)


# (1 - Phi(t)) / phi(t) for t >= 0 as a polynomial in k = 1 / (1 + 0.36 t) without constant term, by
# least squares of the largest relative error: 8e-8.
_MILLS = (
    0.35999541647559063,
    0.3601762248605458,
    0.31063859306129665,
    0.2418837703156485,
    -0.004611217474629249,
    0.27591955923552897,
    -0.5678460044190561,
    0.3539964810252848,
    -0.0768387800516619,
)


@jax.custom_jvp
def _tails(a: Array) -> tuple[Array, Array]:
    """Phi(a) and 1 - Phi(a), both with a small relative error.

    A polynomial for float32: XLA computes erfc with branches, which takes several times longer.
    """
    if a.dtype != jnp.float32:
        return ndtr(a), ndtr(-a)
    k = 1.0 / (1.0 + 0.36 * jnp.abs(a))
    ratio = jnp.full_like(k, _MILLS[-1])
    for coefficient in reversed(_MILLS[:-1]):
        ratio = ratio * k + coefficient
    tail = _density(a) * ratio * k
    return jnp.where(a < 0.0, tail, 1.0 - tail), jnp.where(a < 0.0, 1.0 - tail, tail)


@_tails.defjvp
def _tails_jvp(
    at: tuple[Array], towards: tuple[Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    change = _density(*at) * towards[0]
    return _tails(*at), (change, -change)
