"""Detection of out-of-distribution examples by a score, such as mutual information or entropy.

A higher score always means further out of distribution, and out of distribution is the positive
class. Mutual information, predictive entropy and reconstruction errors can be passed as they are;
for a confidence, pass its negative. Results do not depend on the order of examples of equal score.

The same functions measure how well a score detects errors: pass whether each prediction is wrong
in place of `is_out`.

Sources: Hendrycks, Gimpel 2017, arXiv:1610.02136 (AUROC and AUPR of detection); Liang, Li, Srikant
2018, arXiv:1706.02690 (FPR at 95 % TPR).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Weights

Scores = Float[ArrayIn, "examples"]
IsOut = Bool[ArrayIn, "examples"]


class ROC(NamedTuple):
    """The ROC curve from (0, 0) to (1, 1), one point per example after the first.

    Attributes:
        threshold: examples of at least this score are detected; inf at the first point.
        fpr: fraction of the in-distribution examples that are detected, wrongly.
        tpr: fraction of the out-of-distribution examples that are detected.
    """

    threshold: Float[Array, " points"]
    fpr: Float[Array, " points"]
    tpr: Float[Array, " points"]


def auroc(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance.

    This is the probability that an example out of distribution scores higher than one in
    distribution, where equal scores count one half.

    Args:
        scores: one per example, in and out of distribution; higher is further out.
        is_out: True for examples that are out of distribution.
        weights: one per example.

    Raises:
        ValueError: scores that are NaN, or examples of one kind only.
    """
    return _auroc(*_checked(scores, is_out, weights))


def aupr(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the precision-recall curve as average precision, in [0, 1].

    This is the sum over thresholds of the increase in recall times the precision, without
    interpolation. The value at chance is the fraction of examples that are out of distribution.
    """
    return _average_precision(*_checked(scores, is_out, weights))


def fpr_at_tpr(
    scores: Scores, is_out: IsOut, *, tpr: float = 0.95, weights: Weights = None
) -> Float[Array, ""]:
    """False positive rate, in [0, 1], at the highest threshold with a true positive rate >= `tpr`.

    Some papers take the in-distribution examples as the positive class: for their definition, pass
    -scores and ~is_out.
    """
    if not 0.0 < tpr <= 1.0:
        raise ValueError(f"tpr must be a fraction, 0 < tpr <= 1; got {tpr!r}.")
    return _false_alarms(*_checked(scores, is_out, weights), tpr)


def roc_curve(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> ROC:
    """Returns the true and false positive rates with each score as the threshold."""
    return _roc(*_checked(scores, is_out, weights))


def _checked(scores: Scores, is_out: IsOut, weights: Weights) -> tuple[Array, Array, Array]:
    kind = jnp.asarray(is_out).dtype
    if not jnp.issubdtype(kind, jnp.bool_):
        raise ValueError(f"is_out must be boolean, True for out of distribution; got {kind}.")
    s, out = _examples.floats(scores=scores, is_out=is_out)
    _examples.check_rankable("scores", s)
    w = _examples.example_weights(weights, s)
    known_out, known_w = _examples.known(out), _examples.known(w)
    if known_out is not None and known_w is not None:
        total, of_out = known_w.sum(), known_w[known_out > 0].sum()
        if not 0 < of_out < total:
            raise ValueError(
                "There must be examples both in and out of distribution; those out have a "
                f"weight of {of_out:.4g} in a total of {total:.4g}."
            )
    return s, out, w


def _counts(scores: Array, out: Array, w: Array) -> tuple[Array, Array, Array]:
    """Returns descending scores, and for each kind the weight that scores at least as much."""
    columns = jnp.stack([w * out, w * (1 - out)], axis=1)
    descending, sums = _examples.running_sums(-scores, columns)
    return -descending, sums[:, 0], sums[:, 1]


@jax.jit
def _roc(scores: Array, out: Array, w: Array) -> ROC:
    threshold, true, false = _counts(scores, out, w)
    start = jnp.zeros((1,), true.dtype)
    return ROC(
        threshold=jnp.concatenate([start + jnp.inf, threshold]),
        fpr=jnp.concatenate([start, false / false[-1]]),
        tpr=jnp.concatenate([start, true / true[-1]]),
    )


@jax.jit
def _auroc(scores: Array, out: Array, w: Array) -> Float[Array, ""]:
    curve = _roc(scores, out, w)
    return jnp.trapezoid(curve.tpr, curve.fpr)


@jax.jit
def _average_precision(scores: Array, out: Array, w: Array) -> Float[Array, ""]:
    _, true, false = _counts(scores, out, w)
    called = true + false
    precision = jnp.where(called > 0, true / jnp.where(called > 0, called, 1), 0)
    return jnp.sum(jnp.diff(true, prepend=0) * precision) / true[-1]


@jax.jit
def _false_alarms(scores: Array, out: Array, w: Array, tpr: Array) -> Float[Array, ""]:
    _, true, false = _counts(scores, out, w)
    # A tolerance, so that 19 of 20 examples reach 0.95 in floating point.
    needed = tpr * true[-1] * (1 - 8 * jnp.finfo(true.dtype).eps)
    return false[jnp.argmax(true >= needed)] / false[-1]
