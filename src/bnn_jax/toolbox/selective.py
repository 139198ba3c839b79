"""Selective prediction: the error that remains when the most uncertain examples are rejected.

For a threshold on the uncertainty, the coverage is the fraction of examples that are accepted and
the risk is their mean loss. A useful uncertainty has low risk at low coverage.

AURC, the area under the risk-coverage curve, is the mean over examples of the risk at the threshold
equal to that example's uncertainty:

    AURC = mean over i of r(u_i),    r(u) = mean loss of the examples of uncertainty <= u

Examples of equal uncertainty are accepted or rejected together, so the result does not depend on
their order.

Sources: Geifman, El-Yaniv 2017, "Selective classification for deep neural networks",
arXiv:1705.08500 (risk and coverage); Geifman, Uziel, El-Yaniv 2019, arXiv:1805.08206, section 2
(AURC).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Weights

Losses = Float[ArrayIn, "examples"] | Bool[ArrayIn, "examples"]
Scores = Float[ArrayIn, "examples"]


class RiskCoverage(NamedTuple):
    """The risk-coverage curve, one point per example, by ascending uncertainty.

    Attributes:
        threshold: examples of at most this uncertainty are accepted.
        coverage: fraction of examples accepted, in (0, 1].
        risk: mean loss of the accepted examples.
    """

    threshold: Float[Array, " examples"]
    coverage: Float[Array, " examples"]
    risk: Float[Array, " examples"]


def risk_coverage(loss: Losses, uncertainty: Scores, *, weights: Weights = None) -> RiskCoverage:
    """Returns the risk at every coverage that a threshold on the uncertainty can reach.

    Args:
        loss: one per example, in any unit; for classification, whether the prediction is wrong.
        uncertainty: any score that is higher for less certain predictions. For a confidence, pass
            its negative.
        weights: one per example.
    """
    return _curve(*_checked(loss, uncertainty, weights))


def aurc(loss: Losses, uncertainty: Scores, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the risk-coverage curve, in the unit of the loss; lower is better.

    An uninformative uncertainty has an AURC equal to the mean loss. AURC depends on the accuracy as
    well, so compare scores of one network, or networks of equal accuracy.
    """
    return _area(*_checked(loss, uncertainty, weights))


def _checked(loss: Losses, uncertainty: Scores, weights: Weights) -> tuple[Array, Array, Array]:
    loss, u = _examples.floats(loss=loss, uncertainty=uncertainty)
    _examples.check_rankable("uncertainty", u)
    _examples.check_not_nan("loss", loss)
    return loss, u, _examples.example_weights(weights, u)


@jax.jit
def _curve(loss: Array, u: Array, w: Array) -> RiskCoverage:
    threshold, sums = _examples.running_sums(u, jnp.stack([w, w * loss], axis=1))
    accepted, lost = sums[:, 0], sums[:, 1]
    # Examples of weight 0 may come first: the accepted weight is then 0.
    risk = jnp.where(accepted > 0, lost / jnp.where(accepted > 0, accepted, 1), 0)
    return RiskCoverage(threshold=threshold, coverage=accepted / accepted[-1], risk=risk)


@jax.jit
def _area(loss: Array, u: Array, w: Array) -> Float[Array, ""]:
    curve = _curve(loss, u, w)
    return jnp.sum(jnp.diff(curve.coverage, prepend=0) * curve.risk)
