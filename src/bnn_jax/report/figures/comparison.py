"""The training of several runs in one figure: the NLL of training batches and of held-out data."""

import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from bnn_jax.experiment.folder import Record
from bnn_jax.report import style


@style.styled
def comparison(
    histories: Sequence[Sequence[Record]], names: Sequence[str], *, held_out: str
) -> Figure:
    """Draws the NLL of runs by epoch, of training batches on the left and held out on the right.

    The two have axes of their own, for the NLL of standardised targets has another zero.

    Args:
        histories: the lines of metrics.jsonl of each run.
        names: a label for each run.
        held_out: the name of the held-out examples in the lines.
    """
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    rows = -(-len(names) // 3)
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.0 + 0.2 * rows), layout=layout)
    left, right = figure.subplots(1, 2)
    for i, (history, name) in enumerate(zip(histories, names, strict=True)):
        line = style.line(i)
        for axes, points in ((left, _training(history)), (right, _held_out(history, held_out))):
            if points:
                x, y = np.asarray(points, np.float64).T
                axes.plot(
                    x,
                    y,
                    color=line.color,
                    linestyle=line.linestyle,
                    marker=line.marker,
                    markevery=max(1, len(x) // 10),
                    label=style.fitted(name, 2.0, 8.0),
                )
    left.set(title="NLL, training batches", xlabel="epoch", ylabel="nats per example")
    right.set(title=f"NLL, {held_out}", xlabel="epoch")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=min(3, max(1, len(labels))))
    return figure


def png_bytes(figure: Figure) -> bytes:
    """Returns a figure as a PNG file."""
    content = io.BytesIO()
    with matplotlib.rc_context(style.RC):
        figure.savefig(content, dpi=style.PNG_DPI, format="png")
    return content.getvalue()


Points = list[tuple[float, float]]


def _training(history: Sequence[Record]) -> Points:
    return [(line["epoch"], line["nll"]) for line in history if line.get("nll") is not None]


def _held_out(history: Sequence[Record], name: str) -> Points:
    found: Points = []
    for line in history:
        scores = line.get(name) or line.get(f"{name}_at_posterior_mean") or {}
        if scores.get("nll") is not None:
            found.append((line["epoch"], scores["nll"]))
    return found
