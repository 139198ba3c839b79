"""Selective prediction and the detection of out-of-distribution examples, with ties and weights."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import sklearn.metrics
from metric_examples import EXACT, assert_jit_is_the_same, assert_weights_repeat, expected
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import out_of_distribution, selective

DETECTION: dict[str, Callable[..., Any]] = {
    "auroc": out_of_distribution.auroc,
    "aupr": out_of_distribution.aupr,
    "fpr_at_tpr": out_of_distribution.fpr_at_tpr,
}


def example(decimals: int = 9, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Scores, with ties where rounded, and what is out of distribution."""
    rng = np.random.default_rng(decimals + n)
    is_out = rng.random(n) < 0.3
    return np.round(rng.normal(size=n) + is_out, decimals), is_out


def scikit_learns(name: str, scores: Any, is_out: Any, w: Any) -> float:
    if name == "auroc":
        return sklearn.metrics.roc_auc_score(is_out, scores, sample_weight=w)
    if name == "aupr":
        return sklearn.metrics.average_precision_score(is_out, scores, sample_weight=w)
    fpr, tpr, _ = sklearn.metrics.roc_curve(
        is_out, scores, sample_weight=w, drop_intermediate=False
    )
    return fpr[np.argmax(tpr >= 0.95)]


@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", DETECTION)
def test_detection_is_scikit_learns(name: str, weighted: bool, decimals: int) -> None:
    scores, is_out = example(decimals)
    w = np.random.default_rng(0).random(len(scores)) if weighted else None
    exact = scikit_learns(name, scores, is_out, w)
    got = DETECTION[name](scores, is_out, weights=w)
    assert float(got) == pytest.approx(exact, rel=EXACT)


@pytest.mark.parametrize("decimals", [9, 1, 0])
@pytest.mark.parametrize("name", DETECTION)
def test_weights_and_jit_in_detection(name: str, decimals: int) -> None:
    assert_weights_repeat(DETECTION[name], *example(decimals))
    assert_jit_is_the_same(DETECTION[name], *example(decimals))


@pytest.mark.parametrize("name", DETECTION)
def test_the_numbers_of_torch_libraries(name: str) -> None:
    inputs, numbers = expected()
    got = DETECTION[name](inputs["scores"], inputs["is_out"])
    assert float(got) == pytest.approx(float(numbers[name]), rel=1e-6)


@pytest.mark.parametrize("decimals", [9, 1])
def test_the_curve_is_scikit_learns(decimals: int) -> None:
    scores, is_out = example(decimals)
    fpr, tpr, thresholds = sklearn.metrics.roc_curve(is_out, scores, drop_intermediate=False)
    got = out_of_distribution.roc_curve(scores, is_out)
    # One point for each of equal scores, all of them the same.
    _, first = np.unique(-np.asarray(got.threshold), return_index=True)
    np.testing.assert_array_equal(np.asarray(got.threshold)[first], thresholds)
    np.testing.assert_allclose(np.asarray(got.fpr)[first], fpr, rtol=EXACT)
    np.testing.assert_allclose(np.asarray(got.tpr)[first], tpr, rtol=EXACT)
    assert_jit_is_the_same(out_of_distribution.roc_curve, scores, is_out)


@pytest.mark.parametrize("x", [False, True])
def test_useless_and_perfect_scores(x: bool) -> None:
    with jax.enable_x64(x):
        is_out = np.arange(10) >= 6
        got = [float(f(np.zeros(10), is_out)) for f in DETECTION.values()]
        assert got == pytest.approx([0.5, 0.4, 1.0])
        got = [float(f(1.0 * is_out, is_out)) for f in DETECTION.values()]
        assert got == [1.0, 1.0, 0.0]
        got = [float(f(-1.0 * is_out, is_out)) for f in DETECTION.values()]
        assert got == pytest.approx([0.0, 0.4, 1.0], abs=1e-6)


@pytest.mark.parametrize("x", [False, True])
@pytest.mark.parametrize("found", range(1, 41))
def test_a_part_that_is_reached_exactly_is_reached(found: int, x: bool) -> None:
    """All scores differ: 40 out of distribution come first, each before one that is not."""
    with jax.enable_x64(x):
        is_out = np.tile([True, False], 40)
        scores = -np.arange(80.0)
        got = out_of_distribution.fpr_at_tpr(scores, is_out, tpr=found / 40)
        assert float(got) == pytest.approx((found - 1) / 40)


def losses(decimals: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(decimals)
    uncertainty = np.round(rng.random(200), decimals)
    return rng.random(200) * uncertainty, uncertainty


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_risk_and_coverage_are_those_of_a_threshold(decimals: int) -> None:
    loss, uncertainty = losses(decimals)
    w = np.random.default_rng(1).random(200)
    got = selective.risk_coverage(loss, uncertainty, weights=w)
    np.testing.assert_array_equal(got.threshold, np.sort(uncertainty))
    answered = [uncertainty <= u for u in np.sort(uncertainty)]
    coverage = [w[a].sum() / w.sum() for a in answered]
    risk = [np.average(loss[a], weights=w[a]) for a in answered]
    np.testing.assert_allclose(got.coverage, coverage, rtol=EXACT)
    np.testing.assert_allclose(got.risk, risk, rtol=EXACT)
    # The mean over examples of the risk at their own uncertainty.
    exact = np.average(risk, weights=w[np.argsort(uncertainty)])
    if decimals == 9:
        assert float(selective.aurc(loss, uncertainty, weights=w)) == pytest.approx(exact)
    exact = np.mean([loss[uncertainty <= u].mean() for u in uncertainty])
    assert float(selective.aurc(loss, uncertainty)) == pytest.approx(exact, rel=EXACT)


def test_the_curve_of_torch_uncertainty() -> None:
    inputs, numbers = expected()
    wrong = inputs["p"].argmax(axis=1) != inputs["labels"]
    curve = selective.risk_coverage(wrong, -inputs["p"].max(axis=1))
    np.testing.assert_allclose(curve.risk, numbers["risk"], rtol=1e-6)
    # Its AURC is that of trapezia from coverage 1 / n on, as if that were all.
    n = len(wrong)
    area = np.trapezoid(curve.risk, curve.coverage) / (1 - 1 / n)
    assert area == pytest.approx(float(numbers["aurc"]), rel=1e-6)
    assert float(selective.aurc(wrong, -inputs["p"].max(axis=1))) == pytest.approx(
        float(np.mean(curve.risk)), rel=EXACT
    )


@pytest.mark.parametrize("decimals", [9, 1, 0])
def test_weights_and_jit_in_selection(decimals: int) -> None:
    assert_weights_repeat(selective.aurc, *losses(decimals))
    assert_jit_is_the_same(selective.aurc, *losses(decimals))
    assert_jit_is_the_same(selective.risk_coverage, *losses(decimals))


def test_useless_and_perfect_uncertainties() -> None:
    wrong = np.arange(10) >= 6
    assert float(selective.aurc(wrong, np.zeros(10))) == pytest.approx(0.4)
    # Refused one after the other: 1/7, 2/8, 3/9, 4/10 of those answered are wrong.
    exact = (1 / 7 + 2 / 8 + 3 / 9 + 4 / 10) / 10
    assert float(selective.aurc(wrong, np.arange(10.0))) == pytest.approx(exact)
    first = np.asarray([1.0, 1.0, 0.0])
    curve = selective.risk_coverage(first, np.arange(3.0), weights=np.asarray([0, 1, 1]))
    np.testing.assert_array_equal(curve.coverage, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(curve.risk, [0.0, 1.0, 0.5])


SCORES, OUT = np.arange(4.0), np.asarray([True, False, True, False])


@pytest.mark.parametrize("name", [*DETECTION, "aurc"])
@pytest.mark.parametrize(
    ("scores", "kind", "weights", "message"),
    [
        (SCORES, OUT[:3], None, r"must be of the same shape; got .*\([34],\).*\([34],\)"),
        (SCORES[:, None], OUT[:, None], None, r"must be of shape \(examples,\), got \(4, 1\)"),
        (
            np.asarray([0.0, 1.0, np.nan, 2.0]),
            OUT,
            None,
            r"must be numbers; 1 of 4 values are NaN, .* index \(2,\)",
        ),
        (SCORES, OUT, -SCORES, "weights must be >= 0"),
        (SCORES, OUT, SCORES[:3], r"one per example, \(4,\); got \(3,\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(name: str, scores: Any, kind: Any, weights: Any, message: str) -> None:
    metric = DETECTION.get(name, lambda u, loss, weights: selective.aurc(loss, u, weights=weights))
    with pytest.raises(ValueError, match=message):
        metric(scores, kind, weights=weights)


@pytest.mark.parametrize("name", DETECTION)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_in_detection_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="is_out must be boolean.*; got int64"):
        DETECTION[name](SCORES, OUT.astype(int))
    with pytest.raises(
        ValueError, match="both in and out .* those out have a weight of 0 in a total of 4"
    ):
        DETECTION[name](SCORES, OUT & False)
    with pytest.raises(ValueError, match="both in and out .* weight of 4 in a total of 4"):
        DETECTION[name](SCORES, OUT, weights=4 * (SCORES == 2))
    with pytest.raises(ValueError, match="0 < tpr <= 1; got 95"):
        out_of_distribution.fpr_at_tpr(SCORES, OUT, tpr=95)
