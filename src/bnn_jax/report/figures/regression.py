"""Figures of regression: a function with uncertainty bands, and observed against predicted values.

The aleatoric band is the predicted noise of the data, which more data does not reduce. The
epistemic band is the uncertainty about the weights, which is larger where there is no data.
"""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend

MOST_POINTS = 500


@style.styled
def function(
    x: Float[np.ndarray, " points"],
    mean: Float[np.ndarray, " points"],
    aleatoric_std: Float[np.ndarray, " points"],
    epistemic_std: Float[np.ndarray, " points"],
    *,
    train_x: Float[np.ndarray, " examples"],
    train_y: Float[np.ndarray, " examples"],
    true_mean: Float[np.ndarray, " points"] | None = None,
    x_label: str = "input",
    y_label: str = "target",
) -> Figure:
    """Draws a function of one input, with bands of two standard deviations.

    The inner band is the epistemic part. The outer band adds the aleatoric variance and shows where
    targets are expected.

    Args:
        x: increasing.
        mean: of the predictive at x.
        aleatoric_std: square root of the aleatoric variance.
        epistemic_std: square root of the epistemic variance.
        train_x, train_y: the training examples; at most `MOST_POINTS` are drawn.
        true_mean: the true mean of the targets at x, if it is known.
        x_label, y_label: name and unit.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1.0])
    total = np.sqrt(aleatoric_std**2 + epistemic_std**2)
    some = np.unique(np.linspace(0, len(train_x) - 1, MOST_POINTS).round().astype(int))
    top.fill_between(
        x,
        mean - 2 * total,
        mean + 2 * total,
        color="#DCDCDC",
        linewidth=0.0,
        label="± 2 std, aleatoric and epistemic",
    )
    top.fill_between(
        x,
        mean - 2 * epistemic_std,
        mean + 2 * epistemic_std,
        facecolor="#F6D58A",
        edgecolor="#A06E00",
        hatch="///",
        linewidth=0.0,
        label="± 2 std, epistemic only",
    )
    top.plot(
        train_x[some],
        train_y[some],
        linestyle="none",
        marker="o",
        markersize=2.5,
        color=style.BLACK,
        alpha=0.6,
        label="training examples",
    )
    top.plot(x, mean, color=style.BLUE, linewidth=1.8, label="predictive mean")
    if true_mean is not None:
        top.plot(x, true_mean, color=style.BLACK, linewidth=1.0, linestyle=":", label="true mean")
    top.set_ylabel(style.fitted(y_label, 2.5, 8.5))
    for i, (name, std) in enumerate(
        {"aleatoric": aleatoric_std, "epistemic": epistemic_std, "total": total}.items()
    ):
        color = (style.GRAY, style.ORANGE, style.BLACK)[i]
        bottom.plot(x, std, color=color, linestyle=style.line(i).linestyle, label=f"{name} std")
    bottom.set_ylim(bottom=0.0)
    bottom.set_ylabel("standard deviation")
    bottom.set_xlabel(style.fitted(x_label, 6.0, 8.5))
    legend(figure, top, bottom)
    top.set_xlim(float(x.min()), float(x.max()))
    return figure


@style.styled
def observed(
    targets: Float[np.ndarray, " examples"],
    mean: Float[np.ndarray, " examples"],
    aleatoric_std: Float[np.ndarray, " examples"],
    epistemic_std: Float[np.ndarray, " examples"],
    *,
    nominal: Float[np.ndarray, " levels"],
    covered: Float[np.ndarray, " levels"],
    y_label: str = "target",
) -> Figure:
    """Draws observed against predicted values with their bars, and the coverage of intervals.

    Args:
        targets: held-out targets.
        mean: of the predictive.
        aleatoric_std: square root of the aleatoric variance.
        epistemic_std: square root of the epistemic variance.
        nominal: probabilities of central intervals.
        covered: share of the targets inside them.
        y_label: name and unit of the target.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    some = np.unique(np.linspace(0, len(targets) - 1, MOST_POINTS).round().astype(int))
    total = np.sqrt(aleatoric_std**2 + epistemic_std**2)
    for std, width, color, name in (
        (total, 0.8, "#B0B0B0", "± 2 std, aleatoric and epistemic"),
        (epistemic_std, 2.2, style.ORANGE, "± 2 std, epistemic only"),
    ):
        left.errorbar(
            mean[some],
            targets[some],
            xerr=2 * std[some],
            linestyle="none",
            ecolor=color,
            elinewidth=width,
            label=name,
        )
    left.plot(
        mean[some],
        targets[some],
        linestyle="none",
        marker="o",
        markersize=2.5,
        color=style.BLUE,
        label="held-out examples",
    )
    ends = [float(min(targets.min(), mean.min())), float(max(targets.max(), mean.max()))]
    left.plot(ends, ends, color=style.BLACK, linewidth=1.0, linestyle="--", label="exact")
    left.set_title("Observed against predicted")
    left.set_xlabel(style.fitted(f"predicted {y_label}", 2.8, 8.5))
    left.set_ylabel(style.fitted(f"observed {y_label}", 2.8, 8.5))
    right.plot([0, 100], [0, 100], color=style.GRAY, linewidth=1.0, label="perfectly calibrated")
    right.plot(100 * nominal, 100 * covered, color=style.BLUE, marker="o", label="predictive")
    right.set(xlim=(0, 100), ylim=(-2, 102), title="Coverage of predictive intervals")
    right.set_xlabel("central interval of the predictive, %")
    right.set_ylabel("held-out targets inside, %")
    legend(figure, left, right)
    return figure
