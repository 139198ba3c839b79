"""Measurements of rendered figures, and findings made of random numbers."""

import itertools
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bnn_jax.predictive.posterior_predictive import Classification, Regression
from bnn_jax.report import style
from bnn_jax.report.findings import ClassifierFindings, Group, RegressionFindings, Rotation, Weights
from bnn_jax.toolbox.intervals import LEVELS


def drawn_texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text that is drawn, ticks included, and where."""
    found: dict[int, tuple[str, Bbox]] = {}
    draw = Text.draw

    def record(self: Text, renderer: Any, *args: Any, **kwargs: Any) -> None:
        if self.get_visible() and self.get_text().strip():
            found[id(self)] = self.get_text(), self.get_window_extent(renderer)
        draw(self, renderer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, mpl.rc_context(style.RC):
        patch.setattr(Text, "draw", record)
        figure.draw_without_rendering()
    return list(found.values())


def assert_readable(figure: Figure) -> None:
    """No text is cut off or lies on another, no legend on data, and every axis is labelled."""
    texts = drawn_texts(figure)
    assert texts
    page = figure.bbox
    for text, box in texts:
        outside = max(-box.x0, -box.y0, box.x1 - page.x1, box.y1 - page.y1)
        assert outside < 0.5, f"{text!r} is cut off: {box} in {page}"
    for (one, a), (other, b) in itertools.combinations(texts, 2):
        wide = min(a.x1, b.x1) - max(a.x0, b.x0)
        high = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert wide < 0.5 or high < 0.5, f"{one!r} lies on {other!r}"
    for legend in figure.findobj(Legend):
        box = legend.get_window_extent()
        for axes in figure.axes:
            data = axes.get_window_extent()
            wide = min(box.x1, data.x1) - max(box.x0, data.x0)
            high = min(box.y1, data.y1) - max(box.y0, data.y0)
            assert wide < 0.5 or high < 0.5, f"a legend lies on the axes {axes.get_title()!r}"


def labels(figure: Figure) -> set[str]:
    """The words along the axes."""
    return {text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text}


def probabilities(rng: np.random.Generator, n: int, classes: int) -> np.ndarray:
    logits = 3 * rng.normal(size=(n, classes))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return p.astype(np.float32)


def classification(seed: int, n: int, classes: int, *, samples: int = 8) -> Classification:
    rng = np.random.default_rng(seed)
    p = probabilities(rng, n, classes)
    entropy = -(p * np.log(p)).sum(axis=1)
    part = rng.uniform(0.2, 0.9, n).astype(np.float32) if samples > 1 else np.float32(1)
    return Classification(
        probabilities=p,
        expected_entropy=entropy * part,
        mutual_information=entropy * (1 - part),
        log_prob=None,
        samples=None,
        num_samples=samples,
    )


def group(
    seed: int, name: str, n: int, classes: int, *, known: bool = True, channels: int = 1
) -> Group:
    rng = np.random.default_rng(1000 + seed)
    predicted = classification(seed, n, classes)
    own = predicted.probabilities.argmax(axis=1)
    labels = np.where(rng.uniform(size=n) < 0.7, own, rng.integers(0, classes, n))
    return Group(
        name=name,
        images=rng.integers(0, 256, (n, 6, 6, channels), np.uint8),
        labels=labels.astype(np.int32) if known else None,
        label_names=[f"thing {label}" for label in labels],
        predictive=predicted,
        at_mean=classification(seed + 1, n, classes, samples=1),
        baseline=classification(seed + 2, n, classes, samples=1),
        tempered=classification(seed + 3, n, classes),
        baseline_tempered=classification(seed + 4, n, classes, samples=1),
    )


def epochs(count: int = 6, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "epoch": i,
            "loss": 2.0 / i,
            "nll": 1.5 / i,
            "kl": 300.0 / i,
            "dnn_factor": 1.0,
            "bnn_factor": 1 / 600,
            "accuracy": 1 - 0.5 / i,
            "kl_by_layer": {"fc1": 200.0 / i, "fc2": 100.0 / i},
            **({"test_at_posterior_mean": {"nll": 1.0, "accuracy": 0.8}} if i % 3 == 0 else {}),
            **more,
        }
        for i in range(1, count + 1)
    ]


def weights(seed: int, *paths: str, size: int = 50) -> dict[str, Weights]:
    rng = np.random.default_rng(seed)
    return {
        path: Weights(
            rng.normal(size=size).astype(np.float32),
            np.exp(rng.normal(-2, 1, size)).astype(np.float32),
        )
        for path in paths or ("fc1/kernel", "fc1/bias", "fc2/kernel")
    }


def classifier(classes: int = 4, n: int = 60, others: int = 1) -> ClassifierFindings:
    turned = group(7, "turned", 10, classes)
    return ClassifierFindings(
        run="run",
        data="own",
        evaluated_on="test",
        num_samples=8,
        settings={"prior": {"name": "normal", "std": 0.3}, "seed": 0},
        weights=weights(0),
        epochs=epochs(),
        summary={"kl": 123.0, "deterministic": {"accuracy": 0.5, "nll": 1.0, "ece": 0.1}},
        held_out=group(0, "own", n, classes),
        others=[group(2 + i, f"other{i}", n, classes, known=False) for i in range(others)],
        class_names=[f"class {c}" for c in range(classes)],
        ood_temperature=4.0,
        rotation=Rotation(
            np.linspace(0, 180, 10), turned.images, turned.predictive, turned.label_names[0]
        ),
    )


def regression(mean: np.ndarray, aleatoric: np.ndarray, epistemic: np.ndarray) -> Regression:
    normal = NormalDist()
    std = np.sqrt(aleatoric**2 + epistemic**2)
    return Regression(
        mean=mean,
        aleatoric_variance=aleatoric**2,
        epistemic_variance=epistemic**2,
        quantiles={level: mean + normal.inv_cdf(level) * std for level in LEVELS},
        log_prob=-0.5 * np.log(2 * np.pi) - np.log(std),
        samples=None,
        num_samples=8,
    )


def regression_findings(n: int = 50, *, one_input: bool = True) -> RegressionFindings:
    rng = np.random.default_rng(3)
    x = np.sort(rng.uniform(-1, 1, n))
    y = x**3 + 0.1 * rng.normal(size=n)
    wide = np.linspace(-2, 2, 40)
    ones = np.ones(n)
    return RegressionFindings(
        run="run",
        data="cubic",
        evaluated_on="test",
        num_samples=8,
        settings={"prior": {"name": "laplace", "scale": 0.3}},
        weights=weights(1),
        epochs=[{k: v for k, v in line.items() if k != "accuracy"} for line in epochs()],
        summary={},
        targets=y,
        predictive=regression(x**3, 0.1 * ones, 0.05 * ones),
        at_mean=regression(x**3, 0.1 * ones, 0.0 * ones),
        train_targets=y,
        train_inputs=x if one_input else None,
        line=(wide, regression(wide**3, 0.1 + 0 * wide, 0.05 + np.abs(wide) / 5))
        if one_input
        else None,
        true_mean=wide**3 if one_input else None,
        input_name="height, m",
        target_name="price, $",
    )
