"""Distances between predictives, against closed forms, SciPy and quadrature in float64."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
import scipy.special
import scipy.stats
from metric_examples import EXACT, assert_jit_is_the_same, assert_weights_repeat, classification
from metric_examples import unchecked as unchecked
from metric_examples import x64 as x64

from bnn_jax.toolbox import fidelity

P, Q = classification(n=60)[0], classification(n=61)[0][1:]
rng = np.random.default_rng(0)
MEAN, STD = rng.normal(size=(4, 3)), np.exp(0.5 * rng.normal(size=(4, 3)))
OTHER_MEAN, OTHER_STD = rng.normal(size=(6, 3)) + 0.5, np.exp(0.5 * rng.normal(size=(6, 3)))


def equal_std(difference: float, std: float) -> float:
    """Total variation between two Gaussians of one std."""
    return float(scipy.special.erf(abs(difference) / (2 * np.sqrt(2) * std)))


def mixture_density(mean: np.ndarray, std: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(examples, points)."""
    return scipy.stats.norm.pdf(y, mean[..., None], std[..., None]).mean(axis=0)


def test_classes() -> None:
    assert float(fidelity.agreement(P, Q)) == np.mean(P.argmax(1) == Q.argmax(1))
    exact = np.mean(np.abs(P - Q).sum(axis=1)) / 2
    assert float(fidelity.total_variation(P, Q)) == pytest.approx(exact, rel=EXACT)
    assert float(fidelity.total_variation(Q, P)) == pytest.approx(exact, rel=EXACT)
    assert (float(fidelity.agreement(P, P)), float(fidelity.total_variation(P, P))) == (1.0, 0.0)
    corners = np.eye(3)
    assert float(fidelity.agreement(corners, corners[[1, 2, 0]])) == 0.0
    assert float(fidelity.total_variation(corners, corners[[1, 2, 0]])) == 1.0


@pytest.mark.parametrize("std", [0.01, 1.0, 300.0])
def test_gaussians_of_equal_std_have_the_closed_form(std: float) -> None:
    differences = std * np.asarray([[0.0, 0.1, -1.0, 3.0, 8.0]])
    exact = np.mean([equal_std(d, std) for d in differences[0]])
    s = np.full_like(differences, std)
    got = fidelity.total_variation_gaussian_mixtures(100 + 0 * s, s, 100 + differences, s)
    assert float(got) == pytest.approx(exact, abs=2e-5)
    fine = fidelity.total_variation_gaussian_mixtures(0 * s, s, differences, s, points=16_000)
    assert float(fine) == pytest.approx(exact, abs=1e-7)


def test_gaussians_of_unequal_std_have_the_closed_form() -> None:
    # The densities of N(0, 1) and N(0, s^2) cross at -c and c.
    for s in (0.1, 0.8, 2.0, 1e4):
        c = s * np.sqrt(2 * np.log(s) / (s**2 - 1))
        exact = 2 * abs(scipy.stats.norm.cdf(c) - scipy.stats.norm.cdf(c / s))
        one = np.ones((1, 1))
        got = float(fidelity.total_variation_gaussian_mixtures(0 * one, one, 0 * one, s * one))
        assert exact - 1e-4 < got <= exact + 1e-12


def test_mixtures_are_their_integral() -> None:
    y = np.linspace(-25, 25, 100_001)
    gap = mixture_density(MEAN, STD, y) - mixture_density(OTHER_MEAN, OTHER_STD, y)
    exact = float(np.trapezoid(np.abs(gap), y, axis=1).mean() / 2)
    given = MEAN, STD, OTHER_MEAN, OTHER_STD
    assert float(fidelity.total_variation_gaussian_mixtures(*given)) == pytest.approx(
        exact, abs=1e-5
    )
    y = np.linspace(-25, 25, 4001)
    p, q = mixture_density(MEAN, STD, y), mixture_density(OTHER_MEAN, OTHER_STD, y)
    assert float(fidelity.total_variation_on_grid(p, q, y)) == pytest.approx(exact, abs=2e-5)
    # The copies of a component are one component, and do not make the cells wider.
    copies = [np.tile(x, (300, 1)) for x in given]
    assert float(fidelity.total_variation_gaussian_mixtures(*copies)) == pytest.approx(
        exact, abs=1e-4
    )


def test_densities_that_are_linear_between_grid_points_are_exact() -> None:
    grid = np.asarray([0.0, 1.0, 3.0])
    # p falls from 2/3 to 0 over (0, 3); q is the uniform distribution. They cross at y = 1.5.
    p, q = np.asarray([[2 / 3, 4 / 9, 0.0]]), np.full((1, 3), 1 / 3)
    got = fidelity.total_variation_on_grid(p, q, grid)
    assert float(got) == pytest.approx(0.25, rel=EXACT)
    assert float(fidelity.total_variation_on_grid(p, p, grid)) == 0.0


@pytest.mark.parametrize("sizes", [(5, 5), (4, 6), (1, 7)])
def test_wasserstein_is_scipys(sizes: tuple[int, int]) -> None:
    x, y = rng.normal(size=(sizes[0], 8)), 2 * rng.normal(size=(sizes[1], 8))
    exact = np.mean([scipy.stats.wasserstein_distance(x[:, i], y[:, i]) for i in range(8)])
    assert float(fidelity.wasserstein(x, y)) == pytest.approx(exact, rel=1e-10)
    assert float(fidelity.wasserstein(y, x)) == pytest.approx(exact, rel=1e-10)
    copies = [np.repeat(a, 60 // len(a), axis=0) for a in (x, y) if 60 % len(a) == 0]
    if len(copies) == 2:
        second = np.sqrt(np.mean((np.sort(copies[0], 0) - np.sort(copies[1], 0)) ** 2, axis=0))
        got = fidelity.wasserstein(x, y, order=2)
        assert float(got) == pytest.approx(second.mean(), rel=1e-10)


def test_a_shift_of_samples_is_their_wasserstein_distance() -> None:
    x = rng.normal(size=(9, 5, 2))
    for order in (1, 2):
        got = float(fidelity.wasserstein(x, x[::-1] - 3.0, order=order))
        assert got == pytest.approx(3.0, rel=EXACT)
    assert float(fidelity.wasserstein(x, x)) == 0.0


def test_outputs_are_averaged() -> None:
    given = MEAN, STD, OTHER_MEAN, OTHER_STD
    by_output = [x.reshape(len(x), 1, 3) for x in given]
    assert float(fidelity.total_variation_gaussian_mixtures(*by_output)) == pytest.approx(
        float(fidelity.total_variation_gaussian_mixtures(*given)), rel=EXACT
    )


Metric = Callable[..., Any]


def by_example(metric: Metric) -> Metric:
    """The same metric of arrays with the examples on axis 0."""
    return lambda *arrays, **options: metric(*(np.swapaxes(x, 0, 1) for x in arrays), **options)


CASES: dict[str, tuple[Metric, tuple[np.ndarray, ...]]] = {
    "agreement": (fidelity.agreement, (P, Q)),
    "total_variation": (fidelity.total_variation, (P, Q)),
    "wasserstein": (by_example(fidelity.wasserstein), (P, Q[:, :3])),
    "mixtures": (
        by_example(fidelity.total_variation_gaussian_mixtures),
        (P, np.exp(P), Q[:, :3], np.exp(Q[:, :3])),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_weights_repeat_examples(name: str) -> None:
    metric, arrays = CASES[name]
    assert_weights_repeat(metric, *arrays)


def test_inside_jit() -> None:
    y = np.linspace(-25, 25, 101)
    p, q = mixture_density(MEAN, STD, y), mixture_density(OTHER_MEAN, OTHER_STD, y)
    for metric, *arrays in (
        (fidelity.agreement, P, Q),
        (fidelity.total_variation, P, Q),
        (fidelity.total_variation_on_grid, p, q, y),
        (fidelity.total_variation_gaussian_mixtures, MEAN, STD, OTHER_MEAN, OTHER_STD),
        (fidelity.wasserstein, MEAN, OTHER_MEAN),
    ):
        assert_jit_is_the_same(metric, *arrays)


def test_float32() -> None:
    with jax.enable_x64(False):
        s = np.ones((1, 1), np.float32)
        got = fidelity.total_variation_gaussian_mixtures(1000 * s, s, 1001 * s, s)
        assert got.dtype == np.float32
        assert float(got) == pytest.approx(equal_std(1, 1), abs=1e-4)


GRID = np.linspace(-8, 8, 101)
DENSITY = scipy.stats.norm.pdf(GRID)[None]
MIXTURE = MEAN, STD, OTHER_MEAN, OTHER_STD


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fidelity.agreement(2 * P, Q), "p must be >= 0 and sum to 1"),
        (lambda: fidelity.total_variation(P, Q * np.nan), "q must be finite; 240 of 240"),
        (lambda: fidelity.total_variation(P, Q[1:]), r"same shape; got p \(60, 4\), q \(59, 4\)"),
        (
            lambda: fidelity.total_variation_on_grid(DENSITY, DENSITY, GRID[1:]),
            r"grid of shape \(points,\).*got \(1, 101\) and \(100,\)",
        ),
        (
            lambda: fidelity.total_variation_on_grid(DENSITY, DENSITY, GRID[::-1]),
            "grid must be ascending",
        ),
        (
            lambda: fidelity.total_variation_on_grid(DENSITY, -DENSITY, GRID),
            "q must be >= 0, got a minimum density of -0.3989",
        ),
        (
            lambda: fidelity.total_variation_on_grid(DENSITY / 2, DENSITY, GRID),
            "p must integrate to 1 over the grid within 0.01, got 0.5",
        ),
        (
            lambda: fidelity.total_variation_gaussian_mixtures(MEAN, STD, OTHER_MEAN, 0 * MEAN),
            r"same shape; got q_mean \(6, 3\), q_std \(4, 3\)",
        ),
        (
            lambda: fidelity.total_variation_gaussian_mixtures(MEAN, 0 * STD, MEAN, STD),
            "p_std must be > 0 everywhere",
        ),
        (
            lambda: fidelity.total_variation_gaussian_mixtures(MEAN, STD, MEAN[:, 1:], STD[:, 1:]),
            r"equal from axis 1 on; got \(4, 3\) and \(4, 2\)",
        ),
        (
            lambda: fidelity.total_variation_gaussian_mixtures(*MIXTURE, points=0),
            "points must be an integer >= 1, got 0",
        ),
        (lambda: fidelity.wasserstein(MEAN, MEAN[:0]), r"one sample.*got \(4, 3\) and \(0, 3\)"),
        (lambda: fidelity.wasserstein(MEAN, MEAN + np.inf), "q must be finite; 12 of 12 values"),
        (lambda: fidelity.wasserstein(MEAN, MEAN, order=0), "order must be an integer >= 1, got 0"),
        (lambda: fidelity.wasserstein(MEAN, MEAN, weights=-MEAN[0]), "weights must be >= 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_invalid_arguments_raise(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
