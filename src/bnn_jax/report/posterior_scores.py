"""Statistics of the posterior: the standard deviations and signal-to-noise ratios of weights."""

import numpy as np

from bnn_jax.experiment.folder import Record
from bnn_jax.report.findings import Findings, Weights


def posterior_scores(findings: Findings) -> Record:
    """Returns the KL and the statistics of the weights, over all and for each array."""
    weights, kl = findings.weights, findings.summary.get("kl")
    if not weights:
        return {"kl": kl, "num_random_weights": 0, "layers": {}}
    everything = np.concatenate([np.abs(w.mean) / w.std for w in weights.values()])
    return {
        "kl": kl,
        "num_random_weights": everything.size,
        "signal_to_noise_median": float(np.median(everything)),
        "signal_to_noise_share_below_1": float(np.mean(everything < 1.0)),
        "layers": {path: _layer(w) for path, w in weights.items()},
    }


def _layer(weights: Weights) -> Record:
    p5, p50, p95 = (float(v) for v in np.percentile(weights.std, (5, 50, 95)))
    ratio = np.abs(weights.mean) / weights.std
    return {
        "size": weights.std.size,
        "std_5_percent": p5,
        "std_median": p50,
        "std_95_percent": p95,
        "rms_mean": float(np.sqrt(np.mean(np.square(weights.mean, dtype=np.float64)))),
        "signal_to_noise_median": float(np.median(ratio)),
        "signal_to_noise_share_below_1": float(np.mean(ratio < 1.0)),
    }
