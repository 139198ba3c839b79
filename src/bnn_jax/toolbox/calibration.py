"""Are class probabilities honest: of the examples said to be right with 80 %, are 80 % right?

The examples are put into bins by confidence, and in each bin the fraction that is right is
compared with the mean confidence. A calibration error is the mean of the gaps, each bin weighing as
much as its examples:

    sum over bins of |sum of w * correct - sum of w * confidence| / sum of w

Sources: Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
binning", and Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599 (expected calibration error);
Nixon, Dusenberry, Zhang, Jerfel, Tran 2019, arXiv:1904.01685 (equal-mass bins, and the class-wise
error, there called static).
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import Labels, Probabilities, Weights


class Reliability(NamedTuple):
    """A reliability diagram, bin by bin.

    Attributes:
        edges: borders of the bins, ascending.
        confidence: mean probability of the predicted class; NaN in an empty bin.
        accuracy: fraction that is right; NaN in an empty bin.
        counts: number of examples, or sum of their weights.
    """

    edges: Float[Array, " bins+1"]
    confidence: Float[Array, " bins"]
    accuracy: Float[Array, " bins"]
    counts: Float[Array, " bins"]


def ece(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15, weights: Weights = None
) -> Float[Array, ""]:
    """Expected calibration error, in [0, 1]: mean |accuracy - confidence| over bins of equal width.

    Bin i holds the confidences in (i / bins, (i + 1) / bins]; each weighs as many examples as it
    has.
    """
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    return _error(_equal_width_sums(*given, bins=bins))


def adaptive_ece(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15, weights: Weights = None
) -> Float[Array, ""]:
    """Calibration error over bins that hold equally many examples, in [0, 1].

    The bins have the same weight exactly: an example on a border counts in part for either bin.
    Examples of equal confidence count alike, in whatever order they come.
    """
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    return _error(_equal_mass_sums(*given, bins=bins)[1])


def classwise_ece(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15, weights: Weights = None
) -> Float[Array, ""]:
    """Static calibration error, in [0, 1]: the mean over classes of each one's calibration error.

    For class k, all examples are put into bins of equal width by their probability of k, and that
    is compared with the fraction that is of class k. It sees all probabilities, not the largest
    alone.
    """
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    return _error(_classwise_sums(*given, bins=bins))


def reliability(
    probabilities: Probabilities,
    labels: Labels,
    *,
    bins: int = 15,
    equal_mass: bool = False,
    weights: Weights = None,
) -> Reliability:
    """The bins of `ece`, or with `equal_mass` those of `adaptive_ece`, to draw a diagram of."""
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    if equal_mass:
        return _diagram(*_equal_mass_sums(*given, bins=bins))
    edges = jnp.asarray(np.arange(bins + 1) / bins, given[0].dtype)
    return _diagram(edges, _equal_width_sums(*given, bins=bins))


@partial(jax.jit, static_argnames="bins")
def _equal_width_sums(p: Array, labels: Array, w: Array, *, bins: int) -> Array:
    confidence, correct = _predictions(p, labels)
    return _sums_in_bins(confidence, correct, w, _bin(confidence, bins), bins)


@partial(jax.jit, static_argnames="bins")
def _equal_mass_sums(p: Array, labels: Array, w: Array, *, bins: int) -> tuple[Array, Array]:
    """The edges, and the sums between them: differences of sums that run with the confidence."""
    confidence, correct = _predictions(p, labels)
    values = jnp.stack([w, w * confidence, w * correct], axis=1)
    ascending, running = _examples.running_sums(confidence, values)
    running = jnp.concatenate([jnp.zeros((1, 3), w.dtype), running])
    mass = running[:, 0]
    # In this order it is exact where a border lies between two examples.
    borders = mass[-1] * jnp.arange(bins + 1, dtype=w.dtype) / bins
    at_borders = [borders, *(jnp.interp(borders, mass, running[:, i]) for i in (1, 2))]
    at = jnp.minimum(jnp.searchsorted(mass[1:], borders, side="left"), len(ascending) - 1)
    return ascending[at], jnp.diff(jnp.stack(at_borders, axis=1), axis=0)


@partial(jax.jit, static_argnames="bins")
def _classwise_sums(p: Array, labels: Array, w: Array, *, bins: int) -> Array:
    classes = p.shape[1]
    is_class = (labels[:, None] == jnp.arange(classes)[None, :]).astype(p.dtype)
    # Each class has its own bins: those of class k start at k * bins.
    index = _bin(p, bins)
    index = index + bins * jnp.arange(classes, dtype=index.dtype)[None, :]
    w = jnp.repeat(w, classes)
    return _sums_in_bins(p.ravel(), is_class.ravel(), w, index.ravel(), classes * bins)


def _predictions(p: Array, labels: Array) -> tuple[Array, Array]:
    """The confidence of each example, and 1 where it is right."""
    return jnp.max(p, axis=-1), (jnp.argmax(p, axis=-1) == labels).astype(p.dtype)


def _bin(confidence: Array, bins: int) -> Array:
    # Rounded once: jnp.linspace in float32 misses some of them by an ulp.
    inner = jnp.asarray(np.arange(1, bins) / bins, confidence.dtype)
    return jnp.searchsorted(inner, confidence, side="left")


def _sums_in_bins(confidence: Array, correct: Array, w: Array, index: Array, bins: int) -> Array:
    """In each bin the sums of w, w * confidence and w * correct: (bins, 3)."""
    values = jnp.stack([w, w * confidence, w * correct], axis=1)
    return jnp.zeros((bins, 3), w.dtype).at[index].add(values)


@jax.jit
def _error(sums: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.abs(sums[:, 2] - sums[:, 1])) / jnp.sum(sums[:, 0])


@jax.jit
def _diagram(edges: Array, sums: Array) -> Reliability:
    counts, filled = sums[:, 0], sums[:, 0] > 0
    confidence, accuracy = (
        jnp.where(filled, sums[:, i] / jnp.where(filled, counts, 1), jnp.nan) for i in (1, 2)
    )
    return Reliability(edges=edges, confidence=confidence, accuracy=accuracy, counts=counts)
