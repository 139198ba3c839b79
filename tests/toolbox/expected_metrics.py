"""Makes expected_metrics.npz: inputs, and what torch-uncertainty and torchmetrics say of them.

Run by hand, in an environment of its own, with torch, torch-uncertainty[cpu] 0.13.0 and
torchmetrics 1.9.0:

    python tests/toolbox/expected_metrics.py
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchmetrics.classification as tm
import torchmetrics.regression as tmr
from torch_uncertainty.metrics import classification as tu
from torch_uncertainty.metrics import regression as tur
from torch_uncertainty.metrics.classification.risk_coverage import _aurc_rejection_rate_compute
from torch_uncertainty.post_processing import ConformalClsAPS, TemperatureScaler

EXAMPLES, CLASSES = 240, 4


def value(metric: Any, *inputs: np.ndarray | torch.distributions.Distribution) -> np.ndarray:
    metric.update(*(torch.tensor(x) if isinstance(x, np.ndarray) else x for x in inputs))
    return np.asarray(metric.compute(), np.float64)


rng = np.random.default_rng(0)
logits = 2.0 * rng.normal(size=(EXAMPLES, CLASSES))
p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
# Half as sure as the logits say: the best temperature is near 2.
tempered = np.exp(logits / 2) / np.exp(logits / 2).sum(axis=1, keepdims=True)
labels = np.asarray([rng.choice(CLASSES, p=row) for row in tempered])
is_out = rng.random(EXAMPLES) < 0.4
scores = rng.normal(size=EXAMPLES) + is_out
mean, std = rng.normal(size=EXAMPLES), np.exp(0.3 * rng.normal(size=EXAMPLES))
targets = mean + 1.3 * std * rng.normal(size=EXAMPLES)
samples = mean + std * rng.normal(size=(8, EXAMPLES))
low, high = mean - std, mean + std

scaler = TemperatureScaler(lr=0.5, max_iter=500)
data = torch.utils.data.TensorDataset(torch.tensor(logits), torch.tensor(labels))
scaler.inv_temp.data = scaler.inv_temp.data.double()
scaler.fit(torch.utils.data.DataLoader(data, batch_size=EXAMPLES), progress=False)

aps = ConformalClsAPS(alpha=0.1, randomized=False, enable_ts=False)
errors = torch.tensor((p.argmax(axis=1) != labels) * 1.0)

expected = {
    "accuracy": value(tm.MulticlassAccuracy(CLASSES, average="micro"), p, labels),
    "nll": value(tu.CategoricalNLL(), p, labels),
    "brier": value(tu.BrierScore(num_classes=CLASSES), p, labels),
    "ece": value(tm.MulticlassCalibrationError(CLASSES, n_bins=15, norm="l1"), p, labels),
    "adaptive_ece": value(
        tu.AdaptiveCalibrationError("multiclass", num_bins=15, num_classes=CLASSES), p, labels
    ),
    "classwise_ece": value(tu.ClasswiseCalibrationError(CLASSES, num_bins=15), p, labels),
    "temperature": np.asarray(scaler.temperature[0].item()),
    "aps_scores": aps._calculate_all_labels(torch.tensor(p)).numpy(),
    "risk": _aurc_rejection_rate_compute(torch.tensor(p.max(axis=1)), errors).numpy(),
    "aurc": value(tu.AURC(), p, labels),
    "auroc": value(tm.BinaryAUROC(), scores, is_out.astype(np.int64)),
    "aupr": value(tm.BinaryAveragePrecision(), scores, is_out.astype(np.int64)),
    "fpr_at_tpr": value(tu.FPR95(pos_label=1), scores, is_out.astype(np.int64)),
    "crps_samples": value(tmr.ContinuousRankedProbabilityScore(), samples.T, targets),
    "gaussian_nll": value(
        tur.DistributionNLL(),
        torch.distributions.Normal(torch.tensor(mean), torch.tensor(std)),
        targets,
    ),
    "coverage": value(tur.IntervalCoverage(), low, high, targets),
    "mean_width": value(tur.MeanIntervalWidth(), low, high),
    "interval_score": value(tur.IntervalScore(coverage=0.68), low, high, targets),
    "quantile_calibration_error": value(
        tur.QuantileCalibrationError(num_bins=15),
        torch.distributions.Normal(torch.tensor(mean), torch.tensor(std)),
        targets,
    ),
}
inputs = {
    "p": p, "logits": logits, "labels": labels, "is_out": is_out, "scores": scores,
    "mean": mean, "std": std, "targets": targets, "samples": samples, "low": low, "high": high,
}  # fmt: skip
np.savez_compressed(
    Path(__file__).with_suffix(".npz"),
    **inputs,
    **{f"expected_{k}": v for k, v in expected.items()},
)
for name, x in expected.items():
    print(f"{name:28} {x.item():.8f}" if x.size == 1 else f"{name:28} {x.shape}")
