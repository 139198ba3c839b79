"""The scores in a regression's report, as written to metrics.json.

The scores of each predictor come with its number of weight samples, which is 1 for the posterior
mean.
"""

import numpy as np
from jaxtyping import Float

from bnn_jax.experiment.folder import Record
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report.findings import RegressionFindings
from bnn_jax.report.posterior_scores import posterior_scores
from bnn_jax.toolbox import intervals, regression

INTERVALS = tuple(i / 10 for i in range(1, 10))


def regression_scores(findings: RegressionFindings) -> Record:
    """Returns all scores of a report, in the unit of the target where they have one."""
    return {
        "run": findings.run,
        "data": findings.data,
        "evaluated_on": findings.evaluated_on,
        "num_held_out": len(findings.targets),
        "posterior_predictive": _quality(findings.predictive, findings.targets),
        "posterior_mean": _quality(findings.at_mean, findings.targets),
        "deterministic_baseline": findings.summary.get("deterministic"),
        "pit_histogram": pit_histogram(findings.predictive, findings.targets).tolist(),
        "importance_of_inputs": {d.name: d.importance for d in findings.dependences},
        "posterior": posterior_scores(findings),
    }


def covered(
    predicted: Regression, targets: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " levels"]:
    """Returns the share of the targets in the central interval of each of `INTERVALS`."""
    return np.asarray(
        [float(intervals.coverage(*predicted.interval(level), targets)) for level in INTERVALS]
    )


def pit_histogram(
    predicted: Regression, targets: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " bins"]:
    """Returns the share of the targets in each of equally probable intervals of their predictive.

    The quantiles at `intervals.LEVELS` are the ends of the intervals; there are 20, or 10 for fewer
    than 200 targets. The probability of a whole number can cover several intervals, and is then
    spread over them evenly (Czado, Gneiting, Held 2009, doi:10.1111/j.1541-0420.2009.01191.x).
    """
    ends = np.stack([predicted.quantiles[level] for level in sorted(predicted.quantiles)])
    first = (ends < targets).sum(axis=0)
    last = (ends <= targets).sum(axis=0)
    bins = np.arange(len(ends) + 1)[:, None]
    shares = (((bins >= first) & (bins <= last)) / (last - first + 1)).mean(axis=1)
    return shares if len(targets) >= 200 else shares.reshape(-1, 2).sum(axis=1)


def _quality(predicted: Regression, targets: Float[np.ndarray, " n"]) -> Record:
    low, high = predicted.interval(0.9)
    frequencies = np.asarray([np.mean(targets <= q) for q in predicted.quantiles.values()])
    assert predicted.log_prob is not None
    return {
        "num_samples": predicted.num_samples,
        "rmse": float(regression.rmse(predicted.mean, targets)),
        "nll": -float(np.mean(predicted.log_prob)),
        "crps_of_gaussian": float(regression.crps_gaussian(predicted.mean, predicted.std, targets)),
        "coverage_of_90_percent": float(intervals.coverage(low, high, targets)),
        "width_of_90_percent": float(intervals.mean_width(low, high)),
        "quantile_calibration_error": float(
            np.mean(np.abs(frequencies - np.asarray(list(predicted.quantiles))))
        ),
        "aleatoric_std": float(np.sqrt(np.mean(predicted.aleatoric_variance))),
        "epistemic_std": float(np.sqrt(np.mean(predicted.epistemic_variance))),
    }
