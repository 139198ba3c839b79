"""Scores, intervals and calibration of predicted numbers, against quadrature and libraries."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import sklearn.metrics
from metric_examples import (
    EXACT,
    assert_jit_is_the_same,
    assert_weights_repeat,
    expected,
    regression,
)
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import intervals
from bnn_jax.toolbox import regression as scores


def samples(count: int = 9) -> np.ndarray:
    example = regression()
    noise = np.random.default_rng(8).normal(size=(count, len(example["mean"])))
    # Rounded, so that there are ties.
    return np.round(example["mean"] + 1.2 * example["std"] * noise, 1)


def by_examples(metric: Callable[..., Any]) -> Callable[..., Any]:
    """A metric of (samples, targets) that is given the samples with the examples on axis 0."""
    return lambda x, y, **options: metric(x.T, y, **options)


def cases() -> dict[str, tuple[Any, ...]]:
    """Every metric, with its arrays and options."""
    m, s, y = regression().values()
    pit = scipy.stats.norm.cdf(y, m, 0.7 * s)
    low, high = m - s, m + s
    crps, fair = scores.crps_samples, {"fair": True}
    return {
        "rmse": (scores.rmse, (m, y), {}),
        "gaussian_nll": (scores.gaussian_nll, (m, s, y), {}),
        "crps_gaussian": (scores.crps_gaussian, (m, s, y), {}),
        "crps_fair": (by_examples(crps), (samples().T, y), fair),
        "crps_plain": (by_examples(crps), (samples().T, y), {"fair": False}),
        "pinball": (scores.pinball, (low, y), {"level": 0.2}),
        "coverage": (intervals.coverage, (low, high, y), {}),
        "mean_width": (intervals.mean_width, (low, high), {}),
        "interval_score": (intervals.interval_score, (low, high, y), {"level": 0.9}),
        "quantile_frequencies": (intervals.quantile_frequencies, (pit,), {}),
        "quantile_calibration_error": (intervals.quantile_calibration_error, (pit,), {}),
    }


@pytest.mark.parametrize("name", cases())
def test_weights_and_jit(name: str) -> None:
    metric, arrays, options = cases()[name]
    assert_weights_repeat(metric, *arrays, **options)
    assert_jit_is_the_same(metric, *arrays, **options)


@pytest.mark.parametrize("name", cases())
def test_further_axes_are_further_outputs(name: str) -> None:
    metric, arrays, options = cases()[name]
    w = np.random.default_rng(9).random(300)
    flat = metric(*arrays, **options, weights=w)
    if name in ("crps_fair", "crps_plain"):
        x, y = arrays
        metric, arrays = scores.crps_samples, (np.stack([x.T, x.T], axis=2), np.stack([y, y], 1))
    else:
        arrays = tuple(np.stack([x, x], axis=1) for x in arrays)
    np.testing.assert_allclose(metric(*arrays, **options, weights=w), flat, rtol=EXACT)


def test_the_numbers_of_torch_libraries() -> None:
    x, numbers = expected()
    m, s, y, low, high = (x[k] for k in ("mean", "std", "targets", "low", "high"))
    # The coverage of central intervals, at torch-uncertainty's levels.
    central = np.abs(2 * intervals.pit_gaussian(m, s, y) - 1)
    levels = np.linspace(0.05, 0.95, 15)
    got = {
        "gaussian_nll": scores.gaussian_nll(m, s, y),
        "crps_samples": scores.crps_samples(x["samples"], y, fair=False),
        "coverage": intervals.coverage(low, high, y),
        "mean_width": intervals.mean_width(low, high),
        "interval_score": intervals.interval_score(low, high, y, level=0.68),
        "quantile_calibration_error": intervals.quantile_calibration_error(central, levels=levels),
    }
    for name, value in got.items():
        # They compute some of these in float32.
        assert float(value) == pytest.approx(float(numbers[name]), rel=1e-6), name


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_are_scikit_learns(weighted: bool) -> None:
    m, s, y = regression().values()
    w = np.random.default_rng(0).random(len(m)) if weighted else None
    exact = sklearn.metrics.root_mean_squared_error(y, m, sample_weight=w)
    assert float(scores.rmse(m, y, weights=w)) == pytest.approx(exact, rel=EXACT)
    nll = -np.average(scipy.stats.norm.logpdf(y, m, s), weights=w)
    assert float(scores.gaussian_nll(m, s, y, weights=w)) == pytest.approx(nll, rel=EXACT)
    for level in (0.05, 0.5, 0.9):
        q = scipy.stats.norm.ppf(level, m, s)
        exact = sklearn.metrics.mean_pinball_loss(y, q, alpha=level, sample_weight=w)
        got = scores.pinball(q, y, level=level, weights=w)
        assert float(got) == pytest.approx(exact, rel=EXACT)


@pytest.mark.parametrize("z", [-30.0, -2.5, 0.0, 0.3, 4.0])
@pytest.mark.parametrize("std", [0.1, 3.0])
def test_crps_of_a_gaussian_is_its_integral(z: float, std: float) -> None:
    below, _ = scipy.integrate.quad(
        lambda x: std * scipy.stats.norm.cdf(x) ** 2, -np.inf, z, epsabs=1e-12, epsrel=1e-12
    )
    above, _ = scipy.integrate.quad(
        lambda x: std * scipy.stats.norm.sf(x) ** 2, z, np.inf, epsabs=1e-12, epsrel=1e-12
    )
    got = scores.crps_gaussian(*np.asarray([[1.0], [std], [1.0 + z * std]]))
    assert float(got) == pytest.approx(below + above, rel=1e-9)


@pytest.mark.parametrize("fair", [False, True])
def test_crps_of_samples_is_the_mean_over_pairs(fair: bool) -> None:
    x, y = samples(), regression()["targets"]
    s = len(x)
    pairs = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (s * (s - 1) if fair else s * s)
    exact = np.mean(np.abs(x - y).mean(axis=0) - 0.5 * pairs)
    assert float(scores.crps_samples(x, y, fair=fair)) == pytest.approx(exact, rel=EXACT)
    # Far from zero too.
    with jax.enable_x64(False):
        far = scores.crps_samples(
            (x + 1024).astype(np.float32), (np.round(y, 1) + 1024).astype(np.float32), fair=fair
        )
    near = scores.crps_samples(x, np.round(y, 1), fair=fair)
    assert float(far) == pytest.approx(float(near), abs=2e-4)


def test_plain_crps_is_the_integral_of_the_samples_cdf() -> None:
    x, y = np.sort(np.asarray([0.3, -1.0, 2.0, 2.0])), 0.9
    grid = np.sort(np.append(x, y))
    cdf = np.asarray([np.mean(x <= a) for a in grid[:-1]])
    exact = np.sum(np.diff(grid) * (cdf - (grid[:-1] >= y)) ** 2)
    got = scores.crps_samples(x[:, None], np.asarray([y]), fair=False)
    assert float(got) == pytest.approx(exact, rel=EXACT)


def test_fair_crps_is_unbiased_with_few_samples() -> None:
    m, s, y = (np.full(20_000, v) for v in (1.0, 2.0, 1.7))
    x = m + s * np.random.default_rng(2).normal(size=(3, len(m)))
    exact = float(scores.crps_gaussian(m[:1], s[:1], y[:1]))
    each = np.asarray([float(scores.crps_samples(b, y[:100])) for b in np.split(x, 200, axis=1)])
    error = each.std(ddof=1) / np.sqrt(len(each))
    assert each.mean() == pytest.approx(exact, abs=5 * error)
    bias = float(scores.crps_samples(x, y, fair=False)) - exact
    assert bias == pytest.approx(2.0 / np.sqrt(np.pi) / 3, abs=5 * error)
    assert bias > 20 * error


def test_proper_scores_are_best_for_the_true_quantiles() -> None:
    m, s, y = (np.repeat(v, 50) for v in regression().values())
    y = m + s * np.random.default_rng(3).normal(size=len(m))
    ends = {c: (m - c * s, m + c * s) for c in (1.2, 1.645, 2.1)}
    score = {c: float(intervals.interval_score(*e, y, level=0.9)) for c, e in ends.items()}
    assert min(score, key=score.__getitem__) == 1.645
    loss = {c: float(scores.pinball(e[1], y, level=0.95)) for c, e in ends.items()}
    assert min(loss, key=loss.__getitem__) == 1.645


def test_intervals_of_a_calibrated_gaussian_hold_what_they_say() -> None:
    n = 40_000
    rng = np.random.default_rng(4)
    m, s = rng.normal(size=n), np.exp(rng.normal(size=n))
    y = m + s * rng.normal(size=n)
    z = scipy.stats.norm.ppf(0.95)
    assert float(intervals.coverage(m - z * s, m + z * s, y)) == pytest.approx(0.9, abs=0.01)
    width = intervals.mean_width(m - z * s, m + z * s)
    assert float(width) == pytest.approx(2 * z * s.mean(), rel=EXACT)
    pit = intervals.pit_gaussian(m, s, y)
    # 5 standard errors of a frequency, 0.5 / sqrt(n) at most.
    assert float(intervals.quantile_calibration_error(pit)) < 2.5 / np.sqrt(n)
    narrow = intervals.pit_gaussian(m, 0.5 * s, y)
    assert float(intervals.quantile_calibration_error(narrow)) > 0.1


def test_both_ends_belong_to_an_interval() -> None:
    low, high, y = np.asarray([[0.0, 0, 0, 0], [1.0, 1, 1, 1], [0.0, 1, 1.1, -0.1]])
    assert float(intervals.coverage(low, high, y)) == 0.5
    exact = (1 + 1 + (1 + 20 * 0.1) + (1 + 20 * 0.1)) / 4
    assert float(intervals.interval_score(low, high, y, level=0.9)) == pytest.approx(exact)


def test_pit_values() -> None:
    m, s, y = regression().values()
    np.testing.assert_allclose(
        intervals.pit_gaussian(m, s, y), scipy.stats.norm.cdf(y, m, s), rtol=EXACT
    )
    x = np.asarray([[1.0], [2.0], [2.0], [4.0]])
    for target, exact in ((0.0, 0), (1.5, 0.25), (2.0, 0.5), (4.0, 0.875), (5.0, 1)):
        assert float(intervals.pit_samples(x, np.asarray([target]))[0]) == exact
    pit = np.asarray([0.1, 0.2, 0.35, 0.9])
    got = intervals.quantile_frequencies(pit, levels=[0.2, 0.5, 1.0])
    np.testing.assert_array_equal(got, [0.5, 0.75, 1.0])
    error = intervals.quantile_calibration_error(pit, levels=jnp.asarray([0.2, 0.5, 1.0]))
    assert float(error) == pytest.approx((0.3 + 0.25 + 0.0) / 3, rel=EXACT)
    assert_jit_is_the_same(intervals.pit_gaussian, m, s, y)
    assert_jit_is_the_same(intervals.pit_samples, samples(), y)


M, S, Y = np.zeros((4, 1)), np.ones((4, 1)), np.zeros(4)
NAN = np.asarray([[0.0], [0.0], [np.nan], [0.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: scores.rmse(M, Y), r"same shape; got predictions \(4, 1\), targets \(4,\)"),
        (lambda: scores.gaussian_nll(M, S, Y), r"mean \(4, 1\), std \(4, 1\), targets \(4,\)"),
        (lambda: scores.crps_gaussian(M, 0 * S, M), "std must be > 0 everywhere, got .* 0"),
        (lambda: scores.crps_samples(M, M), r"\(samples, \*shape of the targets\).*got \(4, 1\)"),
        (lambda: scores.crps_samples(M[None], M), "at least 2 samples, got 1: pass fair=False"),
        (lambda: scores.crps_samples(M[None][:0], M), "at least one; got"),
        (lambda: scores.pinball(M, M, level=1.0), r"level of a quantile .* \(0, 1\), got 1\.0"),
        (lambda: intervals.interval_score(M, M, M, level=90), r"\(0, 1\), got 90"),
        (lambda: intervals.coverage(M, Y, Y), r"low \(4, 1\), high \(4,\), targets \(4,\)"),
        (lambda: intervals.quantile_frequencies(2 + Y), r"in \[0, 1\], got 2 \.\. 2"),
        (lambda: scores.rmse(M, M, weights=-Y - 1), "weights must be >= 0"),
        (lambda: scores.rmse(M, M, weights=M), r"weights must be one per example, \(4,\)"),
        (lambda: scores.rmse(M[:0], M[:0]), "at least one example"),
        (lambda: scores.rmse(NAN, M), r"predictions must be finite; 1 of 4 .* index \(2, 0\)"),
        (lambda: scores.gaussian_nll(M, S, M + np.inf), "targets must be finite; 4 of 4"),
        (lambda: scores.crps_gaussian(M, S + NAN, M), "std must be finite"),
        (lambda: scores.crps_samples(np.stack([M, NAN]), M), "samples must be finite"),
        (lambda: scores.crps_samples(np.stack([M, M]), NAN), "targets must be finite"),
        (lambda: scores.pinball(NAN, M, level=0.5), "quantiles must be finite"),
        (lambda: intervals.coverage(NAN, M, M), "low must be numbers; 1 of 4 values are NaN"),
        (lambda: intervals.coverage(M, M, NAN), "targets must be finite"),
        (lambda: intervals.mean_width(M, NAN), "high must be numbers"),
        (lambda: intervals.interval_score(M, NAN, M, level=0.5), "high must be numbers"),
        (lambda: intervals.pit_gaussian(NAN, S, M), "mean must be finite"),
        (lambda: intervals.quantile_frequencies(NAN[:, 0]), r"in \[0, 1\], got nan"),
        (lambda: scores.rmse(np.asarray(1.0), np.asarray(1.0)), "at least one example on axis 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
