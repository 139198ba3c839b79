"""Whether the uncertainties of a regression have the right size: residuals, PIT, intervals.

Source: Gneiting, Balabdaoui, Raftery 2007, "Probabilistic forecasts, calibration and sharpness",
doi:10.1111/j.1467-9868.2007.00587.x (PIT histogram).
"""

import numpy as np
from jaxtyping import Bool, Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend

MOST_POINTS = 1000
MOST_INTERVALS = 60
GROUP = 20  # examples, at least, for each standard deviation of residuals

Values = Float[np.ndarray, " examples"]


@style.styled
def residuals(
    residuals: Values, std: Values, *, pit: Float[np.ndarray, " bins"], y_label: str = "target"
) -> Figure:
    """Draws residuals against the predicted standard deviation, and the PIT histogram.

    Args:
        residuals: target minus predictive mean.
        std: of the predictive, aleatoric and epistemic.
        pit: the share of the targets in each of equally probable intervals of their predictive.
        y_label: name and unit of the target.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    some = np.unique(np.linspace(0, len(std) - 1, MOST_POINTS).round().astype(int))
    left.plot(
        std[some],
        residuals[some],
        linestyle="none",
        marker="o",
        markersize=2.5,
        color=style.BLUE,
        alpha=0.6,
        label="held-out examples",
    )
    low, high = float(std.min()), float(std.max())
    margin = 0.05 * (high - low) or 0.1 * high
    ends = np.asarray([max(low - margin, 0.0), high + margin])
    for sign in (-1, 1):
        left.plot(ends, sign * 2 * ends, color=style.BLACK, linestyle="--", label="± 2 std")
    _groups(left, residuals, std)
    left.axhline(0.0, color=style.GRAY, linewidth=0.8)
    left.set_xlim(*ends)
    left.xaxis.set_major_locator(MaxNLocator(6))
    left.set_title("Residuals against predicted std")
    left.set_xlabel(style.fitted(f"predicted std of {y_label}", 2.8, 8.5))
    left.set_ylabel(style.fitted(f"residual of {y_label}", 2.8, 8.5))
    _pit(right, pit, len(residuals))
    legend(figure, left, right)
    return figure


def _groups(axes: Axes, residuals: Values, std: Values) -> None:
    """Adds twice the root mean squared residual of groups of similar predicted std."""
    count = min(len(std) // GROUP, 8)
    if count < 1:
        return
    groups = np.array_split(np.argsort(std, kind="stable"), count)
    middle = np.asarray([std[group].mean() for group in groups])
    size = np.asarray([np.sqrt(np.mean(residuals[group] ** 2)) for group in groups])
    for sign in (-1, 1):
        axes.plot(
            middle,
            sign * 2 * size,
            linestyle="none",
            marker="D",
            markersize=5.0,
            color=style.ORANGE,
            markeredgecolor=style.BLACK,
            label="± 2 root mean squared residuals",
        )


def _pit(axes: Axes, pit: Float[np.ndarray, " bins"], count: int) -> None:
    bins = len(pit)
    expected = 100.0 / bins
    half = 1.96 * 100.0 * np.sqrt((1 / bins) * (1 - 1 / bins) / count)
    axes.axhspan(
        max(expected - half, 0.0),
        expected + half,
        color="#DCDCDC",
        linewidth=0.0,
        label="95 % of bars, if calibrated",
    )
    axes.stairs(
        100.0 * pit,
        np.linspace(0.0, 1.0, bins + 1),
        fill=True,
        facecolor="#CFE3F199",
        edgecolor=style.BLUE,
        linewidth=1.2,
        label="held-out targets",
    )
    axes.axhline(expected, color=style.BLACK, linestyle="--", linewidth=1.0, label="uniform")
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, None), title="PIT histogram")
    axes.set_xlabel("predictive distribution function at the target")
    axes.set_ylabel("share of held-out targets, % per bin")


@style.styled
def predictive_intervals(
    targets: Values,
    mean: Values,
    *,
    wide: tuple[Values, Values],
    narrow: tuple[Values, Values],
    y_label: str = "target",
) -> Figure:
    """Draws the central intervals of 50 and 90 % of held-out examples, ordered by their mean.

    Args:
        targets: held-out targets.
        mean: of the predictive.
        wide, narrow: the lower and upper ends of the intervals of 90 % and of 50 %.
        y_label: name and unit of the target.
    """
    order = np.argsort(mean, kind="stable")
    some = order[np.unique(np.linspace(0, len(order) - 1, MOST_INTERVALS).round().astype(int))]
    place = np.arange(len(some))
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.8), layout="constrained")
    axes = figure.subplots()
    for (low, high), width, color, name in (
        (wide, 1.4, "#9A9A9A", "90 % interval"),
        (narrow, 4.5, "#F6D58A", "50 % interval"),
    ):
        axes.vlines(place, low[some], high[some], color=color, linewidth=width, label=name)
    axes.plot(
        place,
        mean[some],
        linestyle="none",
        marker="_",
        markersize=5.0,
        color=style.BLACK,
        label="predictive mean",
    )
    inside: Bool[np.ndarray, " some"] = (targets >= wide[0])[some] & (targets <= wide[1])[some]
    for chosen, marker, color, name in (
        (inside, "o", style.BLUE, "target inside the 90 % interval"),
        (~inside, "X", style.VERMILLION, "target outside"),
    ):
        axes.plot(
            place[chosen],
            targets[some][chosen],
            linestyle="none",
            marker=marker,
            markersize=3.5 if marker == "o" else 6.0,
            color=color,
            label=name,
        )
    axes.set_xlim(-1.0, len(some))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("held-out examples in the order of their predictive mean")
    axes.set_ylabel(style.fitted(y_label, 3.0, 8.5))
    legend(figure, axes, columns=3)
    return figure
