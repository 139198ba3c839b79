"""Calibration of class probabilities: of the predictions made with 80 % confidence, 80 % are right.

Examples are put into bins by confidence, the probability of the predicted class. In each bin the
accuracy is compared with the mean confidence. A calibration error is the mean of these gaps,
weighted by the number of examples in each bin:

    sum over bins of |sum of w * correct - sum of w * confidence| / sum of w

Sources: Naeini, Cooper, Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
binning", and Guo, Pleiss, Sun, Weinberger 2017, arXiv:1706.04599 (expected calibration error);
Nixon, Dusenberry, Zhang, Jerfel, Tran 2019, arXiv:1904.01685 (equal-mass bins; the class-wise
error, called static there).
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
    """The values of a reliability diagram, one per bin.

    Attributes:
        edges: bin edges, ascending.
        confidence: mean probability of the predicted class; NaN in an empty bin.
        accuracy: fraction of correct predictions; NaN in an empty bin.
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

    Bin i holds the confidences in (i / bins, (i + 1) / bins]. Each bin is weighted by its number of
    examples.
    """
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    return _error(_equal_width_sums(*given, bins=bins))


def adaptive_ece(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15, weights: Weights = None
) -> Float[Array, ""]:
    """Calibration error over bins of equal numbers of examples, in [0, 1].

    The bins have exactly equal weight: an example on an edge is divided between both bins. The
    result does not depend on the order of examples of equal confidence.
    """
    _examples.check_at_least_one("bins", bins)
    given = _examples.labelled(probabilities, labels, weights)
    return _error(_equal_mass_sums(*given, bins=bins)[1])


def classwise_ece(
    probabilities: Probabilities, labels: Labels, *, bins: int = 15, weights: Weights = None
) -> Float[Array, ""]:
    """Static calibration error, in [0, 1]: the mean over classes of each class's calibration error.

    For class k, all examples are put into bins of equal width by their probability of class k, and
    in each bin the mean probability is compared with the fraction of examples of class k. All
    probabilities contribute, not only the largest.
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
    """Returns the bins of `ece`, or with `equal_mass` those of `adaptive_ece`, for a diagram."""
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
    """Returns the edges and the sums between them, as differences of running sums."""
    confidence, correct = _predictions(p, labels)
    values = jnp.stack([w, w * confidence, w * correct], axis=1)
    ascending, running = _examples.running_sums(confidence, values)
    running = jnp.concatenate([jnp.zeros((1, 3), w.dtype), running])
    mass = running[:, 0]
    # Multiplying first is exact where a border lies between two examples.
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
    """Returns the confidence of each example, and 1 where the prediction is right."""
    return jnp.max(p, axis=-1), (jnp.argmax(p, axis=-1) == labels).astype(p.dtype)


def _bin(confidence: Array, bins: int) -> Array:
    # jnp.linspace in float32 rounds twice, which misses some edges by an ulp.
    inner = jnp.asarray(np.arange(1, bins) / bins, confidence.dtype)
    return jnp.searchsorted(inner, confidence, side="left")


def _sums_in_bins(confidence: Array, correct: Array, w: Array, index: Array, bins: int) -> Array:
    """Returns the sums of w, w * confidence and w * correct in each bin, (bins, 3)."""
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
