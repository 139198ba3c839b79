"""Does a score tell examples that are out of distribution from those that are in it?

The convention is one for all: a higher score means more out of distribution, and out of
distribution is the positive class. Mutual information, predictive entropy and reconstruction errors
are such scores as they stand; of a confidence, pass its negative. Equal scores are never parted, so
their order does not matter.

With "wrongly classified" in place of "out of distribution" the same functions measure how well a
score finds errors.

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
        threshold: examples of at least this score are called out of distribution; inf at first.
        fpr: fraction of the in-distribution examples that are called out, wrongly.
        tpr: fraction of the out-of-distribution examples that are called out, rightly.
    """

    threshold: Float[Array, " points"]
    fpr: Float[Array, " points"]
    tpr: Float[Array, " points"]


def auroc(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the ROC curve, in [0, 1]; 0.5 is chance.

    The probability that an example out of distribution scores higher than one in it, equal scores
    counted half.

    Args:
        scores: of all examples, those in and those out of distribution; higher is more out.
        is_out: which of them are out of distribution.
        weights: of the examples.

    Raises:
        ValueError: unless there are examples of both kinds.
    """
    return _auroc(*_checked(scores, is_out, weights))


def aupr(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the precision-recall curve as average precision, in [0, 1].

    The sum over thresholds of the gain in recall times precision, without interpolation. Chance is
    the fraction of examples that are out of distribution, so it depends on their number.
    """
    return _average_precision(*_checked(scores, is_out, weights))


def fpr_at_tpr(
    scores: Scores, is_out: IsOut, *, tpr: float = 0.95, weights: Weights = None
) -> Float[Array, ""]:
    """False alarms, in [0, 1], at the highest threshold that finds a fraction `tpr` of what is out.

    Where the in-distribution examples are taken for the positive class, as some papers do, pass
    -scores and ~is_out.
    """
    if not 0.0 < tpr <= 1.0:
        raise ValueError(f"tpr is a fraction to find, 0 < tpr <= 1; got {tpr!r}.")
    return _false_alarms(*_checked(scores, is_out, weights), tpr)


def roc_curve(scores: Scores, is_out: IsOut, *, weights: Weights = None) -> ROC:
    """The fractions called out of distribution, rightly and wrongly, at each score as threshold."""
    return _roc(*_checked(scores, is_out, weights))


def _checked(scores: Scores, is_out: IsOut, weights: Weights) -> tuple[Array, Array, Array]:
    kind = jnp.asarray(is_out).dtype
    if not jnp.issubdtype(kind, jnp.bool_):
        raise ValueError(f"is_out has to be boolean, True is out of distribution; got {kind}.")
    s, out = _examples.floats(scores=scores, is_out=is_out)
    _examples.check_rankable("scores", s)
    w = _examples.example_weights(weights, s)
    known_out, known_w = _examples.known(out), _examples.known(w)
    if known_out is not None and known_w is not None:
        total, of_out = known_w.sum(), known_w[known_out > 0].sum()
        if not 0 < of_out < total:
            raise ValueError(
                "There have to be examples both in and out of distribution; those out have a "
                f"weight of {of_out:.4g}, of {total:.4g} in all."
            )
    return s, out, w


def _counts(scores: Array, out: Array, w: Array) -> tuple[Array, Array, Array]:
    """Scores, descending, and the weight of either kind that scores at least as much."""
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
    # 19 of 20 are 95 %, however that is rounded.
    needed = tpr * true[-1] * (1 - 8 * jnp.finfo(true.dtype).eps)
    return false[jnp.argmax(true >= needed)] / false[-1]
