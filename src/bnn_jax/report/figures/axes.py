"""Functions for the axes of several figures: logarithmic scales, a legend below the panels."""

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator


def log_x(axes: Axes) -> None:
    """Makes the x axis logarithmic, with plain numbers."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=_subs(low, high), numticks=8))
    _plain(axes.xaxis)


def log_y(axes: Axes) -> None:
    """Makes the y axis logarithmic, with plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=_subs(low, high), numticks=8))
    _plain(axes.yaxis)


def legend(figure: Figure, *panels: Axes, columns: int = 2) -> None:
    """Adds one legend for the panels below them, with each label once."""
    entries: dict[str, Artist] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(str(label), handle)
    figure.legend(list(entries.values()), list(entries), loc="outside lower left", ncols=columns)


def _subs(low: float, high: float) -> tuple[float, ...]:
    decades = np.log10(high / low)
    return (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.2 else (1.0, 2.0, 5.0)


def _plain(axis: Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.12g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
