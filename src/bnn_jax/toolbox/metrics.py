"""Accuracy and proper scores of class probabilities.

Every function runs inside `jit` and takes `weights`: an example of weight w counts as w copies.
Outside `jit`, NaN or infinite probabilities and labels out of range are errors. `ece` is defined in
`calibration` and re-exported here.

Source: Brier 1950, "Verification of forecasts expressed in terms of probability".
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import Labels, Probabilities, Weights
from bnn_jax.toolbox.calibration import ece as ece


def accuracy(
    probabilities: Probabilities, labels: Labels, *, weights: Weights = None
) -> Float[Array, ""]:
    """Fraction of examples whose most probable class is the label, in [0, 1].

    If classes are equally probable, the first counts.
    """
    p, labels, w = _examples.labelled(probabilities, labels, weights)
    return _examples.mean_of(_correct, w, p, labels)


def nll(
    probabilities: Probabilities, labels: Labels, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean negative log probability of the label, in nats; finite even where it is 0."""
    p, labels, w = _examples.labelled(probabilities, labels, weights)
    return _examples.mean_of(_surprise, w, p, labels)


def brier(
    probabilities: Probabilities, labels: Labels, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean over examples of the squared distance from the one-hot label, in [0, 2].

    This is Brier's definition, summed over classes. For two classes it is twice the squared error
    of the probability of one of them.
    """
    p, labels, w = _examples.labelled(probabilities, labels, weights)
    return _examples.mean_of(_squared_distance, w, p, labels)


def _correct(p: Array, labels: Array) -> Array:
    return (jnp.argmax(p, axis=-1) == labels).astype(p.dtype)


def _surprise(p: Array, labels: Array) -> Array:
    chosen = jnp.take_along_axis(p, labels[:, None], axis=-1)[:, 0]
    return -jnp.log(jnp.maximum(chosen, jnp.finfo(chosen.dtype).tiny))


def _squared_distance(p: Array, labels: Array) -> Array:
    one_hot = (labels[:, None] == jnp.arange(p.shape[-1])[None, :]).astype(p.dtype)
    return jnp.sum(jnp.square(p - one_hot), axis=-1)
