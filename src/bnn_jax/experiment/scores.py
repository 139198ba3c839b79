"""Compares both uncertainties of a curve with its known distribution."""

import numpy as np
from jaxtyping import Float

from bnn_jax.data import Curve
from bnn_jax.predictive.predictions import Regression


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
