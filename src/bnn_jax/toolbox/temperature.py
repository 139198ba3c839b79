"""Temperature scaling: calibrates class probabilities by one number fitted on held-out examples.

The logits are divided by T > 0 before the softmax. T > 1 makes predictions less confident, T < 1
more confident; the order of the classes and the accuracy stay the same. T minimises the mean
negative log likelihood, a convex function of 1 / T.

For a posterior predictive, use the logarithms of its probabilities as logits:
`fit_temperature(log_probabilities(p), labels)`.

Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks",
arXiv:1706.04599, section 4.2.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Labels, Probabilities, Weights

LOWEST, HIGHEST = 1e-3, 1e3

_MAX_STEPS = 100

_State = tuple[Array, Array, Array, Array, Array]

Logits = Float[ArrayIn, "examples classes"]


def fit_temperature(logits: Logits, labels: Labels, *, weights: Weights = None) -> Float[Array, ""]:
    """Returns the temperature in [0.001, 1000] that minimises the negative log likelihood.

    A result of 0.001 means that every label is the most probable class: no finite minimum exists,
    and more examples are needed. A result of 1000 means that the logits carry no information about
    the labels. The method is Newton's on log T, within a bracket: about 10 passes over the logits.

    Raises:
        ValueError: logits that are NaN or +inf, labels out of range.
    """
    z = _checked(logits)
    labels = _examples.class_labels(labels, examples=z.shape[0], classes=z.shape[1])
    return _minimise(z, labels, _examples.example_weights(weights, z))


def apply_temperature(logits: Logits, temperature: ArrayLike) -> Float[Array, "examples classes"]:
    """Returns the probabilities softmax(logits / temperature)."""
    z = _checked(logits)
    value = _examples.known(temperature)
    if value is not None and not 0 < value < np.inf:
        raise ValueError(f"temperature must be > 0 and finite, got {value}.")
    return jax.nn.softmax(z / jnp.asarray(temperature, z.dtype), axis=1)


def log_probabilities(probabilities: Probabilities) -> Float[Array, "examples classes"]:
    """Returns the logarithms of probabilities, to use as logits; finite even where one is 0."""
    p = _examples.class_probabilities(probabilities)
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


def _checked(logits: Logits) -> Float[Array, "examples classes"]:
    (z,) = _examples.floats(logits=logits)
    if z.ndim != 2:
        raise ValueError(f"logits must be of shape (examples, classes), got {z.shape}.")
    # A class that cannot occur may have a logit of -inf.
    _examples.check_not_nan("logits", z)
    if z.shape[1]:
        _examples.check_finite("the largest logit of each example", jnp.max(z, axis=1))
    return z


@jax.jit
def _minimise(z: Array, labels: Array, w: Array) -> Float[Array, ""]:
    # A shift leaves the softmax as it is, and small numbers lose less to rounding.
    z = z - jnp.max(z, axis=1, keepdims=True)
    chosen = jnp.take_along_axis(z, labels[:, None], axis=1)[:, 0]

    def slope(u: Array) -> tuple[Array, Array]:
        """Returns exp(-u) * d nll / d u at 1 / T = exp(u), and its derivative in u."""
        p = jax.nn.softmax(jnp.exp(u) * z, axis=1)
        # A class with a logit of -inf has p = 0 and contributes nothing; -inf * 0 would be NaN.
        seen = jnp.where(p > 0, z, 0)
        expected = jnp.sum(p * seen, axis=1)
        variance = jnp.sum(p * jnp.square(seen - expected[:, None]), axis=1)
        return _examples.mean(expected - chosen, w), jnp.exp(u) * _examples.mean(variance, w)

    lowest, highest = (jnp.log(jnp.asarray(1 / t, z.dtype)) for t in (HIGHEST, LOWEST))
    informative = jnp.any(z < 0)
    tolerance = 4 * jnp.finfo(z.dtype).eps

    def unfinished(state: _State) -> Array:
        _, low, high, step, count = state
        return (jnp.abs(step) > tolerance) & (high - low > tolerance) & (count < _MAX_STEPS)

    def update(state: _State) -> _State:
        u, low, high, previous, count = state
        value, derivative = slope(u)
        # The slope rounds to 0 where the softmax rounds to 0 and 1: the root is at a larger u.
        rises = (value < 0) | ((value == 0) & informative)
        low, high = jnp.where(rises, u, low), jnp.where(rises, high, u)
        newton = u - value / jnp.maximum(derivative, jnp.finfo(z.dtype).tiny)
        # Bisect where Newton's step leaves the bracket or does not shrink.
        trusted = (newton > low) & (newton < high) & (jnp.abs(newton - u) < jnp.abs(previous) / 2)
        following = jnp.where(trusted, newton, (low + high) / 2)
        return following, low, high, following - u, count + 1

    width = highest - lowest
    start = (jnp.zeros_like(lowest), lowest, highest, width, jnp.zeros((), jnp.int32))
    u, *_ = jax.lax.while_loop(unfinished, update, start)
    return jnp.exp(-u)
