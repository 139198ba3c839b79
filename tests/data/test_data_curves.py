"""Curves: the noise that is known is the noise that is drawn."""

from typing import get_args

import numpy as np
import pytest

from bnn_jax import data
from bnn_jax.config.data import BlundellCurve, HeteroscedasticCurve
from bnn_jax.data import CURVES
from bnn_jax.data.curves import BLUNDELL_NOISE

COUNT = 200_000


def moments_of_blundells(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of x + 0.3 sin(a (x + e)) + 0.3 sin(2 a (x + e)) + e in closed
    form, from the characteristic function of e.
    """
    s, a = BLUNDELL_NOISE, 2 * np.pi * np.arange(1, 3)

    def shrunk(frequency: float) -> float:
        return np.exp(-0.5 * (frequency * s) ** 2)

    sines = [0.3 * np.sin(f * x) * shrunk(f) for f in a]
    mean_square = s**2 + sum(2 * 0.3 * f * s**2 * np.cos(f * x) * shrunk(f) for f in a)
    for f in a:
        for g in a:
            apart = np.cos((f - g) * x) * shrunk(f - g) - np.cos((f + g) * x) * shrunk(f + g)
            mean_square += 0.3**2 * 0.5 * apart
    return x + sum(sines), np.sqrt(mean_square - sum(sines) ** 2)


def test_blundells_mean_and_noise_are_the_closed_form() -> None:
    x = np.linspace(-0.2, 1.2, 101)
    mean, std = moments_of_blundells(x)
    curve = CURVES["blundell_curve"]
    np.testing.assert_allclose(curve.mean(x), mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(curve.noise_std(x), std, rtol=1e-10)
    seen = std[curve.seen(x)]
    assert 0.005 < seen.min() < 0.015
    assert 0.125 < seen.max() < 0.135


def test_the_config_names_the_root_mean_square_of_blundells_noise() -> None:
    x = np.linspace(0.0, 0.5, 10_001)
    assert np.sqrt(np.mean(CURVES["blundell_curve"].noise_std(x) ** 2)) == pytest.approx(
        0.06, abs=0.005
    )


def test_the_heteroscedastic_noise_is_its_factor() -> None:
    x = np.linspace(-8.0, 8.0, 101)
    curve = CURVES["heteroscedastic_curve"]
    np.testing.assert_allclose(curve.mean(x), 7 * np.sin(x), atol=1e-12)
    np.testing.assert_allclose(curve.noise_std(x), 3 * np.abs(np.cos(x / 2)), atol=1e-12)


@pytest.mark.parametrize("name", CURVES)
def test_draws_compared_with_truth(name: str) -> None:
    curve = CURVES[name]
    x, y = curve.draw(COUNT, seed=(3, 0))
    assert x.dtype == y.dtype == np.float32
    assert x.shape == y.shape == (COUNT,)
    low, high = curve.train_range
    assert low <= x.min() < x.max() <= high
    uniform = (x.astype(np.float64) - low) / (high - low)
    for power in (1, 2, 3):
        values = uniform**power
        error = 5 * values.std() / COUNT**0.5
        assert abs(values.mean() - 1 / (power + 1)) < error
    z = (y - curve.mean(x)) / curve.noise_std(x)
    for values, expected in ((z, 0.0), (z**2, 1.0), (z * uniform, 0.0)):
        assert abs(values.mean() - expected) < 5 * values.std() / COUNT**0.5


@pytest.mark.parametrize("name", CURVES)
def test_a_seed_gives_the_same_points_and_another_others(name: str) -> None:
    curve = CURVES[name]
    first = curve.draw(50, seed=(0, 0))
    np.testing.assert_array_equal(first, curve.draw(50, seed=(0, 0)))
    for other in ((0, 1), (1, 0)):
        assert not np.isin(curve.draw(50, seed=other), first).any()


def test_what_is_shown_goes_beyond_what_is_seen() -> None:
    for curve in CURVES.values():
        x = curve.grid()
        assert (x[0], x[-1]) == tuple(np.float32(curve.shown_range))
        inside = x[curve.seen(x)]
        np.testing.assert_allclose((inside[0], inside[-1]), curve.train_range, atol=1e-2)


def test_a_config_has_the_same_curves() -> None:
    sections = (BlundellCurve, HeteroscedasticCurve)
    names = [get_args(section.model_fields["name"].annotation)[0] for section in sections]
    assert names == list(CURVES)
    assert [curve.name for curve in CURVES.values()] == names


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_no_set_of_images(name: str) -> None:
    with pytest.raises(data.DataError, match=rf"{name} is a curve.* data.CURVES\['{name}'\]"):
        data.load(name)
    with pytest.raises(data.DataError, match=f"Did you mean '{name}'"):
        data.load(name[:-1])
