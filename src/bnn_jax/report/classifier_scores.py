"""The scores in a classifier's report, as written to metrics.json.

The scores of each predictor come with its number of weight samples, which is 1 for the posterior
mean and for the baseline.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from bnn_jax.experiment.folder import Record
from bnn_jax.predictive.posterior_predictive import Classification
from bnn_jax.report.findings import ClassifierFindings, Group
from bnn_jax.report.posterior_scores import posterior_scores
from bnn_jax.toolbox import calibration, conformal, metrics, out_of_distribution, selective

Scores = Float[np.ndarray, " examples"]

NAMES = {
    "predictive_entropy": "predictive entropy",
    "mutual_information": "mutual information",
    "max_probability": "1 - largest probability",
    "posterior_mean_entropy": "posterior mean: entropy",
    "posterior_mean_max_probability": "posterior mean: 1 - largest probability",
    "baseline_entropy": "deterministic baseline: entropy",
    "baseline_max_probability": "deterministic baseline: 1 - largest probability",
    "tempered_predictive_entropy": "predictive entropy, tempered",
    "tempered_mutual_information": "mutual information, tempered",
    "tempered_baseline_entropy": "deterministic baseline: entropy, tempered",
}


def uncertainties(group: Group) -> dict[str, Scores]:
    """Returns scores of each image, higher for less certain predictions; `NAMES` describes them."""
    scores = {
        "predictive_entropy": group.predictive.predictive_entropy,
        "mutual_information": group.predictive.mutual_information,
        "max_probability": 1.0 - group.predictive.probabilities.max(axis=-1),
    }
    for name, single in (("posterior_mean", group.at_mean), ("baseline", group.baseline)):
        if single is not None:
            scores[f"{name}_entropy"] = single.predictive_entropy
            scores[f"{name}_max_probability"] = 1.0 - single.probabilities.max(axis=-1)
    return scores


def detection_scores(group: Group) -> dict[str, tuple[int, Scores]]:
    """Returns the out-of-distribution scores, each with its number of weight samples.

    They are the `uncertainties`, and the same scores from tempered logits (ODIN: Liang, Li, Srikant
    2018, arXiv:1706.02690, section 3). If the probabilities of a network saturate at 0 and 1,
    weight samples seem to agree although their logits differ.
    """
    scores = {
        name: (predictor(group, name).num_samples, values)
        for name, values in uncertainties(group).items()
    }
    if group.tempered is not None:
        samples = group.tempered.num_samples
        for name in ("predictive_entropy", "mutual_information"):
            scores[f"tempered_{name}"] = (samples, getattr(group.tempered, name))
    if group.baseline_tempered is not None:
        scores["tempered_baseline_entropy"] = (1, group.baseline_tempered.predictive_entropy)
    return scores


def predictor(group: Group, uncertainty: str) -> Classification:
    """Returns the predictions that an uncertainty belongs to."""
    if uncertainty.startswith("posterior_mean"):
        return group.at_mean
    if uncertainty.startswith("baseline"):
        assert group.baseline is not None
        return group.baseline
    return group.predictive


def mistakes(group: Group, uncertainty: str) -> Bool[np.ndarray, " examples"]:
    """Returns which images are misclassified by the predictor that an uncertainty belongs to."""
    assert group.labels is not None
    return predictor(group, uncertainty).probabilities.argmax(axis=-1) != group.labels


def classifier_scores(findings: ClassifierFindings, *, bins: int) -> Record:
    """Returns all scores of a report.

    Args:
        findings: of a classifier.
        bins: number of bins of the calibration errors.
    """
    held_out, summary = findings.held_out, findings.summary
    return {
        "run": findings.run,
        "data": findings.data,
        "evaluated_on": findings.evaluated_on,
        "num_held_out": len(held_out),
        "ece_bins": bins,
        "ood_temperature": findings.ood_temperature if findings.others else None,
        "posterior_predictive": _quality(held_out, held_out.predictive, bins)
        | {"aurc": _aurc(held_out, held_out.predictive)}
        | {
            f"mean_{name}": float(np.mean(getattr(held_out.predictive, name)))
            for name in ("predictive_entropy", "expected_entropy", "mutual_information")
        },
        "posterior_mean": _quality(held_out, held_out.at_mean, bins)
        | {"aurc": _aurc(held_out, held_out.at_mean)},
        "deterministic_baseline": _baseline(held_out, bins) or summary.get("deterministic"),
        "out_of_distribution": {
            other.name: _detection(held_out, other) for other in findings.others
        },
        "importance_of_inputs": {d.name: d.importance for d in findings.dependences},
        "posterior": posterior_scores(findings),
    }


def _quality(group: Group, predicted: Classification, bins: int) -> Record:
    p, labels = jnp.asarray(predicted.probabilities), jnp.asarray(group.labels)
    return {
        "num_samples": predicted.num_samples,
        "accuracy": float(metrics.accuracy(p, labels)),
        "nll": float(metrics.nll(p, labels)),
        "brier": float(metrics.brier(p, labels)),
        "ece": float(calibration.ece(p, labels, bins=bins)),
        "adaptive_ece": float(calibration.adaptive_ece(p, labels, bins=bins)),
        "classwise_ece": float(calibration.classwise_ece(p, labels, bins=bins)),
        "conformal_sets_of_95_percent": _conformal_sets(p, labels),
    }


def _conformal_sets(
    p: Float[Array, "examples classes"], labels: Int[Array, " examples"]
) -> dict[str, float]:
    """Returns coverage and size of the smallest sets; each half sets the threshold of the other."""
    scores = conformal.lac_scores(p)
    own = conformal.of_labels(scores, labels)
    coverage, size = [], []
    for first in (0, 1):
        threshold = conformal.threshold(own[first::2], alpha=0.05)
        sets = conformal.prediction_sets(scores[1 - first :: 2], threshold)
        coverage.append(float(conformal.set_coverage(sets, labels[1 - first :: 2])))
        size.append(float(conformal.mean_set_size(sets)))
    return {"coverage": float(np.mean(coverage)), "mean_size": float(np.mean(size))}


def _baseline(group: Group, bins: int) -> Record | None:
    if group.baseline is None:
        return None
    return _quality(group, group.baseline, bins) | {"aurc": _aurc(group, group.baseline)}


def _aurc(group: Group, predicted: Classification) -> dict[str, float]:
    return {
        name: float(selective.aurc(mistakes(group, name), values))
        for name, values in uncertainties(group).items()
        if predictor(group, name) is predicted
    }


def _detection(own: Group, other: Group) -> Record:
    is_out = np.concatenate([np.zeros(len(own), bool), np.ones(len(other), bool)])
    detected = {}
    theirs = detection_scores(other)
    for name, (num_samples, ours) in detection_scores(own).items():
        values = np.concatenate([ours, theirs[name][1]])
        detected[name] = {
            "num_samples": num_samples,
            "auroc": float(out_of_distribution.auroc(values, is_out)),
            "aupr": float(out_of_distribution.aupr(values, is_out)),
            "fpr_at_95_tpr": float(out_of_distribution.fpr_at_tpr(values, is_out, tpr=0.95)),
        }
    return {
        "num_images": len(other),
        "share_of_all": len(other) / len(is_out),
        "changes": other.changes,
        **detected,
    }
