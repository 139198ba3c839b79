"""Partial dependence and importance against a linear predictive; the PIT against its definition."""

import dataclasses
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import yaml
from report_helpers import regression

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report import dependence
from bnn_jax.report import of_run as run_report
from bnn_jax.report.dependence import Column, Dependence, important
from bnn_jax.report.regression_scores import pit_histogram

RNG = np.random.default_rng(0)
CITIES = np.eye(3, dtype=np.float32)[RNG.integers(3, size=400)]
X = np.concatenate([RNG.normal(size=(400, 2)).astype(np.float32), CITIES], axis=1)
WEIGHTS = np.array([3.0, 0.0, 0.0, 1.0, 5.0], np.float32)
COLUMNS = [
    Column("size", (0,)),
    Column("noise", (1,)),
    Column("city", (2, 3, 4), ("A", "B", "C")),
]


def linear(x: np.ndarray) -> Regression:
    """The mean x @ WEIGHTS, an epistemic std of |size|, an aleatoric std of 2."""
    return regression(x @ WEIGHTS, np.full(len(x), 2.0), np.abs(x[:, 0]))


def error(x: np.ndarray, chosen: np.ndarray) -> float:
    return float(np.sqrt(np.mean((linear(x).mean - X[chosen] @ WEIGHTS) ** 2)))


def found(columns: list[Column] = COLUMNS) -> dict[str, Dependence]:
    each = [
        dependence.dependence(column, increase, linear, X)
        for column, increase in important(columns, error, X)
    ]
    return {d.name: d for d in each if isinstance(d, Dependence)}


def test_the_dependence_on_a_linear_predictive() -> None:
    size, city = found()["size"], found()["city"]
    np.testing.assert_allclose(np.diff(size.mean), 3.0 * np.diff(size.places), rtol=1e-3)
    np.testing.assert_allclose(size.epistemic_std, np.abs(size.places), rtol=1e-5)
    np.testing.assert_allclose(size.aleatoric_std, 2.0, rtol=1e-6)
    assert size.places[0] == pytest.approx(np.quantile(X[:, 0], 0.02), abs=1e-6)
    np.testing.assert_allclose(size.deciles, np.quantile(X[:, 0], np.arange(1, 10) / 10))
    # The mean over examples has the categories in the order of their frequency.
    assert city.categories is not None
    assert sorted(city.categories) == ["A", "B", "C"]
    counts = dict(zip("ABC", CITIES.sum(axis=0), strict=True))
    frequencies = [counts[name] for name in city.categories]
    assert frequencies == sorted(frequencies, reverse=True)
    effects = dict(zip(city.categories, city.mean, strict=True))
    assert effects["B"] - effects["A"] == pytest.approx(1.0, abs=1e-4)
    assert effects["C"] - effects["A"] == pytest.approx(5.0, abs=1e-4)


def test_inputs_are_ordered_by_the_error_without_them() -> None:
    each = found()
    assert list(each) == ["size", "city", "noise"]
    # Independent copies of an input of variance 1 with weight 3: a mean square of 2 * 9.
    assert each["size"].importance == pytest.approx(np.sqrt(18.0), rel=0.15)
    assert each["noise"].importance == 0.0


def test_the_number_of_inputs_is_bounded() -> None:
    many = [Column(f"{i}", (i % 5,)) for i in range(20)]
    assert len(found(many)) == dependence.MOST_INPUTS


@pytest.mark.parametrize(("width", "shape"), [(1.0, "flat"), (0.4, "ends"), (3.0, "middle")])
def test_the_pit_histogram_shows_the_width(width: float, shape: str) -> None:
    n = 4000
    y = np.random.default_rng(1).normal(size=n)
    zero = np.zeros(n)
    pit = pit_histogram(regression(zero, width + zero, zero), y)
    assert pit.sum() == pytest.approx(1.0)
    assert len(pit) == 20
    normal = NormalDist()
    ends = [normal.cdf(width * normal.inv_cdf(i / 20)) for i in range(1, 20)]
    expected = np.diff([0.0, *ends, 1.0])
    np.testing.assert_allclose(pit, expected, atol=5 * np.sqrt(0.25 / n))
    largest = {"flat": None, "ends": (0, 19), "middle": (9, 10)}[shape]
    assert largest is None or int(pit.argmax()) in largest


def test_the_pit_of_whole_numbers_is_spread_over_its_intervals() -> None:
    """Always 3: the predictive's only value covers all intervals evenly."""
    n = 50
    three = np.full(n, 3.0)
    predictive = regression(three, 0.1 + 0 * three, 0 * three)
    quantiles = dict.fromkeys(predictive.quantiles, three)
    pit = pit_histogram(dataclasses.replace(predictive, quantiles=quantiles), three)
    np.testing.assert_allclose(pit, 0.1)


def test_the_report_of_a_table(tmp_path: Path) -> None:
    rows = [
        f"{size:.2f},{rooms},{city},{100 * size + 50 * (city == 'B') + 10 * noise:.2f}"
        for size, rooms, city, noise in zip(
            RNG.normal(size=60),
            RNG.integers(1, 4, 60),
            np.where(RNG.random(60) < 0.5, "A", "B"),
            RNG.normal(size=60),
            strict=True,
        )
    ]
    (tmp_path / "house.csv").write_text("\n".join(["size,rooms,city,price", *rows]) + "\n")
    settings: dict[str, Any] = {
        "data": {
            "format": "table",
            "path": str(tmp_path / "house.csv"),
            "targets": "price",
            "categorical": ["city"],
            "task": "regression",
            "test": 20,
        },
        "model": {"name": "mlp", "hidden": [4]},
        "likelihood": {"name": "normal", "std": 0.5},
        "prior": {"name": "normal", "std": 1.0},
        "inference": {"name": "map", "learning_rate": 0.01},
        "training": {"epochs": 2, "batch_size": 10},
        "evaluation": {"num_samples": 2},
        "output": {"dir": str(tmp_path / "run")},
    }
    (tmp_path / "house.yaml").write_text(yaml.safe_dump(settings))
    experiment.train(configs.load(tmp_path / "house.yaml"))
    numbers = run_report.write(tmp_path / "run", experiment.load(tmp_path / "run"))
    assert set(numbers["importance_of_inputs"]) == {"size", "rooms", "city"}
    assert len(numbers["pit_histogram"]) == 10
    names = {file.stem for file in (tmp_path / "run" / "report").glob("*.png")}
    assert names == {"observed", "residuals", "intervals", "partial_dependence", "training"}
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Loss, negative log likelihood, error over the epochs" in page
    assert "KL part" not in page  # MAP has none
