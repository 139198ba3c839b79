"""Scores of predictions on held-out examples, by the kind of likelihood."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike

from bnn_jax.predictive import Classification, Regression
from bnn_jax.toolbox import intervals, metrics, regression

# Quantiles that end the interval whose coverage is reported.
LEVELS = (0.05, 0.95)


def scores(
    predicted: Classification | Regression, targets: ArrayLike, *, ece_bins: int = 15
) -> dict[str, float]:
    """Returns the scores of a prediction.

    Args:
        predicted: the prediction of the same examples, with `log_prob`.
        targets: labels, or values in the units of the targets.
        ece_bins: bins of the expected calibration error.

    Returns:
        Classes: accuracy, nll (nats), ece, brier. Two classes from one logit are scored alike.
        Numbers: nll (nats), log_likelihood (its negative), rmse; where the prediction has the
        quantiles of `LEVELS`, coverage and mean width of the 90 % interval.
    """
    if isinstance(predicted, Classification):
        return _of_classes(predicted, targets, ece_bins)
    assert predicted.log_prob is not None
    targets = jnp.asarray(targets, jnp.result_type(predicted.mean))  # counts are whole numbers
    log_likelihood = float(np.mean(predicted.log_prob))
    found = {
        "nll": -log_likelihood,
        "log_likelihood": log_likelihood,
        "rmse": float(regression.rmse(predicted.mean, targets)),
    }
    if predicted.quantiles:
        low, high = predicted.interval(0.9)
        found["coverage_of_90_percent"] = float(intervals.coverage(low, high, targets))
        found["width_of_90_percent"] = float(intervals.mean_width(low, high))
    return found


def _of_classes(predicted: Classification, targets: ArrayLike, ece_bins: int) -> dict[str, float]:
    labels = jnp.asarray(targets).astype(jnp.int32)
    probabilities = jnp.asarray(predicted.probabilities)
    if probabilities.ndim == labels.ndim:  # one logit: the probability of class 1
        probabilities = jnp.stack([1.0 - probabilities, probabilities], axis=-1)
    classes = probabilities.shape[-1]
    probabilities, labels = probabilities.reshape(-1, classes), labels.reshape(-1)
    return {
        "accuracy": float(metrics.accuracy(probabilities, labels)),
        "nll": float(metrics.nll(probabilities, labels)),
        "ece": float(metrics.ece(probabilities, labels, bins=ece_bins)),
        "brier": float(metrics.brier(probabilities, labels)),
    }
