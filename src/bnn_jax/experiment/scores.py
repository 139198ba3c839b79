"""The scores of a run.

Held-out examples measure the quality of its predictions. A curve has a known distribution, so there
the uncertainties are also compared with it, inside and outside of the training range.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bnn_jax.data import Curve
from bnn_jax.predictive.predictions import Classification, Regression
from bnn_jax.toolbox import intervals, metrics, regression

LEVELS = (0.05, 0.95)  # the ends of the interval whose coverage is reported


def of_classes(
    predicted: Classification, labels: Int[Array, " n"], *, ece_bins: int
) -> dict[str, float]:
    """Returns accuracy, negative log likelihood (nats), calibration error and Brier score."""
    probabilities = jnp.asarray(predicted.probabilities)
    return {
        "accuracy": float(metrics.accuracy(probabilities, labels)),
        "nll": float(metrics.nll(probabilities, labels)),
        "ece": float(metrics.ece(probabilities, labels, bins=ece_bins)),
        "brier": float(metrics.brier(probabilities, labels)),
    }


def of_numbers(predicted: Regression, targets: Float[Array, "n 1"]) -> dict[str, float]:
    """Returns the negative log predictive density (nats) and, in the units of the targets, errors.

    Args:
        predicted: a prediction with `log_prob`. If it has the quantiles at `LEVELS`, the scores
            include the coverage and the width of the 90 % interval.
        targets: of the same examples.
    """
    assert predicted.log_prob is not None
    scores = {
        "nll": -float(np.mean(predicted.log_prob)),
        "rmse": float(regression.rmse(predicted.mean, targets)),
    }
    if predicted.quantiles:
        low, high = predicted.interval(0.9)
        scores["coverage_of_90_percent"] = float(intervals.coverage(low, high, targets))
        scores["width_of_90_percent"] = float(intervals.mean_width(low, high))
    return scores


def of_curve(
    predicted: Regression, x: Float[np.ndarray, " points"], curve: Curve
) -> dict[str, dict[str, float]]:
    """Returns both uncertainties inside and outside of the training range.

    Args:
        predicted: at x.
        x: points over the shown range.
        curve: the distribution of the data.

    Returns:
        {"inside": ..., "outside": ...}, each with the means of the aleatoric and of the epistemic
        standard deviation. If the network predicts the noise, "inside" also has the correlation of
        its standard deviation with the true one.
    """
    seen = curve.seen(x)
    aleatoric = np.sqrt(predicted.aleatoric_variance[:, 0])
    epistemic = np.sqrt(predicted.epistemic_variance[:, 0])
    inside, outside = (
        {
            "aleatoric_std": float(np.mean(aleatoric[region])),
            "epistemic_std": float(np.mean(epistemic[region])),
        }
        for region in (seen, ~seen)
    )
    if np.ptp(aleatoric) > 1e-6 * np.max(aleatoric):
        true = curve.noise_std(x[seen])
        inside["noise_correlation"] = float(np.corrcoef(aleatoric[seen], true)[0, 1])
    return {"inside": inside, "outside": outside}
