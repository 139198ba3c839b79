"""The width of the posterior in each layer.

A weight whose posterior is as wide as the prior has learned little from the data.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend, log_x

MOST_ROWS = 24
_PERCENTILES = (5.0, 25.0, 50.0, 75.0, 95.0)


@style.styled
def posterior_width(
    stds: Mapping[str, Float[np.ndarray, " _"]], *, prior_std: float | None = None
) -> Figure:
    """Draws the standard deviations of the weights, with a box for each array.

    Args:
        stds: {path: standard deviations of a random weight array}, flat, positive.
        prior_std: of the prior, drawn as a line; None for no line.
    """
    groups = grouped(stds)
    figure = Figure(figsize=(style.PAGE_WIDTH, 1.25 + 0.26 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for y, values in enumerate(groups.values()):
        p5, p25, p50, p75, p95 = np.percentile(values, _PERCENTILES)
        axes.plot([p5, p95], [y, y], color=style.BLACK, linewidth=1.0, zorder=1.5)
        axes.barh(
            y,
            p75 - p25,
            left=p25,
            height=0.62,
            color="#BFD9EA",
            edgecolor=style.BLUE,
            linewidth=1.0,
            zorder=2.0,
        )
        axes.plot([p50, p50], [y - 0.31, y + 0.31], color=style.BLACK, linewidth=1.8, zorder=2.5)
    if prior_std is not None:
        axes.axvline(prior_std, color=style.VERMILLION, linestyle="--", label="std of the prior")
        legend(figure, axes)
    log_x(axes)
    axes.set_yticks(
        range(len(groups)),
        [style.fitted(f"{name} ({v.size:,})", 2.0, 8.0) for name, v in groups.items()],
    )
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.grid(False, axis="y")
    axes.set_xlabel("posterior standard deviation of a weight (box: 25 to 75 %, line: 5 to 95 %)")
    return figure


def grouped(
    values: Mapping[str, Float[np.ndarray, " _"]],
) -> Mapping[str, Float[np.ndarray, " _"]]:
    """Returns the arrays, joined by the first parts of their paths until they fit in a figure.

    If that is not enough, all but the largest arrays are joined to one group.
    """
    if len(values) <= MOST_ROWS:
        return values
    depth = max(name.count("/") for name in values)
    for parts in range(depth, 0, -1):
        joined: dict[str, list[np.ndarray]] = {}
        for name, array in values.items():
            joined.setdefault("/".join(name.split("/")[:parts]), []).append(array)
        if len(joined) <= MOST_ROWS:
            return {name: np.concatenate(arrays) for name, arrays in joined.items()}
    names = sorted(values, key=lambda name: -values[name].size)
    kept, rest = set(names[: MOST_ROWS - 1]), names[MOST_ROWS - 1 :]
    return {name: array for name, array in values.items() if name in kept} | {
        f"{len(rest)} others": np.concatenate([values[name] for name in rest])
    }
