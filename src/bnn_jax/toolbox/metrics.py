"""How good and how honest class probabilities are: arrays in, numbers out.

Sources: Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599 (expected calibration error);
Brier 1950, "Verification of forecasts expressed in terms of probability".
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

Probabilities = Float[Array, "examples classes"]
Labels = Int[Array, "examples"]


def accuracy(probabilities: Probabilities, labels: Labels) -> Float[Array, ""]:
    """Fraction of examples whose most probable class is the label."""
    return jnp.mean(jnp.argmax(probabilities, axis=-1) == labels)


def nll(probabilities: Probabilities, labels: Labels) -> Float[Array, ""]:
    """Mean negative log probability of the label, in nats."""
    chosen = jnp.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
    return -jnp.mean(jnp.log(jnp.maximum(chosen, jnp.finfo(chosen.dtype).tiny)))


def brier(probabilities: Probabilities, labels: Labels) -> Float[Array, ""]:
    """Mean over examples of the squared distance from the one-hot label, in [0, 2]."""
    classes = jnp.arange(probabilities.shape[-1])[None, :]
    one_hot = (labels[:, None] == classes).astype(probabilities.dtype)
    return jnp.mean(jnp.sum(jnp.square(probabilities - one_hot), axis=-1))


def ece(probabilities: Probabilities, labels: Labels, *, bins: int = 15) -> Float[Array, ""]:
    """Expected calibration error: mean |accuracy - confidence| over bins of equal width.

    Bin i holds the confidences in (i / bins, (i + 1) / bins]; each weighs as many examples as it
    has.
    """
    confidence = jnp.max(probabilities, axis=-1)
    correct = (jnp.argmax(probabilities, axis=-1) == labels).astype(confidence.dtype)
    # Rounded once: jnp.linspace in float32 misses some of them by an ulp.
    edges = jnp.asarray(np.arange(1, bins) / bins, confidence.dtype)
    index = jnp.searchsorted(edges, confidence, side="left")
    gap = jnp.zeros((bins,), confidence.dtype).at[index].add(correct - confidence)
    return jnp.sum(jnp.abs(gap)) / confidence.shape[0]
