"""Every figure is drawn without a warning, is readable, and has units on its axes."""

from pathlib import Path
from statistics import NormalDist
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure
from report_helpers import assert_readable, classification, drawn_texts, epochs, labels, weights

from bnn_jax.report import figures, style
from bnn_jax.report.dependence import ClassDependence, Dependence


def calibration(
    name: str = "32 samples: ECE 1.20 %", bins: int = 15, n: int = 500
) -> figures.Calibration:
    centres = (np.arange(bins) + 0.5) / bins
    count = np.asarray([0 if i < 2 else n // (bins - i) for i in range(bins)])
    return figures.Calibration(name, np.where(count, centres, np.nan), centres**1.2, count)


def curve(seed: int, n: int = 200, rate: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    wrong = rng.uniform(size=n) < rate * 2 * np.arange(n) / n
    counts = np.arange(1, n + 1)
    return counts / n, np.cumsum(wrong) / counts


def uncertainties(*names: str, constant: bool = False) -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        return np.zeros(40) if constant else rng.exponential(size=1000)

    return {
        score: {name: draw() for name in names}
        for score in ("predictive entropy", "mutual information")
    }


def row(title: str, n: int = 8, channels: int = 1, name: str = "Ankle boot") -> figures.Row:
    rng = np.random.default_rng(n)
    return figures.Row(
        title,
        rng.integers(0, 256, (n, 8, 8, channels), np.uint8),
        [name] * n,
        np.linspace(0.2, 1.0, n),
        [name] * n,
        [i % 3 == 0 for i in range(n)],
    )


def turned(classes: int, *, certain: bool = False, name: str = "class") -> Figure:
    said = classification(0, 19, classes)
    p = np.eye(classes)[np.zeros(19, int)] if certain else said.probabilities
    scale = 0.0 if certain else 1.0
    return figures.rotation(
        np.linspace(0, 180, 19),
        np.zeros((19, 8, 8, 1), np.uint8),
        p,
        scale * said.expected_entropy,
        scale * said.mutual_information,
        class_names=[f"{name} {c}" for c in range(classes)],
        title="An image of class 1, turned counter-clockwise",
        num_samples=200,
    )


def function(n: int = 30) -> Figure:
    x = np.linspace(-2, 2, 50)
    return figures.function(
        x,
        np.sin(x),
        0.1 + 0 * x,
        0.1 * np.abs(x),
        train_x=np.linspace(-1, 1, n),
        train_y=np.zeros(n),
        x_label="height, m",
        y_label="price, $ and $",
    )


def observed(n: int = 30) -> Figure:
    y = np.linspace(1e3, 2e3, n)
    levels = np.arange(1, 10) / 10
    return figures.observed(
        y, y + 5, 20 + 0 * y, 10 + 0 * y, nominal=levels, covered=levels**1.1, y_label="price, $"
    )


def residuals(n: int = 300, bins: int = 20, *, constant: bool = False) -> Figure:
    rng = np.random.default_rng(0)
    std = np.full(n, 2e3) if constant else 1e3 * rng.gamma(3.0, size=n)
    pit = np.full(bins, 1 / bins)
    return figures.residuals(std * rng.normal(size=n), std, pit=pit, y_label="price, $")


def intervals(n: int = 40, scale: float = 10.0) -> Figure:
    y = np.linspace(1e3, 2e3, n) + np.random.default_rng(0).normal(0, scale, n)
    mean = np.linspace(1e3, 2e3, n)
    wide, narrow = ((mean - r * scale, mean + r * scale) for r in (1.645, 0.674))
    return figures.predictive_intervals(y, mean, wide=wide, narrow=narrow, y_label="price, $")


def dependence(name: str, places: int = 25, names: tuple[str, ...] | None = None) -> Dependence:
    x = np.linspace(1000.0, 5000.0, places) if names is None else np.arange(len(names)) * 1.0
    return Dependence(
        name=name,
        importance=1.0,
        places=x,
        mean=np.sin(x),
        aleatoric_std=0.2 + 0 * x,
        epistemic_std=0.1 + x / 5e4,
        categories=names,
        deciles=np.linspace(1e3, 4e3, 9),
    )


def classes(name: str, count: int = 2, names: tuple[str, ...] | None = None) -> ClassDependence:
    axis = dependence(name, names=names)
    share = np.linspace(0.1, 0.9, len(axis.places))
    p = np.stack([share, *[(1 - share) / (count - 1)] * (count - 1)], axis=1)
    entropy = -(p * np.log(p)).sum(axis=1)
    return ClassDependence(
        name=name,
        importance=1.0,
        places=axis.places,
        categories=names,
        deciles=axis.deciles,
        probabilities=p,
        expected_entropy=0.7 * entropy,
        mutual_information=0.3 * entropy,
    )


LONG = "a very long name of a data set that somebody has given to it"
DRAWN: dict[str, Any] = {
    "reliability": lambda: figures.reliability(
        [calibration(), calibration("posterior mean: ECE 2.30 %")]
    ),
    "reliability, one bin": lambda: figures.reliability([calibration(bins=1, n=3)]),
    "risk": lambda: figures.risk_coverage(
        {f"entropy {i}: AURC 0.123 %": curve(i) for i in range(3)}, best=curve(9)
    ),
    "risk, nothing wrong": lambda: figures.risk_coverage({"entropy": curve(0, rate=0)}),
    "risk, all wrong": lambda: figures.risk_coverage(
        {"entropy": (np.linspace(0.01, 1, 100), np.ones(100))}
    ),
    "risk, constant score": lambda: figures.risk_coverage(
        {"entropy": (np.ones(50), np.full(50, 0.3))}
    ),
    "uncertainty": lambda: figures.uncertainty(uncertainties("own", "mnist", "fashion_mnist")),
    "uncertainty, constant": lambda: figures.uncertainty(uncertainties("own", constant=True)),
    "uncertainty, seven sets": lambda: figures.uncertainty(
        uncertainties(*(f"data_set_{i}" for i in range(7)))
    ),
    "gallery": lambda: figures.gallery([row("Most certain"), row("Least certain")]),
    "gallery, colors": lambda: figures.gallery([row("Most certain", channels=3)]),
    "gallery, three images": lambda: figures.gallery([row("Most certain", n=3)]),
    "gallery, long names": lambda: figures.gallery([row(4 * LONG, name=LONG)]),
    "rotation": lambda: turned(10),
    "rotation, 2 classes": lambda: turned(2),
    "rotation, 100 classes": lambda: turned(100, name=LONG),
    "rotation, no uncertainty": lambda: turned(3, certain=True),
    "training": lambda: figures.training(epochs(), held_out="test"),
    "training, one epoch": lambda: figures.training(epochs(1)),
    "training, 30 layers": lambda: figures.training(
        epochs(50, kl_by_layer={f"transformer/block_{i}/attention": 2.0**i for i in range(30)})
    ),
    "training, regression": lambda: figures.training(
        [
            {"epoch": 1, "loss": -1.0, "nll": -2.0, "kl": 1.0, "dnn_factor": 1, "bnn_factor": 1}
            | {"test_at_posterior_mean": {"nll": -1.5, "rmse": 0.3}}
        ],
        held_out="test",
    ),
    "width": lambda: figures.posterior_width(
        {path: w.std for path, w in weights(0).items()}, prior_std=0.3
    ),
    "width, one weight": lambda: figures.posterior_width({"kernel": np.full(1, 0.1)}),
    "width, 200 layers": lambda: figures.posterior_width(
        {f"encoder/block_{i}/kernel": np.full(3, 0.1 + i) for i in range(200)}
    ),
    "width, long path": lambda: figures.posterior_width({"/".join([LONG] * 3): np.full(3, 0.1)}),
    "signal to noise": lambda: figures.signal_to_noise(
        np.random.default_rng(0).lognormal(0, 2, 1000)
    ),
    "signal to noise, all 0": lambda: figures.signal_to_noise(np.zeros(10)),
    "signal to noise, all 5": lambda: figures.signal_to_noise(np.full(10, 5.0)),
    "function": function,
    "function, one example": lambda: function(1),
    "observed": observed,
    "observed, two examples": lambda: observed(2),
    "residuals": residuals,
    "residuals, constant std": lambda: residuals(constant=True),
    "residuals, one example": lambda: residuals(1, 10),
    "intervals": intervals,
    "intervals, all outside": lambda: intervals(scale=0.0),
    "intervals, 10,000 examples": lambda: intervals(10_000),
    "intervals, one example": lambda: intervals(1),
    "dependence": lambda: figures.partial_dependence(
        [dependence("height, m")] * 6, y_label="price, $"
    ),
    "dependence, one input": lambda: figures.partial_dependence([dependence("height, m")]),
    "dependence, four inputs": lambda: figures.partial_dependence([dependence(LONG)] * 4),
    "dependence, few numbers": lambda: figures.partial_dependence([dependence("rooms", 5)]),
    "dependence, categories": lambda: figures.partial_dependence(
        [dependence("city", names=("A", "B")), dependence("x", 2)]
    ),
    "dependence of classes": lambda: figures.class_dependence(
        [classes("height, m"), classes("city", names=("A", "B")), classes("x")] * 2,
        class_names=["no", "yes"],
    ),
    "dependence of classes, one input": lambda: figures.class_dependence(
        [classes("city", 9, names=(LONG, "B"))], class_names=[LONG] * 9
    ),
    "dependence, long names": lambda: figures.partial_dependence(
        [dependence("city", names=(LONG, "B", "C" + LONG))] * 4, y_label=LONG
    ),
}


LABELS = {
    "reliability": {"accuracy, %", "share of predictions, % per bin"},
    "risk": {"error rate among them, %"},
    "uncertainty": {"predictive entropy, nats", "mutual information, nats"},
    "rotation": {"rotation, degrees", "entropy, nats", "probability"},
    "training": {"epoch", "nats per example", "wrong, %", "nats"},
    "signal to noise": {"|mean| / standard deviation", "weights below, %"},
    "function": {"height, m", r"price, \$ and \$", "standard deviation"},
    "observed": {r"predicted price, \$", "held-out targets inside, %"},
    "residuals": {r"predicted std of price, \$", r"residual of price, \$"},
    "intervals": {r"price, \$"},
    "dependence of classes": {"height, m", "city", "probability", "entropy, nats"},
    "dependence": {"height, m", r"price, \$"},
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_can_be_read(name: str) -> None:
    """Without a warning, as everywhere in the tests."""
    figure = DRAWN[name]()
    assert_readable(figure)
    assert LABELS.get(name, set()) <= labels(figure)


def test_overlap_is_detected() -> None:
    """The check itself: two words in one place, and a word that is cut off."""
    figure = Figure()
    figure.text(0.5, 0.5, "one")
    figure.text(0.51, 0.5, "two")
    with pytest.raises(AssertionError, match="'one' lies on 'two'"):
        assert_readable(figure)
    figure = Figure()
    figure.text(0.99, 0.5, "cut off")
    with pytest.raises(AssertionError, match="cut off"):
        assert_readable(figure)


def test_color_is_never_the_only_difference() -> None:
    lines = [style.line(i) for i in range(35)]
    for part in ("linestyle", "marker"):
        assert len({str(getattr(line, part)) for line in lines[:5]}) == 5
    assert len({(line.color, str(line.linestyle)) for line in lines}) == 35


def test_global_settings_are_unchanged_and_have_no_effect(tmp_path: Path) -> None:
    one = style.save(DRAWN["width, one weight"](), tmp_path / "one")
    with mpl.rc_context({"font.size": 30, "axes.grid": False, "savefig.dpi": 20}):
        before = dict(mpl.rcParams)
        two = style.save(DRAWN["width, one weight"](), tmp_path / "two")
        assert dict(mpl.rcParams) == before
    for a, b in zip(one, two, strict=True):
        assert a.read_bytes() == b.read_bytes()


@pytest.mark.parametrize("name", ["$x$ and $", "_hidden", "zwei\nZeilen", "日本語", "a\tb"])
def test_names_are_drawn_literally(name: str) -> None:
    figure = Figure()
    figure.text(0.1, 0.5, style.safe(name))
    ((text, _),) = drawn_texts(figure)
    assert text.replace(r"\$", "$").strip() == {"日本語": "???"}.get(name, " ".join(name.split()))


def test_fitted_text_fills_the_width() -> None:
    assert style.fitted("short", 3.0) == "short"
    assert style.fitted("", 3.0) == ""
    cut = style.fitted("internationalisation", 0.5)
    assert cut.endswith("…")
    assert 4 <= len(cut) < 12
    assert style.fitted("wide", 0.0) == ""


def test_wilson_interval_inverts_a_test_at_5_percent() -> None:
    count = np.asarray([1, 7, 50, 1000])
    share = np.asarray([0.0, 1.0, 0.62, 0.999])
    z = NormalDist().inv_cdf(0.975)
    low, high = figures.wilson(share, count)
    for end in (low, high):
        inner = (end > 1e-9) & (end < 1 - 1e-9)
        error = np.sqrt(end[inner] * (1 - end[inner]) / count[inner])
        np.testing.assert_allclose(np.abs(share - end)[inner] / error, z, rtol=1e-5)
    assert low[0] == pytest.approx(0.0, abs=1e-9)
    assert high[1] == pytest.approx(1.0, abs=1e-9)
    assert np.all(low <= share)
    assert np.all(share <= high)


def test_many_layers_are_grouped_by_their_paths() -> None:
    blocks = {f"encoder/block_{i}/{w}": np.full(2, i, np.float32) for i in range(20) for w in "ab"}
    joined = figures.grouped(blocks)
    assert list(joined) == [f"encoder/block_{i}" for i in range(20)]
    np.testing.assert_array_equal(joined["encoder/block_3"], np.full(4, 3.0))
    flat = {f"layer_{i}": np.full(i + 1, 0.1) for i in range(50)}
    rest = figures.grouped(flat)
    assert len(rest) == 24
    assert sum(v.size for v in rest.values()) == sum(v.size for v in flat.values())
    assert list(rest)[-1] == "27 others"


def test_reliability_of_few_examples_fills_the_figure() -> None:
    few = figures.Calibration("few", np.array([0.6, 0.7]), np.array([1.0, 0.5]), np.array([12, 8]))
    figure = figures.reliability([few])
    figure.draw_without_rendering()  # lays it out
    assert all(axes.get_position().width > 0.35 for axes in figure.axes)
    hollow = figure.axes[0].get_lines()[-1]
    assert len(hollow.get_xdata()) == 2  # type: ignore[arg-type]
    assert not hollow.get_clip_on()
