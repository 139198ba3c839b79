"""Reliability diagram: accuracy as a function of confidence.

Each point is a bin of predictions of similar confidence. Its bar is the 95 % interval of the
accuracy for the number of predictions in the bin (E. B. Wilson 1927, "Probable inference, the law
of succession, and statistical inference"). A bin with few predictions is a hollow point that the
line does not connect.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend, log_y

FEW = 20  # bins with fewer predictions are hollow points
_Z = 1.959964  # of a 95 % interval


@dataclasses.dataclass(frozen=True)
class Calibration:
    """The bins of one predictor; empty bins are not drawn.

    Attributes:
        name: of the predictor.
        confidence: mean probability of the predicted class in each bin.
        accuracy: share of correct predictions in each bin.
        count: number of predictions in each bin.
    """

    name: str
    confidence: Float[np.ndarray, " bins"]
    accuracy: Float[np.ndarray, " bins"]
    count: Int[np.ndarray, " bins"]


@style.styled
def reliability(predictors: Sequence[Calibration]) -> Figure:
    """Draws accuracy against confidence, and the share of predictions in each bin."""
    figure = Figure(figsize=(style.PAGE_WIDTH, 4.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 100], [0, 100], color=style.GRAY, linewidth=1.0, label="perfectly calibrated")
    for i, predictor in enumerate(predictors):
        line = style.line(i)
        _points(left, predictor, line)
        edges = np.linspace(0.0, 100.0, len(predictor.count) + 1)
        right.stairs(
            100 * predictor.count / max(int(predictor.count.sum()), 1),
            edges,
            baseline=None,
            edgecolor=line.color,
            linestyle=line.linestyle,
            linewidth=1.5,
        )
    left.set(xlim=(0, 100), ylim=(-2, 102), ylabel="accuracy, %", title="Reliability")
    left.set_box_aspect(1.0)
    most = max((int(p.count.sum()) for p in predictors), default=1)
    right.set(ylabel="share of predictions, % per bin", title="Histogram of confidence")
    right.set(xlim=(0, 100), ylim=(50.0 / max(most, 1), 150.0))
    log_y(right)
    right.set_box_aspect(1.0)
    for axes in (left, right):
        axes.set_xlabel("confidence (largest probability), %")
        axes.set_xticks(range(0, 101, 20))
    legend(figure, left)
    return figure


def _points(axes: Axes, predictor: Calibration, line: style.Line) -> None:
    held = predictor.count > 0
    count = predictor.count[held]
    confidence, accuracy = 100 * predictor.confidence[held], predictor.accuracy[held]
    low, high = wilson(accuracy, count)
    axes.errorbar(
        confidence,
        100 * accuracy,
        yerr=100 * np.maximum([accuracy - low, high - accuracy], 0.0),
        ecolor=line.color,
        elinewidth=0.8,
        capsize=2.0,
        linestyle="none",
    )
    many = count >= FEW
    connected = axes.plot(
        confidence[many],
        100 * accuracy[many],
        color=line.color,
        linestyle=line.linestyle,
        marker=line.marker,
        clip_on=False,
        zorder=3,
        label=style.safe(predictor.name),
    )
    hollow = axes.plot(
        confidence[~many],
        100 * accuracy[~many],
        color=line.color,
        linestyle="none",
        marker=line.marker,
        markerfacecolor="white",
        clip_on=False,
        zorder=3,
    )
    # The layout would reserve space for an unclipped line without points, at the figure's corner.
    for drawn in (*connected, *hollow):
        drawn.set_in_layout(False)


def wilson(
    share: Float[np.ndarray, " bins"], count: Int[np.ndarray, " bins"]
) -> tuple[Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Returns the 95 % interval of a share that was observed in `count` >= 1 cases."""
    n = count.astype(np.float64)
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    spread = share * (1 - share) / n + _Z**2 / (4 * n**2)
    half = _Z * np.sqrt(np.maximum(spread, 0.0)) / (1 + _Z**2 / n)
    return centre - half, centre + half
