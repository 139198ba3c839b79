"""Split conformal prediction: sets and intervals that contain the truth with a chosen probability.

A score measures how badly a label fits a prediction. The threshold is the score of rank
ceil((n + 1) * (1 - alpha)) among n held-out calibration examples. The prediction set of a new
example is every label whose score is at most the threshold. If calibration and new examples are
exchangeable, the set contains the true label with probability at least 1 - alpha, for any network
and any data, and at most 1 - alpha + 1 / (n + 1) if no two scores are equal. This probability is
marginal: it holds over all inputs, not for each input.

    threshold = conformal.threshold(of_labels(aps_scores(p), labels), alpha=0.1)
    sets = prediction_sets(aps_scores(p_new), threshold)            # classification
    low, high = residual_interval(mean_new, threshold)              # regression

Calibration takes no weights: the guarantee requires examples of equal weight.

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
    """Returns the calibration score of rank ceil((n + 1) * (1 - alpha)), or inf if that exceeds n.

    Args:
        scores: scores of the true labels of n calibration examples, not used in training.
        alpha: probability of missing the truth, in (0, 1). Below 1 / (n + 1) there are too few
            examples for the guarantee, so the threshold is infinite and every label is predicted.

    Raises:
        ValueError: alpha outside (0, 1), or scores that are NaN.
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must be a probability, 0 < alpha < 1; got {alpha!r}.")
    (s,) = _examples.floats(scores=scores)
    _examples.check_rankable("scores", s)
    n = len(s)
    # In decimal, because in floating point (29 + 1) * (1 - 0.1) is above 27.
    rank = math.ceil((n + 1) * (1 - Fraction(repr(float(alpha)))))
    return jnp.sort(s)[rank - 1] if rank <= n else jnp.asarray(jnp.inf, s.dtype)


def lac_scores(probabilities: Probabilities) -> Float[Array, "examples classes"]:
    """Returns 1 - probability of each class (LAC, also called THR): the smallest sets on average.

    A set can be empty. Adding the most probable class to every set preserves the guarantee.
    """
    return 1 - _examples.class_probabilities(probabilities)


def aps_scores(
    probabilities: Probabilities, *, uniform: Numbers | None = None
) -> Float[Array, "examples classes"]:
    """Returns the total probability of all classes at least as probable as each class (APS).

    Sets are larger for inputs that are harder to classify.

    Args:
        probabilities: (examples, classes). Of equally probable classes, the first is ranked higher.
        uniform: one number from [0, 1) per example, `jax.random.uniform(key, (examples,))`: the
            fraction of the class's own probability that is counted, by default 1. Sets are then
            smaller and their coverage is closer to 1 - alpha, but they are random and can be empty.
    """
    p = _examples.class_probabilities(probabilities)
    part = jnp.asarray(np.ones(p.shape[0], p.dtype))
    if uniform is not None:
        part = jnp.asarray(uniform, p.dtype)
        if part.shape != (p.shape[0],):
            raise ValueError(f"uniform must be of shape ({p.shape[0]},), got {part.shape}.")
        known = _examples.known(part)
        if known is not None and not ((known >= 0) & (known <= 1)).all():
            raise ValueError(
                f"uniform must be in [0, 1), got {known.min():.4g} .. {known.max():.4g}."
            )
    return _aps(p, part)


def of_labels(class_scores: ClassScores, labels: Labels) -> Float[Array, " examples"]:
    """Returns the scores of the true labels, for calibration."""
    s = _of_classes("class_scores", class_scores)
    labels = _examples.class_labels(labels, examples=s.shape[0], classes=s.shape[1])
    return jnp.take_along_axis(s, labels[:, None], axis=1)[:, 0]


def prediction_sets(
    class_scores: ClassScores, threshold: ArrayLike
) -> Bool[Array, "examples classes"]:
    """Returns whether each class is in the set: its score is at most the threshold."""
    s = _of_classes("class_scores", class_scores)
    return s <= _checked_threshold(threshold, s)


def set_coverage(sets: Sets, labels: Labels, *, weights: Weights = None) -> Float[Array, ""]:
    """Fraction of the sets that contain the label."""
    inside = _members(sets)
    w = _examples.example_weights(weights, inside)
    return _examples.mean_of(jnp.asarray, w, of_labels(inside, labels))


def mean_set_size(sets: Sets, *, weights: Weights = None) -> Float[Array, ""]:
    """Mean number of classes per set; lower is better at equal coverage."""
    inside = _members(sets)
    return _examples.mean_of(_size, _examples.example_weights(weights, inside), inside)


def _members(sets: Sets) -> Float[Array, "examples classes"]:
    """Returns 1 where a class is in the set, else 0."""
    if not jnp.issubdtype(jnp.result_type(sets), jnp.bool_):
        raise ValueError(
            f"sets must be bools, as prediction_sets returns them, got {jnp.result_type(sets)}."
        )
    return _of_classes("sets", sets)


def residual_scores(
    mean: Numbers, targets: Numbers, *, std: Numbers | None = None
) -> Float[Array, " examples"]:
    """Returns |target - mean|, divided by `std` if given, for intervals that adapt to the input."""
    m, y = _examples.finite_floats(mean=mean, targets=targets)
    return jnp.abs(y - m) if std is None else jnp.abs(y - m) / _positive(std, m)


def residual_interval(
    mean: Numbers, threshold: ArrayLike, *, std: Numbers | None = None
) -> tuple[Float[Array, " examples"], Float[Array, " examples"]]:
    """Returns (low, high) = mean -+ threshold, or with `std` mean -+ threshold * std.

    `intervals.coverage` and `intervals.mean_width` evaluate them.
    """
    (m,) = _examples.finite_floats(mean=mean)
    half = jnp.broadcast_to(_checked_threshold(threshold, m), m.shape)
    half = half if std is None else half * _positive(std, m)
    return m - half, m + half


def cqr_scores(low: Numbers, high: Numbers, targets: Numbers) -> Float[Array, " examples"]:
    """Returns the distance of the target from the predicted quantiles, negative inside them."""
    low, high, y = _examples.finite_floats(low=low, high=high, targets=targets)
    return jnp.maximum(low - y, y - high)


def cqr_interval(
    low: Numbers, high: Numbers, threshold: ArrayLike
) -> tuple[Float[Array, " examples"], Float[Array, " examples"]]:
    """Returns (low - threshold, high + threshold).

    A negative threshold narrows the intervals. If it exceeds half the width, the interval is empty,
    with low above high.
    """
    low, high = _examples.finite_floats(low=low, high=high)
    by = _checked_threshold(threshold, low)
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
        raise ValueError(f"{name} must be of shape (examples, classes), got {values.shape}.")
    _examples.check_not_nan(name, values)
    return values


def _checked_threshold(threshold: ArrayLike, like: Array) -> Array:
    value = jnp.asarray(threshold, like.dtype)
    _examples.check_not_nan("threshold", value)
    return value


def _positive(std: Numbers, mean: Array) -> Float[Array, " examples"]:
    _, s = _examples.finite_floats(mean=mean, std=std)
    _examples.check_positive("std", s)
    return s
