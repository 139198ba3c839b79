"""Scores of probabilities, against scikit-learn and a plain calibration error in float64."""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from bnn_jax.toolbox import metrics


def example(classes: int = 4, n: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(classes)
    logits = 2 * rng.normal(size=(n, classes))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probabilities.astype(np.float32), rng.integers(0, classes, n).astype(np.int32)


def plain_ece(probabilities: np.ndarray, labels: np.ndarray, bins: int) -> float:
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == labels
    total = 0.0
    for i in range(bins):
        # The edges in the precision of the probabilities, where 0.2 is 3 / 15.
        low, high = (np.asarray(j / bins).astype(probabilities.dtype) for j in (i, i + 1))
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = correct[inside].mean() - confidence[inside].astype(np.float64).mean()
            total += inside.mean() * abs(gap)
    return float(total)


@pytest.mark.parametrize("classes", [2, 4, 10])
def test_scores_are_scikit_learns(classes: int) -> None:
    p, labels = example(classes)
    wide = p.astype(np.float64) / p.astype(np.float64).sum(axis=1, keepdims=True)
    exact = {
        "accuracy": sklearn.metrics.accuracy_score(labels, p.argmax(axis=1)),
        "nll": sklearn.metrics.log_loss(labels, wide, labels=range(classes)),
        "brier": np.mean(np.sum((wide - np.eye(classes)[labels]) ** 2, axis=1)),
    }
    got = {name: getattr(metrics, name)(jnp.asarray(p), jnp.asarray(labels)) for name in exact}
    for name, value in exact.items():
        assert float(got[name]) == pytest.approx(value, rel=1e-5)
    if classes == 2:
        one_sided = sklearn.metrics.brier_score_loss(labels, wide[:, 1])
        assert float(got["brier"]) == pytest.approx(2 * one_sided, rel=1e-5)


@pytest.mark.parametrize("bins", [1, 10, 15, 100])
def test_calibration_error_is_the_plain_one(bins: int) -> None:
    p, labels = example()
    got = metrics.ece(jnp.asarray(p), jnp.asarray(labels), bins=bins)
    assert float(got) == pytest.approx(plain_ece(p, labels, bins), abs=1e-6)


@pytest.mark.parametrize("bins", [5, 10, 15, 30, 100])
def test_a_confidence_on_an_edge_belongs_to_the_bin_below(bins: int) -> None:
    # Right on the edge, wrong just above: in one bin the two would cancel.
    for i in range(bins // 2 + 1, bins):
        edge = np.float32(i / bins)
        above = np.nextafter(edge, np.float32(2))
        p = np.asarray([[edge, 1 - edge], [above, 1 - above]], np.float32)
        labels = np.asarray([0, 1], np.int32)
        got = metrics.ece(jnp.asarray(p), jnp.asarray(labels), bins=bins)
        assert float(got) == pytest.approx(0.5 * ((1 - edge) + above), abs=1e-6)


def test_certainty() -> None:
    p = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    right, wrong = jnp.asarray([0, 1]), jnp.asarray([1, 0])
    assert [float(f(p, right)) for f in (metrics.nll, metrics.brier, metrics.ece)] == [0, 0, 0]
    assert float(metrics.accuracy(p, right)) == 1.0
    assert float(metrics.accuracy(p, wrong)) == 0.0
    # Finite, and as bad as float32 can tell.
    assert float(metrics.nll(p, wrong)) == pytest.approx(-np.log(np.finfo(np.float32).tiny))
    assert float(metrics.brier(p, wrong)) == 2.0
    assert float(metrics.ece(p, wrong)) == 1.0


def test_calibration_of_a_calibrated_forecast() -> None:
    p = jnp.tile(jnp.asarray([[0.75, 0.25]]), (4, 1))
    assert float(metrics.ece(p, jnp.asarray([0, 0, 0, 1]))) == 0.0
