"""The signal-to-noise ratios of the weights: |mean| / std.

Weights with a low ratio can be pruned (Blundell et al. 2015, arXiv:1505.05424, section 5.1).
"""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend, log_x


@style.styled
def signal_to_noise(ratios: Float[np.ndarray, " weights"]) -> Figure:
    """Draws the histogram of |mean| / std over all random weights, and its cumulative sum.

    Args:
        ratios: nonnegative.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    positive = ratios[ratios > 0.0]
    low, high = (
        (1e-3, 1.0)
        if not positive.size
        else (float(np.percentile(positive, 0.1)), float(positive.max()))
    )
    low = max(low, high * 1e-6, 1e-6)
    if low >= high:
        low, high = high / 3.0, high * 3.0
    edges = np.geomspace(low, high, 41)
    shares = 100.0 * np.histogram(np.clip(ratios, low, high), edges)[0] / max(ratios.size, 1)
    left.stairs(shares, edges, fill=True, facecolor="#BFD9EA", edgecolor=style.BLUE, linewidth=1.2)
    left.set(ylabel="share of the weights, % per bin", title="Histogram")
    left.set_ylim(bottom=0.0)
    running = np.concatenate([[0.0], np.cumsum(shares)])
    right.plot(edges, running, color=style.BLUE)
    right.set(ylabel="weights below, %", title="Cumulative sum", ylim=(-2.0, 102.0))
    for axes in (left, right):
        axes.set_xlabel("|mean| / standard deviation")
        axes.set_xlim(low, high)
        log_x(axes)
        if low < 1.0 < high:
            axes.axvline(1.0, color=style.VERMILLION, linestyle="--", label="|mean| = std")
    if low < 1.0 < high:
        legend(figure, left)
    return figure
