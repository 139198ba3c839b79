"""Temperature scaling: one number, fitted on held-out examples, that makes confidences honest.

The logits are divided by T > 0 before the softmax. T > 1 makes a network less sure, T < 1 surer;
the order of the classes stays, and so does the accuracy. T is the one that minimises the mean
negative log likelihood, a convex function of 1 / T.

The logarithms of probabilities serve as logits, such as those of a posterior predictive:
`fit_temperature(log_probabilities(p), labels)`.

Source: Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks",
arXiv:1706.04599, section 4.2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Labels, Probabilities, Weights

LOWEST, HIGHEST = 1e-3, 1e3

_MAX_STEPS = 100

_State = tuple[Array, Array, Array, Array, Array]

Logits = Float[ArrayIn, "examples classes"]


def fit_temperature(logits: Logits, labels: Labels, *, weights: Weights = None) -> Float[Array, ""]:
    """The temperature under which the labels are most probable, in [0.001, 1000].

    The lower end is reached where every label is the most probable class: there is no best
    temperature then, and more examples are needed. The upper end, where the logits tell nothing
    about the labels. Newton's method on log T, within a bracket; some 10 passes over the logits.
    """
    z = _checked(logits)
    labels = _examples.class_labels(labels, examples=z.shape[0], classes=z.shape[1])
    return _minimise(z, labels, _examples.example_weights(weights, z))


def apply_temperature(logits: Logits, temperature: ArrayLike) -> Float[Array, "examples classes"]:
    """Probabilities softmax(logits / temperature)."""
    z = _checked(logits)
    value = _examples.known(temperature)
    if value is not None and not value > 0:
        raise ValueError(f"temperature has to be > 0, got {value}.")
    return jax.nn.softmax(z / jnp.asarray(temperature, z.dtype), axis=1)


def log_probabilities(probabilities: Probabilities) -> Float[Array, "examples classes"]:
    """Logits of given probabilities: their logarithms, finite also where one is 0."""
    p = _examples.class_probabilities(probabilities)
    return jnp.log(jnp.maximum(p, jnp.finfo(p.dtype).tiny))


def _checked(logits: Logits) -> Float[Array, "examples classes"]:
    (z,) = _examples.floats(logits=logits)
    if z.ndim != 2:
        raise ValueError(f"logits have to be of shape (examples, classes), got {z.shape}.")
    return z


@jax.jit
def _minimise(z: Array, labels: Array, w: Array) -> Float[Array, ""]:
    # The softmax is the same, and numbers stay small.
    z = z - jnp.max(z, axis=1, keepdims=True)
    chosen = jnp.take_along_axis(z, labels[:, None], axis=1)[:, 0]

    def slope(u: Array) -> tuple[Array, Array]:
        """The slope d nll / d u at 1 / T = exp(u), over exp(u), and the derivative of that in u."""
        p = jax.nn.softmax(jnp.exp(u) * z, axis=1)
        # A class with a logit of -inf has p = 0, and adds nothing.
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
        # 0 where the softmax has rounded to certainty: the root is further on.
        rises = (value < 0) | ((value == 0) & informative)
        low, high = jnp.where(rises, u, low), jnp.where(rises, high, u)
        newton = u - value / jnp.maximum(derivative, jnp.finfo(z.dtype).tiny)
        # Halve the bracket where Newton's step leaves it, or does not fall off.
        trusted = (newton > low) & (newton < high) & (jnp.abs(newton - u) < jnp.abs(previous) / 2)
        following = jnp.where(trusted, newton, (low + high) / 2)
        return following, low, high, following - u, count + 1

    width = highest - lowest
    start = (jnp.zeros_like(lowest), lowest, highest, width, jnp.zeros((), jnp.int32))
    u, *_ = jax.lax.while_loop(unfinished, update, start)
    return jnp.exp(-u)
