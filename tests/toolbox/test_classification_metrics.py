"""Scores and calibration of class probabilities in float64, against independent libraries."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.calibration
import sklearn.metrics
from metric_examples import (
    EXACT,
    assert_jit_is_the_same,
    assert_weights_repeat,
    classification,
    counts,
    expected,
)
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import calibration, metrics

ALL: dict[str, Callable[..., Any]] = {
    "accuracy": metrics.accuracy,
    "nll": metrics.nll,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "adaptive_ece": calibration.adaptive_ece,
    "classwise_ece": calibration.classwise_ece,
}


def scikit_learns(name: str, p: np.ndarray, labels: np.ndarray, w: np.ndarray | None) -> float:
    classes = range(p.shape[1])
    if name == "accuracy":
        return sklearn.metrics.accuracy_score(labels, p.argmax(axis=1), sample_weight=w)
    if name == "nll":
        return sklearn.metrics.log_loss(labels, p, labels=classes, sample_weight=w)
    return sklearn.metrics.brier_score_loss(
        labels, p, labels=classes, sample_weight=w, scale_by_half=False
    )


@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", ["accuracy", "nll", "brier"])
def test_scores_are_scikit_learns(name: str, weighted: bool, classes: int) -> None:
    p, labels = classification(classes)
    w = np.random.default_rng(0).random(len(p)) if weighted else None
    exact = scikit_learns(name, p, labels, w)
    assert float(ALL[name](p, labels, weights=w)) == pytest.approx(exact, rel=EXACT)


@pytest.mark.parametrize("name", ALL)
def test_the_numbers_of_torch_libraries(name: str) -> None:
    inputs, numbers = expected()
    got = float(ALL[name](inputs["p"], inputs["labels"]))
    # They compute some of these in float32.
    assert got == pytest.approx(float(numbers[name]), rel=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_a_weight_is_a_number_of_copies(name: str) -> None:
    assert_weights_repeat(ALL[name], *classification())
    if name in ("ece", "adaptive_ece", "classwise_ece"):
        # Rounded, so that there are ties and confidences on the edges of bins.
        p = np.repeat([[0.6, 0.3, 0.1], [0.2, 0.8, 0.0], [0.1, 0.1, 0.8]], 30, axis=0)
        labels = np.random.default_rng(1).integers(0, 3, len(p))
        assert_weights_repeat(ALL[name], p, labels, bins=10)


@pytest.mark.parametrize("name", [*ALL, "reliability"])
def test_inside_jit(name: str) -> None:
    p, labels = classification()
    metric = ALL.get(name, calibration.reliability)
    assert_jit_is_the_same(metric, p, labels)
    assert_jit_is_the_same(lambda *xs: metric(*xs[:2], weights=xs[2]), p, labels, counts(len(p)))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_reliability_is_scikit_learns(bins: int) -> None:
    p, labels = classification()
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    accuracies, confidences = sklearn.calibration.calibration_curve(
        correct, confidence, n_bins=bins
    )
    got = calibration.reliability(p, labels, bins=bins)
    filled = np.asarray(got.counts) > 0
    np.testing.assert_array_equal(got.edges, np.arange(bins + 1) / bins)
    np.testing.assert_array_equal(got.counts, np.histogram(confidence, bins, (0, 1))[0])
    np.testing.assert_allclose(np.asarray(got.accuracy)[filled], accuracies, rtol=EXACT)
    np.testing.assert_allclose(np.asarray(got.confidence)[filled], confidences, rtol=EXACT)
    assert np.isnan(got.accuracy)[~filled].all()
    assert np.isnan(got.confidence)[~filled].all()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("equal_mass", [False, True])
def test_the_calibration_error_is_the_gap_in_the_diagram(equal_mass: bool, weighted: bool) -> None:
    p, labels = classification()
    w = counts(len(p)) if weighted else None
    bins = calibration.reliability(p, labels, equal_mass=equal_mass, weights=w)
    _, confidence, accuracy, number = (np.asarray(x) for x in bins)
    metric = calibration.adaptive_ece if equal_mass else calibration.ece
    exact = np.nansum(number * np.abs(accuracy - confidence)) / len(p)
    assert float(metric(p, labels, weights=w)) == pytest.approx(exact, rel=EXACT)
    assert number.sum() == pytest.approx(len(p), rel=EXACT)


@pytest.mark.parametrize("bins", [1, 7, 15, 1000])
def test_bins_of_equal_mass_part_the_examples_on_their_borders(bins: int) -> None:
    p, labels = classification(n=100)
    # So many copies of each that the borders lie between copies.
    order = np.argsort(p.max(axis=1))
    confidence = np.repeat(p.max(axis=1)[order], bins).reshape(bins, -1)
    correct = np.repeat((p.argmax(axis=1) == labels)[order], bins).reshape(bins, -1)
    got = calibration.reliability(p, labels, bins=bins, equal_mass=True)
    np.testing.assert_allclose(got.counts, np.full(bins, 100 / bins), rtol=1e-9)
    np.testing.assert_allclose(got.confidence, confidence.mean(axis=1), rtol=1e-9)
    np.testing.assert_allclose(got.accuracy, correct.mean(axis=1), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(got.edges[1:], confidence[:, -1])
    assert float(got.edges[0]) == confidence[0, 0]


def test_equal_confidences_are_one_bin() -> None:
    """Their order cannot matter: each bin gets its part of all of them."""
    p = np.tile([[0.75, 0.25]], (8, 1))
    labels = np.asarray([0, 0, 0, 0, 0, 0, 1, 1])
    assert float(calibration.adaptive_ece(p, labels, bins=4)) == pytest.approx(0.0, abs=EXACT)
    assert float(calibration.adaptive_ece(p, labels[::-1], bins=4)) == pytest.approx(0, abs=EXACT)


def test_classwise_error_is_the_mean_over_classes() -> None:
    p, labels = classification()
    errors = []
    for k in range(p.shape[1]):
        is_k = labels == k
        which = np.clip(np.ceil(p[:, k] * 15).astype(int) - 1, 0, 14)
        gaps = [abs(np.sum((is_k - p[:, k])[which == b])) for b in range(15)]
        errors.append(sum(gaps) / len(p))
    got = calibration.classwise_ece(p, labels)
    assert float(got) == pytest.approx(np.mean(errors), rel=EXACT)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_float32_and_below(dtype: Any) -> None:
    with jax.enable_x64(False):
        p, labels = classification()
        p = jnp.asarray(p, dtype)
        wide = np.asarray(p, np.float64)
        exact = np.mean(np.sum((wide - np.eye(4)[labels]) ** 2, axis=1))
        got = metrics.brier(p, labels)
        assert got.dtype == metrics.ece(p, labels).dtype == jnp.float32
        assert float(got) == pytest.approx(exact, rel=1e-6)


@pytest.mark.parametrize("name", [*ALL, "reliability"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": lambda p: np.log(p)}, r"row 0 has minimum -.*For logits, pass jax.nn.softmax"),
        ({"p": lambda p: 2 * p}, r"sum to 1 in each row; row 0 .* and sum 2\. For logits"),
        (
            {"p": lambda p: p[:, 0]},
            r"shape \(examples, classes\), got \(300,\).*stack \[1 - p, p\]",
        ),
        ({"p": lambda p: p.reshape(3, 100, 4)}, r"got \(3, 100, 4\): reshape them"),
        (
            {"p": lambda p: p[:0], "labels": lambda x: x[:0]},
            "at least one example on axis 0, got shape .0, 4.",
        ),
        (
            {"labels": lambda x: x[:-1]},
            r"300 class numbers, one per example; got int64 of .*\(299,",
        ),
        ({"labels": lambda x: np.eye(4, dtype=int)[x]}, r"\(300, 4\)\. For one-hot labels"),
        ({"labels": lambda x: x.astype(float)}, "300 class numbers, one per example; got float64"),
        ({"labels": lambda x: x + 1}, r"in 0 \.\. 3, as there are 4 classes; got 1 \.\. 4\."),
        ({"labels": lambda x: x - 1}, r"in 0 \.\. 3, as there are 4 classes; got -1 \.\. 2\."),
        ({"w": lambda w: -w}, "weights must be >= 0, finite and not all 0; got minimum -1"),
        ({"w": lambda w: 0 * w}, "not all 0; got minimum 0 and sum 0"),
        ({"w": lambda w: w * np.inf}, "finite and not all 0; got minimum inf"),
        ({"w": lambda w: w * np.nan}, "finite and not all 0; got minimum nan"),
        (
            {"w": lambda w: w[:, None]},
            r"weights must be one per example, \(300,\); got \(300, 1",
        ),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(name: str, change: dict[str, Callable], message: str) -> None:
    p, labels = classification()
    given = {"p": p, "labels": labels, "w": np.ones(len(p))}
    given |= {k: f(given[k]) for k, f in change.items()}
    metric = ALL.get(name, calibration.reliability)
    with pytest.raises(ValueError, match=message):
        metric(given["p"], given["labels"], weights=given["w"])


@pytest.mark.parametrize("bins", [0, -1, 2.5, True])
@pytest.mark.usefixtures("unchecked")
def test_the_number_of_bins_is_checked(bins: Any) -> None:
    p, labels = classification()
    for metric in (ALL["ece"], ALL["adaptive_ece"], ALL["classwise_ece"], calibration.reliability):
        with pytest.raises(ValueError, match=f"bins must be an integer >= 1, got {bins!r}"):
            metric(p, labels, bins=bins)


@pytest.mark.parametrize("name", [*ALL, "reliability"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinite_probabilities_raise(name: str, value: float) -> None:
    p, labels = classification(n=8)
    p[3, 1] = value
    metric = ALL.get(name, calibration.reliability)
    with pytest.raises(ValueError, match=r"finite; 1 of 32 values .* index \(3, 1\)"):
        metric(p, labels)


@pytest.mark.parametrize("label", [-1, 2])
def test_labels_of_two_classes_other_than_0_and_1_raise(label: int) -> None:
    p, labels = classification(classes=2, n=8)
    labels[5] = label
    for metric in (*ALL.values(), calibration.reliability):
        with pytest.raises(ValueError, match=r"labels must be in 0 \.\. 1, as there are 2 classes"):
            metric(p, labels)


def test_nan_passes_inside_jit() -> None:
    p, labels = classification(n=8)
    p[3] = np.nan
    assert np.isnan(float(jax.jit(metrics.nll)(p, labels)))
