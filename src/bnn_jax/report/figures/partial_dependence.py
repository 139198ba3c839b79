"""The prediction as a function of one input of a table at a time, with both uncertainties."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnn_jax.report import style
from bnn_jax.report.dependence import Axis, ClassDependence, Dependence
from bnn_jax.report.figures.axes import legend

PER_ROW = 3
MOST_CLASSES = 4
PANEL = 1.9  # inches: the width of a panel's axis


@style.styled
def partial_dependence(inputs: Sequence[Dependence], *, y_label: str = "target") -> Figure:
    """Draws a panel for each input, with bands or bars of two standard deviations.

    The inner band is the epistemic part; the outer one adds the aleatoric variance.

    Args:
        inputs: the inputs, the most important first.
        y_label: name and unit of the target.
    """
    columns = min(PER_ROW, len(inputs))
    rows = -(-len(inputs) // columns)
    figure = Figure(figsize=(style.PAGE_WIDTH, 0.7 + 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, found in zip(grid.flat, inputs, strict=False):
        (_bars if found.is_discrete else _bands)(axes, found)
        _along(axes, found, PANEL * PER_ROW / columns)
    for row in grid:
        row[0].set_ylabel(style.fitted(y_label, 1.2, 8.5))
    for axes in grid.flat[len(inputs) :]:
        axes.remove()
    legend(figure, *grid.flat[: len(inputs)])
    return figure


@style.styled
def class_dependence(inputs: Sequence[ClassDependence], *, class_names: Sequence[str]) -> Figure:
    """Draws the class probabilities and the two parts of the entropy for each input.

    Args:
        inputs: the inputs, the most important first; the first three are drawn.
        class_names: one per class; at most four are drawn, the most probable ones.
    """
    inputs = inputs[:PER_ROW]
    figure = Figure(figsize=(style.PAGE_WIDTH, 4.8), layout="constrained")
    grid = figure.subplots(2, len(inputs), sharey="row", sharex="col", squeeze=False)
    mean = np.mean([found.probabilities.mean(axis=0) for found in inputs], axis=0)
    shown = np.sort(np.argsort(-mean, kind="stable")[:MOST_CLASSES])
    for (top, bottom), found in zip(grid.T, inputs, strict=True):
        for i, c in enumerate(shown):
            name = style.fitted(class_names[c], 1.8, 8.0)
            _curve(top, found, found.probabilities[:, c], i, f"probability of {name}")
        _entropies(bottom, found)
        _along(bottom, found, PANEL * PER_ROW / len(inputs))
    grid[0, 0].set(ylim=(-0.02, 1.02), ylabel="probability")
    grid[1, 0].set_ylim(bottom=0.0)
    grid[1, 0].set_ylabel("entropy, nats")
    legend(figure, *grid.flat)
    return figure


def _curve(axes: Axes, found: Axis, values: np.ndarray, index: int, name: str) -> None:
    line = style.line(index)
    axes.plot(
        np.arange(len(values)) if found.is_discrete else found.places,
        values,
        color=line.color,
        linestyle="none" if found.is_discrete else line.linestyle,
        marker=line.marker if found.is_discrete else "none",
        label=name,
    )


def _entropies(axes: Axes, found: ClassDependence) -> None:
    """Draws the aleatoric part, and on it the epistemic part."""
    low, both = found.expected_entropy, found.expected_entropy + found.mutual_information
    parts = (
        ("expected entropy, aleatoric", 0.0 * low, low, "#DCDCDC", "#8C8C8C", ""),
        ("mutual information, epistemic", low, both, "#F6D58A", "#A06E00", "///"),
    )
    for name, start, end, color, edge, hatch in parts:
        look: dict[str, Any] = {
            "facecolor": color,
            "edgecolor": edge,
            "hatch": hatch,
            "label": name,
        }
        if found.is_discrete:
            axes.bar(np.arange(len(low)), end - start, 0.5, bottom=start, linewidth=0.0, **look)
        else:
            axes.fill_between(found.places, start, end, linewidth=0.0, **look)


def _along(axes: Axes, found: Axis, width: float) -> None:
    """Sets the ticks, limits and label of the axis of an input."""
    axes.set_xlabel(style.fitted(found.name, width, 8.5))
    if not found.is_discrete:
        _deciles(axes, found)
        axes.set_xlim(float(found.places[0]), float(found.places[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        return
    names = found.categories or [f"{value:.4g}" for value in found.places]
    # Names that do not fit beside each other stand on end.
    widest = max(style.inches(style.safe(name), 8.0) for name in names)
    upright = widest > 0.8 * width / len(names)
    axes.set_xticks(
        np.arange(len(names)),
        [style.fitted(name, 0.7, 8.0) for name in names],
        rotation=90 if upright else 0,
    )
    axes.set_xlim(-0.6, len(names) - 0.4)


def _deciles(axes: Axes, found: Axis) -> None:
    axes.plot(
        found.deciles,
        np.zeros(len(found.deciles)),
        transform=axes.get_xaxis_transform(),
        linestyle="none",
        marker="|",
        markersize=9.0,
        color=style.BLACK,
        clip_on=False,
        label="deciles of the training examples",
    )


TOTAL, EPISTEMIC = "± 2 std, aleatoric and epistemic", "± 2 std, epistemic only"


def _total(found: Dependence) -> np.ndarray:
    return np.sqrt(found.aleatoric_std**2 + found.epistemic_std**2)


def _bands(axes: Axes, found: Dependence) -> None:
    x, total = found.places, _total(found)
    axes.fill_between(
        x, found.mean - 2 * total, found.mean + 2 * total, color="#DCDCDC", lw=0.0, label=TOTAL
    )
    axes.fill_between(
        x,
        found.mean - 2 * found.epistemic_std,
        found.mean + 2 * found.epistemic_std,
        facecolor="#F6D58A",
        edgecolor="#A06E00",
        hatch="///",
        linewidth=0.0,
        label=EPISTEMIC,
    )
    axes.plot(x, found.mean, color=style.BLUE, linewidth=1.8, label="mean prediction")


def _bars(axes: Axes, found: Dependence) -> None:
    """Draws categories, or an input with few different numbers, at equal distances."""
    place = np.arange(len(found.places))
    for std, width, color, name in (
        (_total(found), 7.0, "#DCDCDC", TOTAL),
        (found.epistemic_std, 3.5, style.ORANGE, EPISTEMIC),
    ):
        axes.vlines(
            place, found.mean - 2 * std, found.mean + 2 * std, color=color, lw=width, label=name
        )
    axes.plot(
        place,
        found.mean,
        linestyle="none",
        marker="_",
        markersize=9.0,
        markeredgewidth=1.8,
        color=style.BLUE,
        label="mean prediction",
    )
