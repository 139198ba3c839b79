"""Conformal thresholds, sets and intervals: their rank, their guarantee, their scores."""

import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from metric_examples import (
    EXACT,
    assert_jit_is_the_same,
    assert_weights_repeat,
    classification,
    expected,
    regression,
)
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import conformal, intervals

ALPHA = 0.1


@pytest.mark.parametrize("n", [1, 5, 8, 9, 10, 19, 29, 99, 1000])
@pytest.mark.parametrize("alpha", ["0.01", "0.05", "0.1", "0.2", "0.3", "0.5", "0.7", "0.9"])
def test_the_threshold_is_the_score_of_that_rank(n: int, alpha: str) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    rank = math.ceil((n + 1) * (1 - Fraction(alpha)))
    got = float(conformal.threshold(scores, alpha=float(alpha)))
    if rank > n:
        assert got == math.inf
    else:
        assert got == np.sort(scores)[rank - 1]
        assert got == np.quantile(scores, (rank - 0.5) / n, method="inverted_cdf")


@pytest.mark.parametrize("n", [29, 100])
def test_the_guarantee_over_random_splits(n: int) -> None:
    """Of continuous scores the coverage is rank / (n + 1) exactly, over splits.

    Given the calibration examples it follows a Beta(rank, n + 1 - rank) distribution.
    """
    splits, new = 1000, 50
    scores = np.random.default_rng(0).exponential(size=(splits, n + new))
    each = jax.vmap(lambda s: jnp.mean(s[n:] <= conformal.threshold(s[:n], alpha=ALPHA)))(scores)
    rank = math.ceil((n + 1) * (1 - Fraction("0.1")))
    coverage, distribution = rank / (n + 1), scipy.stats.beta(rank, n + 1 - rank)
    std = np.sqrt(distribution.var() + (coverage - coverage**2 - distribution.var()) / new)
    assert 1 - ALPHA <= coverage <= 1 - ALPHA + 1 / (n + 1)
    assert float(each.mean()) == pytest.approx(coverage, abs=5 * std / np.sqrt(splits))
    assert float(each.std()) == pytest.approx(std, rel=0.15)


def class_scores(rule: str, p: np.ndarray) -> Any:
    uniform = np.random.default_rng(1).random(len(p)) if rule == "random APS" else None
    return conformal.lac_scores(p) if rule == "LAC" else conformal.aps_scores(p, uniform=uniform)


@pytest.mark.parametrize("rule", ["LAC", "APS", "random APS"])
def test_sets_cover_what_they_should(rule: str) -> None:
    p, labels = classification(n=20_000)
    # The guarantee holds for a network that is wrong about its confidence.
    p = p**2 / np.sum(p**2, axis=1, keepdims=True)
    scores = class_scores(rule, p)
    half = len(p) // 2
    threshold = conformal.threshold(conformal.of_labels(scores[:half], labels[:half]), alpha=ALPHA)
    sets = conformal.prediction_sets(scores[half:], threshold)
    got = float(conformal.set_coverage(sets, labels[half:]))
    exact = np.mean(np.asarray(sets)[np.arange(half), labels[half:]])
    assert got == pytest.approx(exact, rel=EXACT)
    assert got == pytest.approx(1 - ALPHA, abs=0.01)
    size = float(conformal.mean_set_size(sets))
    assert size == pytest.approx(np.asarray(sets).sum() / half, rel=EXACT)
    assert 1 < size < 3
    everything = conformal.prediction_sets(scores[half:], jnp.inf)
    assert bool(everything.all())


def test_the_rules_of_the_sets() -> None:
    p, _ = classification(classes=6, n=40)
    u = np.random.default_rng(2).random(len(p))
    lac, aps = np.asarray(conformal.lac_scores(p)), np.asarray(conformal.aps_scores(p))
    part = np.asarray(conformal.aps_scores(p, uniform=u))
    for i, row in enumerate(p):
        for k, own in enumerate(row):
            more = row[row > own].sum()
            assert float(lac[i, k]) == pytest.approx(1 - own, rel=EXACT)
            assert float(aps[i, k]) == pytest.approx(more + own, rel=EXACT)
            assert float(part[i, k]) == pytest.approx(more + u[i] * own, rel=EXACT)
    # Of equal ones the first comes first.
    got = conformal.aps_scores(np.asarray([[0.25, 0.5, 0.25]]))
    np.testing.assert_array_equal(got, [[0.75, 0.5, 1.0]])


def test_the_scores_of_torch_uncertainty() -> None:
    inputs, numbers = expected()
    np.testing.assert_allclose(conformal.aps_scores(inputs["p"]), numbers["aps_scores"], rtol=1e-6)


def test_lac_has_the_smallest_sets_and_random_aps_the_more_exact_coverage() -> None:
    p, labels = classification(n=20_000)
    size, gap = {}, {}
    for rule in ("LAC", "APS", "random APS"):
        scores = class_scores(rule, p)
        threshold = conformal.threshold(conformal.of_labels(scores, labels), alpha=ALPHA)
        sets = conformal.prediction_sets(scores, threshold)
        size[rule] = float(conformal.mean_set_size(sets))
        gap[rule] = abs(float(conformal.set_coverage(sets, labels)) - 0.9)
    assert size["LAC"] < size["random APS"] < size["APS"]
    assert max(gap.values()) < 1e-3


@pytest.mark.parametrize("rule", ["residual", "normalised residual", "CQR"])
def test_intervals_cover_what_they_should(rule: str) -> None:
    n = 20_000
    rng = np.random.default_rng(3)
    m, s = rng.normal(size=n), np.exp(rng.normal(size=n))
    # Heavy tails, and a std that is off by a factor: a network that is wrong.
    y = m + 3 * s * rng.standard_t(3, size=n)
    std = s if rule == "normalised residual" else None
    old, new = slice(None, n // 2), slice(n // 2, None)

    def cut(x: Any, part: slice) -> Any:
        return None if x is None else x[part]

    if rule == "CQR":
        low, high = m - s, m + s
        scores = conformal.cqr_scores(low[old], high[old], y[old])
        threshold = conformal.threshold(scores, alpha=ALPHA)
        ends = conformal.cqr_interval(low[new], high[new], threshold)
        np.testing.assert_allclose(scores, np.maximum((low - y)[old], (y - high)[old]))
        np.testing.assert_allclose(ends[1] - ends[0], (high - low)[new] + 2 * float(threshold))
    else:
        scores = conformal.residual_scores(m[old], y[old], std=cut(std, old))
        threshold = conformal.threshold(scores, alpha=ALPHA)
        ends = conformal.residual_interval(m[new], threshold, std=cut(std, new))
        scale = 1 if std is None else s
        np.testing.assert_allclose(scores, (np.abs(y - m) / scale)[old], rtol=EXACT)
        np.testing.assert_allclose(ends[0] + ends[1], 2 * m[new], atol=1e-9)
        half = np.broadcast_to(float(threshold) * scale, n)
        np.testing.assert_allclose(ends[1] - m[new], half[new], rtol=1e-9)
    assert float(intervals.coverage(*ends, y[new])) == pytest.approx(1 - ALPHA, abs=0.01)
    infinite = conformal.residual_interval(m[new], jnp.inf, std=cut(std, new))
    assert float(intervals.coverage(*infinite, y[new])) == 1.0


def test_weights_and_jit() -> None:
    p, labels = classification()
    m, s, y = regression().values()
    sets = np.asarray(conformal.prediction_sets(conformal.aps_scores(p), 0.9))
    assert_weights_repeat(conformal.set_coverage, sets, labels)
    assert_weights_repeat(conformal.mean_set_size, sets)
    u = np.random.default_rng(4).random(len(p))
    for function, *arrays in (
        (conformal.lac_scores, p),
        (conformal.aps_scores, p),
        (lambda p, u: conformal.aps_scores(p, uniform=u), p, u),
        (conformal.of_labels, p, labels),
        (conformal.prediction_sets, p, np.float64(0.3)),
        (conformal.set_coverage, sets, labels),
        (conformal.mean_set_size, sets),
        (conformal.residual_scores, m, y),
        (lambda m, y, s: conformal.residual_scores(m, y, std=s), m, y, s),
        (lambda m, q, s: conformal.residual_interval(m, q, std=s), m, np.float64(0.3), s),
        (conformal.cqr_scores, m - s, m + s, y),
        (conformal.cqr_interval, m - s, m + s, np.float64(0.3)),
    ):
        assert_jit_is_the_same(function, *arrays)
    assert_jit_is_the_same(conformal.threshold, y, alpha=0.1)


P, LABELS = np.full((4, 2), 0.5), np.asarray([0, 1, 0, 1])
SCORES = np.arange(4.0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conformal.threshold(SCORES, alpha=0.0), r"0 < alpha < 1; got 0\.0"),
        (lambda: conformal.threshold(SCORES, alpha=1.0), r"0 < alpha < 1; got 1\.0"),
        (lambda: conformal.threshold(SCORES, alpha=-0.1), r"0 < alpha < 1; got -0\.1"),
        (lambda: conformal.threshold(SCORES, alpha=math.nan), "0 < alpha < 1; got nan"),
        (lambda: conformal.threshold(P, alpha=0.1), r"shape \(examples,\), got \(4, 2\)"),
        (lambda: conformal.threshold(SCORES * np.nan, alpha=0.1), "4 of 4 values are NaN"),
        (lambda: conformal.lac_scores(3 * P), "For logits, pass jax.nn.softmax"),
        (lambda: conformal.aps_scores(np.log(P)), "For logits, pass jax.nn.softmax"),
        (lambda: conformal.aps_scores(P, uniform=P), r"of shape \(4,\), got \(4, 2\)"),
        (lambda: conformal.of_labels(SCORES, LABELS), "class_scores must be of shape"),
        (lambda: conformal.of_labels(P, LABELS + 1), r"in 0 \.\. 1, .* got 1 \.\. 2"),
        (lambda: conformal.set_coverage(P[:, 0] > 0, LABELS), "sets must be of shape"),
        (lambda: conformal.mean_set_size(P > 0, weights=-SCORES), "weights must be >= 0"),
        (lambda: conformal.residual_scores(SCORES, P), r"mean \(4,\), targets \(4, 2\)"),
        (lambda: conformal.residual_scores(SCORES, SCORES, std=SCORES), "std must be > 0"),
        (lambda: conformal.cqr_scores(SCORES, SCORES, P), r"targets \(4, 2\)"),
        (lambda: conformal.lac_scores(P * np.nan), "probabilities must be finite; 8 of 8"),
        (lambda: conformal.of_labels(P * np.nan, LABELS), "class_scores must be numbers"),
        (lambda: conformal.prediction_sets(P, math.nan), "threshold must be numbers"),
        (lambda: conformal.residual_interval(SCORES, math.nan), "threshold must be numbers"),
        (lambda: conformal.residual_interval(SCORES + math.inf, 1.0), "mean must be finite"),
        (lambda: conformal.cqr_interval(SCORES, SCORES, math.nan), "threshold must be numbers"),
        (lambda: conformal.residual_scores(SCORES, SCORES * np.nan), "targets must be finite"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
