"""Training curves: the loss and its parts, the error, the KL of each layer."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from bnn_jax.experiment.folder import Record
from bnn_jax.report import style
from bnn_jax.report.figures.axes import log_y

MOST_LAYERS = 5
HELD_OUT = "held out, at the posterior mean"
Epochs = Sequence[Record]


@style.styled
def training(epochs: Epochs, *, held_out: str | None = None) -> Figure:
    """Draws the training curves of a run.

    Args:
        epochs: the lines of metrics.jsonl. Each has `epoch`, the means over its steps of `loss`,
            `nll`, of variational inference `kl`, `bnn_factor`, `dnn_factor` and `kl_by_layer`, and
            `accuracy` or `rmse`. `{held_out}_at_posterior_mean` or `{held_out}`, where present,
            holds the scores of the held-out examples: `nll`, and `accuracy` or `rmse`.
        held_out: the name of the held-out examples; None if there are none.
    """
    at_mean = f"{held_out}_at_posterior_mean"
    scores = at_mean if any(at_mean in line for line in epochs) else str(held_out)
    seen = [line for line in epochs if held_out is not None and scores in line]
    panels: list[Callable[[Axes], None]] = [
        lambda axes: _loss(axes, epochs),
        lambda axes: _nll(axes, epochs, seen, scores),
    ]
    if all("accuracy" in line for line in epochs):
        panels.append(lambda axes: _error(axes, epochs, seen, scores))
    elif any("rmse" in line[scores] for line in seen):
        panels.append(lambda axes: _rmse(axes, epochs, seen, scores))
    if all(line.get("kl_by_layer") for line in epochs):
        panels.append(lambda axes: _kl(axes, epochs))
    rows = -(-len(panels) // 2)
    layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.08)
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.2 * rows), layout=layout)
    grid = figure.subplots(rows, 2, squeeze=False)
    last = float(epochs[-1]["epoch"])
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes)
        axes.set(xlabel="epoch", xlim=(0.0, 1.03 * last))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10]))
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(-0.03, -0.2),
            ncols=2 if len(axes.get_lines()) > 2 else 1,
            borderaxespad=0.0,
            columnspacing=1.2,
        )
    for axes in grid.flat[len(panels) :]:
        axes.remove()
    return figure


def _loss(axes: Axes, epochs: Epochs) -> None:
    _curve(axes, 0, epochs, [line["loss"] for line in epochs], "loss")
    if not all("kl" in line for line in epochs):
        axes.set_title("Loss")
        axes.set_ylabel("nats per example")
        return
    data_part = [line["dnn_factor"] * line["nll"] for line in epochs]
    kl_part = [line["bnn_factor"] * line["kl"] for line in epochs]
    _curve(axes, 1, epochs, data_part, "data")
    _curve(axes, 2, epochs, kl_part, "KL")
    per_example = all(line["dnn_factor"] == 1.0 for line in epochs)
    axes.set_title("Loss and its two parts")
    axes.set_ylabel("nats per example" if per_example else "loss, dnn_factor x nats per example")


def _nll(axes: Axes, epochs: Epochs, seen: Epochs, scores: str) -> None:
    _curve(axes, 0, epochs, [line["nll"] for line in epochs], "training batches")
    _held_out(axes, seen, scores, "nll")
    axes.set_title("Negative log likelihood")
    axes.set_ylabel("nats per example")
    _logarithmic(axes)


def _error(axes: Axes, epochs: Epochs, seen: Epochs, scores: str) -> None:
    _curve(axes, 0, epochs, [100 * (1 - line["accuracy"]) for line in epochs], "training batches")
    _held_out(axes, seen, scores, "accuracy", lambda accuracy: 100 * (1 - accuracy))
    axes.set_title("Error rate")
    axes.set_ylabel("wrong, %")
    _logarithmic(axes)


def _rmse(axes: Axes, epochs: Epochs, seen: Epochs, scores: str) -> None:
    if all("rmse" in line for line in epochs):
        _curve(axes, 0, epochs, [line["rmse"] for line in epochs], "training batches")
    _held_out(axes, seen, scores, "rmse")
    axes.set_title("Root mean squared error")
    axes.set_ylabel("unit of the target")
    _logarithmic(axes)


def _kl(axes: Axes, epochs: Epochs) -> None:
    last = epochs[-1]["kl_by_layer"]
    largest = sorted(last, key=lambda name: -last[name])
    kept, rest = largest[:MOST_LAYERS], largest[MOST_LAYERS:]
    for i, name in enumerate(kept):
        _curve(axes, i, epochs, [line["kl_by_layer"][name] for line in epochs], name)
    if rest:
        sums = [sum(line["kl_by_layer"][name] for name in rest) for line in epochs]
        _curve(axes, MOST_LAYERS, epochs, sums, f"{len(rest)} others")
    axes.set_title("KL(posterior || prior) by layer")
    axes.set_ylabel("nats")
    _logarithmic(axes)


def _held_out(
    axes: Axes,
    seen: Epochs,
    scores: str,
    name: str,
    shown: Callable[[float], float] = lambda value: value,
) -> None:
    having = [line for line in seen if name in line[scores]]
    label = HELD_OUT if scores.endswith("_at_posterior_mean") else "held out"
    _curve(axes, 3, having, [shown(line[scores][name]) for line in having], label)


def _logarithmic(axes: Axes) -> None:
    """Makes the y axis logarithmic if all values are positive."""
    if all(np.all(np.asarray(line.get_ydata()) > 0.0) for line in axes.get_lines()):
        log_y(axes)


def _curve(axes: Axes, index: int, epochs: Epochs, values: Sequence[float], label: str) -> None:
    if not epochs:
        return
    line = style.line(index)
    x = np.asarray([e["epoch"] for e in epochs], np.float64)
    axes.plot(
        x,
        np.asarray(values, np.float64),
        color=line.color,
        linestyle=line.linestyle,
        marker=line.marker,
        markevery=max(1, len(x) // 10),
        label=style.fitted(label, 2.4 if label == HELD_OUT else 1.0, 8.0),
    )
