"""Split conformal prediction: sets and intervals that hold the truth with a chosen probability.

A score says how badly a label fits a prediction. Of n held-out calibration examples, the threshold
is the score of rank ceil((n + 1) * (1 - alpha)). The prediction for a new example is every label
whose score is at most that. If calibration and new examples are exchangeable, it holds the true
label with a probability of at least 1 - alpha, whatever the network and the data, and of at most
1 - alpha + 1 / (n + 1) if no two scores are equal. That is over all inputs, not for each of them.

    threshold = conformal.threshold(of_labels(aps_scores(p), labels), alpha=0.1)
    sets = prediction_sets(aps_scores(p_new), threshold)            # classification
    low, high = residual_interval(mean_new, threshold)              # regression

Calibration takes no weights: the guarantee is for examples that count alike.

Sources: Papadopoulos, Proedrou, Vovk, Gammerman 2002, "Inductive confidence machines for
regression", and Lei, G'Sell, Rinaldo, Tibshirani, Wasserman 2018, arXiv:1604.04173 (split
conformal, residuals, normalised residuals); Sadinle, Lei, Wasserman 2019, arXiv:1609.00451 (LAC);
Romano, Sesia, Candes 2020, arXiv:2006.02544 (APS); Romano, Patterson, Candes 2019,
arXiv:1905.03222 (CQR).
"""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Labels, Probabilities, Weights

Numbers = Float[ArrayIn, "examples"]
ClassScores = Float[ArrayIn, "examples classes"]
Sets = Bool[ArrayIn, "examples classes"]


def threshold(scores: Numbers, *, alpha: float) -> Float[Array, ""]:
    """The calibration score of rank ceil((n + 1) * (1 - alpha)); inf where that is above n.

    Args:
        scores: of the true labels of n calibration examples that the network was not trained on.
        alpha: probability of missing the truth, in (0, 1). Below 1 / (n + 1) there are too few
            examples to promise that, and the threshold is infinite: everything is predicted.

    Raises:
        ValueError: an alpha that is not in (0, 1), or scores that are NaN.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha is the probability of a miss, 0 < alpha < 1; got {alpha!r}.")
    (s,) = _examples.floats(scores=scores)
    _examples.check_rankable("scores", s)
    n = len(s)
    # As a decimal number: in binary (29 + 1) * (1 - 0.1) is a bit more than 27.
    rank = math.ceil((n + 1) * (1 - Fraction(repr(float(alpha)))))
    return jnp.sort(s)[rank - 1] if rank <= n else jnp.asarray(jnp.inf, s.dtype)


def lac_scores(probabilities: Probabilities) -> Float[Array, "examples classes"]:
    """1 - probability of each class: the smallest sets on average (LAC, also called THR).

    A set may be empty. Adding the most probable class to all sets keeps the guarantee.
    """
    return 1 - _examples.class_probabilities(probabilities)


def aps_scores(
    probabilities: Probabilities, *, uniform: Numbers | None = None
) -> Float[Array, "examples classes"]:
    """The probability of all classes down to each, itself included: sets adapt to the input (APS).

    Args:
        probabilities: of the classes; of equal ones the first counts as the more probable.
        uniform: one number from [0, 1) per example, `jax.random.uniform(key, (examples,))`: that
            part of the class's own probability is counted. Sets are smaller and their coverage is
            1 - alpha more exactly, but they are random, and may be empty. By default all of it.
    """
    p = _examples.class_probabilities(probabilities)
    part = jnp.asarray(np.ones(p.shape[0], p.dtype))
    if uniform is not None:
        part = jnp.asarray(uniform, p.dtype)
        if part.shape != (p.shape[0],):
            raise ValueError(f"uniform has to be of shape ({p.shape[0]},), got {part.shape}.")
    return _aps(p, part)


def of_labels(class_scores: ClassScores, labels: Labels) -> Float[Array, " examples"]:
    """The scores of the true labels, to calibrate with."""
    s = _of_classes("class_scores", class_scores)
    labels = _examples.class_labels(labels, examples=s.shape[0], classes=s.shape[1])
    return jnp.take_along_axis(s, labels[:, None], axis=1)[:, 0]


def prediction_sets(
    class_scores: ClassScores, threshold: ArrayLike
) -> Bool[Array, "examples classes"]:
    """The classes that belong to each set: those whose score is at most the threshold."""
    s = _of_classes("class_scores", class_scores)
    return s <= jnp.asarray(threshold, s.dtype)


def set_coverage(sets: Sets, labels: Labels, *, weights: Weights = None) -> Float[Array, ""]:
    """Fraction of the sets that hold the label."""
    inside = _of_classes("sets", sets)
    w = _examples.example_weights(weights, inside)
    return _examples.mean_of(jnp.asarray, w, of_labels(inside, labels))


def mean_set_size(sets: Sets, *, weights: Weights = None) -> Float[Array, ""]:
    """Mean number of classes in a set; lower is better at equal coverage."""
    inside = _of_classes("sets", sets)
    return _examples.mean_of(_size, _examples.example_weights(weights, inside), inside)


def residual_scores(
    mean: Numbers, targets: Numbers, *, std: Numbers | None = None
) -> Float[Array, " examples"]:
    """|target - mean|, or with `std` that over the std: intervals as wide as the input is hard."""
    m, y = _examples.floats(mean=mean, targets=targets)
    return jnp.abs(y - m) if std is None else jnp.abs(y - m) / _positive(std, m)


def residual_interval(
    mean: Numbers, threshold: ArrayLike, *, std: Numbers | None = None
) -> tuple[Float[Array, " examples"], Float[Array, " examples"]]:
    """(low, high) = mean -+ threshold, or with `std` mean -+ threshold * std.

    `intervals.coverage` and `intervals.mean_width` tell how good they are.
    """
    (m,) = _examples.floats(mean=mean)
    half = jnp.broadcast_to(jnp.asarray(threshold, m.dtype), m.shape)
    half = half if std is None else half * _positive(std, m)
    return m - half, m + half


def cqr_scores(low: Numbers, high: Numbers, targets: Numbers) -> Float[Array, " examples"]:
    """How far the target is outside of predicted quantiles, negative inside."""
    low, high, y = _examples.floats(low=low, high=high, targets=targets)
    return jnp.maximum(low - y, y - high)


def cqr_interval(
    low: Numbers, high: Numbers, threshold: ArrayLike
) -> tuple[Float[Array, " examples"], Float[Array, " examples"]]:
    """(low - threshold, high + threshold): predicted quantiles, widened or narrowed alike.

    Narrowed by more than its width an interval is empty, with low above high.
    """
    low, high = _examples.floats(low=low, high=high)
    by = jnp.asarray(threshold, low.dtype)
    return low - by, high + by


def _size(inside: Array) -> Array:
    return jnp.sum(inside, axis=1)


@jax.jit
def _aps(p: Array, part: Array) -> Array:
    order = jnp.argsort(-p, axis=1)
    descending = jnp.take_along_axis(p, order, axis=1)
    scores = jnp.cumsum(descending, axis=1) - (1 - part)[:, None] * descending
    return jnp.take_along_axis(scores, jnp.argsort(order, axis=1), axis=1)


def _of_classes(name: str, x: ArrayIn) -> Float[Array, "examples classes"]:
    (values,) = _examples.floats(**{name: x})
    if values.ndim != 2:
        raise ValueError(f"{name} have to be of shape (examples, classes), got {values.shape}.")
    return values


def _positive(std: Numbers, mean: Array) -> Float[Array, " examples"]:
    _, s = _examples.floats(mean=mean, std=std)
    _examples.check_positive("std", s)
    return s
