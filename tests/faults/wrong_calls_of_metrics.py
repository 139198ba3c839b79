"""Wrong calls of the toolbox, by class of error: {class: {name: (call, words of the message)}}."""

from collections.abc import Callable
from typing import Any

import numpy as np

from bnn_jax.toolbox import (
    calibration,
    conformal,
    fidelity,
    intervals,
    metrics,
    out_of_distribution,
    regression,
    selective,
    temperature,
)

Case = tuple[Callable[[], Any], str]
CASES: dict[str, dict[str, Case]] = {
    name: {} for name in ("not finite", "shape", "range", "type", "empty", "unknown name")
}

NAN, INF = float("nan"), float("inf")
P = np.full((4, 3), 1 / 3, np.float32)
LABELS = np.array([0, 1, 2, 0])
Y = np.arange(4.0, dtype=np.float32)
NAN_Y = np.array([0.0, NAN, 1.0, 2.0], np.float32)
ONES = np.ones(4, np.float32)
SAMPLES = np.zeros((5, 4), np.float32)
OUT = np.array([False, True, False, True])


def add(kind: str, name: str, call: Callable[[], Any], message: str) -> None:
    assert name not in CASES[kind]
    CASES[kind][name] = (call, message)


CLASSIFICATION: list[Callable[..., Any]] = [
    *(metrics.accuracy, metrics.nll, metrics.brier, calibration.ece, calibration.adaptive_ece),
    *(calibration.classwise_ece, calibration.reliability),
]
for f in CLASSIFICATION:
    name = f.__name__
    add("range", f"{name} of logits", lambda f=f: f(9 * P, LABELS), "sum to 1")
    add("range", f"{name} of negative", lambda f=f: f(P - [1, 0, -1], LABELS), ">= 0")
    add("shape", f"{name} of one class", lambda f=f: f(P[:, 0], LABELS), "shape")
    add("shape", f"{name} of one-hot", lambda f=f: f(P, np.eye(3, dtype=int)[LABELS]), "argmax")
    add("type", f"{name} of float labels", lambda f=f: f(P, Y), "class numbers")
    add("range", f"{name} weights", lambda f=f: f(P, LABELS, weights=-ONES), "weights must be")
    add("empty", f"{name} of nothing", lambda f=f: f(P[:0], LABELS[:0]), "at least one|labels")
for f in CLASSIFICATION[4:]:
    name = f.__name__
    add("not finite", name, lambda f=f: f(np.where(P > 9, 0, NAN), LABELS), "finite|NaN")
    add("range", f"{name} label", lambda f=f: f(P, LABELS + 1), "labels must be in")
    add("shape", f"{name} lengths", lambda f=f: f(P, LABELS[:3]), "labels must be 4")
for f in CLASSIFICATION[3:]:
    for bins in (0, True, 2.5, None):
        kind = "range" if bins == 0 and bins is not False else "type"
        add(
            kind, f"{f.__name__} bins {bins}", lambda f=f, b=bins: f(P, LABELS, bins=b), "bins must"
        )
add("shape", "weights length", lambda: metrics.nll(P, LABELS, weights=ONES[:2]), "one per example")
add("range", "weights of 0", lambda: metrics.nll(P, LABELS, weights=0 * ONES), "not all 0")
add("not finite", "weights NaN", lambda: metrics.nll(P, LABELS, weights=NAN_Y), "finite")

NUMBERS: dict[str, Callable[..., Any]] = {
    "rmse": lambda y, t: regression.rmse(y, t),
    "gaussian_nll": lambda y, t: regression.gaussian_nll(y, ONES, t),
    "crps_gaussian": lambda y, t: regression.crps_gaussian(y, ONES, t),
    "pinball": lambda y, t: regression.pinball(y, t, level=0.5),
    "coverage": lambda y, t: intervals.coverage(y, y + 1, t),
    "interval_score": lambda y, t: intervals.interval_score(y, y + 1, t, level=0.9),
    "pit_gaussian": lambda y, t: intervals.pit_gaussian(y, ONES, t),
    "residual_scores": lambda y, t: conformal.residual_scores(y, t),
    "cqr_scores": lambda y, t: conformal.cqr_scores(y, y + 1, t),
}
for name, g in NUMBERS.items():
    add("not finite", f"{name} of NaN", lambda g=g: g(NAN_Y, Y), "NaN")
    add("not finite", f"{name} of NaN targets", lambda g=g: g(Y, NAN_Y), "NaN")
    add("shape", f"{name} of a column", lambda g=g: g(Y, Y[:, None]), "same shape")
    add("shape", f"{name} lengths", lambda g=g: g(Y, Y[:3]), "same shape")
for std in (0.0, -1.0, NAN):
    kind = "not finite" if np.isnan(std) else "range"
    for name, h in {
        "gaussian_nll": regression.gaussian_nll,
        "crps_gaussian": regression.crps_gaussian,
        "pit_gaussian": intervals.pit_gaussian,
    }.items():
        add(kind, f"{name} std {std}", lambda h=h, s=std: h(Y, s * ONES, Y), "std must|NaN")
    add(
        kind,
        f"residual std {std}",
        lambda s=std: conformal.residual_scores(Y, Y, std=s * ONES),
        "std",
    )
for level in (0.0, 1.0, -0.5, NAN, 90):
    add("range", f"pinball {level}", lambda v=level: regression.pinball(Y, Y, level=v), "level")
    add(
        "range",
        f"interval {level}",
        lambda v=level: intervals.interval_score(Y, Y, Y, level=v),
        "level",
    )
    add("range", f"alpha {level}", lambda v=level: conformal.threshold(Y, alpha=v), "alpha")
for level in (-0.5, NAN, 90):
    add(
        "range",
        f"quantile levels {level}",
        lambda v=level: intervals.quantile_frequencies(0.5 * ONES, levels=[0.1, v]),
        "levels must be",
    )
add("range", "pit above 1", lambda: intervals.quantile_frequencies(2 * ONES), "pit values must")
add("range", "low above high", lambda: intervals.coverage(Y + 1, Y, Y), "low must")
add("range", "width below 0", lambda: intervals.mean_width(Y + 1, Y), "low must")
add("not finite", "threshold of NaN", lambda: conformal.threshold(NAN_Y, alpha=0.1), "NaN")
add("not finite", "samples of NaN", lambda: regression.crps_samples(SAMPLES * NAN, Y), "NaN")
add("shape", "samples turned", lambda: regression.crps_samples(SAMPLES.T, Y), "shape")
add("shape", "pit of samples turned", lambda: intervals.pit_samples(SAMPLES.T, Y), "shape")
add("range", "crps of one sample", lambda: regression.crps_samples(SAMPLES[:1], Y), "sample")
add("not finite", "sets by NaN", lambda: conformal.prediction_sets(P, NAN), "NaN")
add("shape", "of_labels lengths", lambda: conformal.of_labels(P, LABELS[:2]), "labels")
add("range", "of_labels label", lambda: conformal.of_labels(P, LABELS + 1), "labels")
add("type", "coverage of numbers", lambda: conformal.set_coverage(P, LABELS), "bool")
add("range", "aps uniform", lambda: conformal.aps_scores(P, uniform=ONES * 2), "uniform")
add("range", "lac of logits", lambda: conformal.lac_scores(9 * P), "sum to 1")

RANKING: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        *(out_of_distribution.auroc, out_of_distribution.aupr, out_of_distribution.fpr_at_tpr),
        out_of_distribution.roc_curve,
    )
}
for name, f in RANKING.items():
    add("not finite", f"{name} of NaN", lambda f=f: f(NAN_Y, OUT), "NaN")
    add("shape", f"{name} lengths", lambda f=f: f(Y, OUT[:3]), "is_out")
    add("shape", f"{name} of a column", lambda f=f: f(Y[:, None], OUT), "shape")
    add("range", f"{name} without outliers", lambda f=f: f(Y, OUT & False), "both|at least one")
    add("range", f"{name} is_out 2", lambda f=f: f(Y, np.array([0, 1, 2, 0])), "is_out")
for tpr in (0.0, 1.5, NAN):
    add("range", f"tpr {tpr}", lambda t=tpr: out_of_distribution.fpr_at_tpr(Y, OUT, tpr=t), "tpr")
for f in (selective.risk_coverage, selective.aurc):
    name = f.__name__
    add("not finite", f"{name} of NaN", lambda f=f: f(NAN_Y, Y), "NaN")
    add("not finite", f"{name} by NaN", lambda f=f: f(Y, NAN_Y), "NaN")
    add("shape", f"{name} lengths", lambda f=f: f(Y, Y[:2]), "shape")

for f in (fidelity.agreement, fidelity.total_variation):
    name = f.__name__
    add("shape", f"{name} classes", lambda f=f: f(P, np.full((4, 2), 0.5)), "shape|classes")
    add("range", f"{name} of logits", lambda f=f: f(9 * P, P), "sum to 1")
    add("not finite", f"{name} of NaN", lambda f=f: f(P, P * NAN), "NaN")
add("not finite", "wasserstein", lambda: fidelity.wasserstein(SAMPLES * NAN, SAMPLES), "NaN")
add("range", "wasserstein order", lambda: fidelity.wasserstein(SAMPLES, SAMPLES, order=0), "order")
add(
    "range",
    "grid that falls",
    lambda: fidelity.total_variation_on_grid(
        np.ones((4, 3)), np.ones((4, 3)), np.array([2.0, 1, 0])
    ),
    "grid",
)
add("range", "temperature 0", lambda: temperature.apply_temperature(P, np.zeros(())), "temperature")
add("shape", "temperature of 1-d", lambda: temperature.fit_temperature(Y, LABELS), "shape|logits")
add("range", "log of logits", lambda: temperature.log_probabilities(P * 9), "sum to 1")
