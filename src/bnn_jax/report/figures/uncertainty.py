"""Histograms of uncertainty, for in-distribution examples and for others.

If the uncertainty is useful, it is low on the first and high on the others, so the histograms
separate. Shares are on a logarithmic axis because most test examples are in the first bin, and the
tail matters.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend, log_y

BINS = 30


@style.styled
def uncertainty(
    scores: Mapping[str, Mapping[str, Float[np.ndarray, " _"]]], *, unit: str = "nats"
) -> Figure:
    """Draws one panel per score, and one outline per group of examples.

    Args:
        scores: {score, such as "mutual information": {group of examples: a value per example}}.
            The groups are the same for all scores; the first is filled.
        unit: the unit of the scores.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.3), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for axes, (name, groups) in zip(panels, scores.items(), strict=True):
        _panel(axes, groups)
        axes.set_title(name[:1].upper() + name[1:])
        axes.set_xlabel(f"{name}, {unit}")
        axes.xaxis.set_major_locator(MaxNLocator(5))
    panels[0].set_ylabel("share of the examples, % per bin")
    fewest = max(len(values) for groups in scores.values() for values in groups.values())
    panels[0].set_ylim(50.0 / max(fewest, 1), 150.0)
    log_y(panels[0])
    legend(figure, panels[0], columns=3)
    return figure


def _panel(axes: Axes, groups: Mapping[str, np.ndarray]) -> None:
    largest = max((float(np.max(v)) for v in groups.values() if len(v)), default=0.0)
    edges = np.linspace(0.0, largest if largest > 0.0 else 1.0, BINS + 1)
    for i, (group, values) in enumerate(groups.items()):
        shares = 100.0 * np.histogram(values, edges)[0] / max(len(values), 1)
        line = style.line(i)
        axes.stairs(
            shares,
            edges,
            baseline=None if i else 1e-9,
            fill=i == 0,
            facecolor="#CFE3F1" if i == 0 else "none",
            edgecolor=line.color,
            linestyle=line.linestyle,
            linewidth=1.5,
            label=style.safe(f"{group} ({len(values):,})"),
        )
    axes.set_xlim(0.0, edges[-1])
