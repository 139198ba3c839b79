"""Selective prediction: what is left of the error if the most uncertain examples are refused?

With a threshold on the uncertainty, the coverage is the fraction of examples answered, and the risk
their mean loss. A good uncertainty has low risk at low coverage.

AURC, the area under that curve, is the mean over examples of the risk with the threshold at that
example's own uncertainty:

    AURC = mean over i of r(u_i),    r(u) = mean loss of the examples of uncertainty <= u

A threshold cannot part examples of equal uncertainty, so these are answered or refused together,
and their order does not matter.

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
    """The risk-coverage curve, one point per example, from the surest to the most uncertain.

    Attributes:
        threshold: examples of at most this uncertainty are answered.
        coverage: fraction of examples answered, in (0, 1].
        risk: mean loss of those answered.
    """

    threshold: Float[Array, " examples"]
    coverage: Float[Array, " examples"]
    risk: Float[Array, " examples"]


def risk_coverage(loss: Losses, uncertainty: Scores, *, weights: Weights = None) -> RiskCoverage:
    """The risk at every coverage that a threshold on the uncertainty can have.

    Args:
        loss: of each example, any unit; for classification whether the prediction is wrong.
        uncertainty: any score of the examples, higher is less sure. Of a confidence, its negative.
        weights: of the examples.
    """
    return _curve(*_checked(loss, uncertainty, weights))


def aurc(loss: Losses, uncertainty: Scores, *, weights: Weights = None) -> Float[Array, ""]:
    """Area under the risk-coverage curve, in the unit of the loss; lower is better.

    A useless uncertainty has the mean loss itself. The area depends on the accuracy too, so compare
    scores of one network, or networks of equal accuracy.
    """
    return _area(*_checked(loss, uncertainty, weights))


def _checked(loss: Losses, uncertainty: Scores, weights: Weights) -> tuple[Array, Array, Array]:
    loss, u = _examples.floats(loss=loss, uncertainty=uncertainty)
    _examples.check_rankable("uncertainty", u)
    return loss, u, _examples.example_weights(weights, u)


@jax.jit
def _curve(loss: Array, u: Array, w: Array) -> RiskCoverage:
    threshold, sums = _examples.running_sums(u, jnp.stack([w, w * loss], axis=1))
    answered, lost = sums[:, 0], sums[:, 1]
    # Examples of weight 0 may come first: none is answered, nothing is lost.
    risk = jnp.where(answered > 0, lost / jnp.where(answered > 0, answered, 1), 0)
    return RiskCoverage(threshold=threshold, coverage=answered / answered[-1], risk=risk)


@jax.jit
def _area(loss: Array, u: Array, w: Array) -> Float[Array, ""]:
    curve = _curve(loss, u, w)
    return jnp.sum(jnp.diff(curve.coverage, prepend=0) * curve.risk)
