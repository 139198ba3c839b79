"""Risk-coverage curves: the error rate when the network abstains on the least certain examples.

The examples are sorted by an uncertainty, and only the most certain ones are classified. If the
uncertainty is useful, errors come last, so the error rate is lower at a lower coverage (Y. Geifman,
R. El-Yaniv 2017, arXiv:1705.08500).
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from bnn_jax.report import style
from bnn_jax.report.figures.axes import legend

POINTS = 300

Curve = tuple[Float[np.ndarray, " _"], Float[np.ndarray, " _"]]


@style.styled
def risk_coverage(curves: Mapping[str, Curve], *, best: Curve | None = None) -> Figure:
    """Draws the error rate against the coverage, one curve for each uncertainty.

    Args:
        curves: {uncertainty: (coverage, risk)}, both from 0 to 1, coverage increasing.
        best: the curve of an uncertainty that sorts every error last.
    """
    figure = Figure(figsize=(style.PAGE_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    first = 100 * min((_first_mistakes(*curve) for curve in curves.values()), default=0.0)
    highest = 0.0
    for i, (name, curve) in enumerate(curves.items()):
        line = style.line(i)
        coverage, risk = _drawn(curve, first)
        axes.plot(
            coverage, risk, color=line.color, linestyle=line.linestyle, label=style.safe(name)
        )
        # Among a few examples one error is a high rate, which must not set the scale.
        highest = max(highest, float(risk[coverage >= 10].max(initial=0.0)))
    if best is not None:
        axes.plot(*_drawn(best, first), color=style.GRAY, linewidth=1.0, label="best possible")
    axes.set(xlim=(first, 100), ylim=(0, 1.1 * highest if highest > 0 else 1.0))
    axes.set(xlabel="coverage: most certain share of the examples, %")
    axes.set(ylabel="error rate among them, %")
    legend(figure, axes)
    return figure


def _drawn(curve: Curve, first: float) -> Curve:
    """Returns at most `POINTS` points of a curve, in %, from a coverage of `first` %."""
    # Between examples of equal uncertainty the risk is constant.
    coverage = 100 * np.concatenate([[first / 100], curve[0]])
    risk = 100 * np.concatenate([[curve[1][np.searchsorted(curve[0], first / 100)]], curve[1]])
    coverage, risk = coverage[coverage >= first], risk[coverage >= first]
    some = np.unique(np.linspace(0, len(coverage) - 1, POINTS).round().astype(int))
    return coverage[some], risk[some]


def _first_mistakes(coverage: np.ndarray, risk: np.ndarray) -> float:
    """Returns the coverage, in steps of 0.1, below which there are almost no errors."""
    wrong = coverage[risk > 0.02 * risk[-1]]
    return float(np.floor(10 * wrong[0])) / 10 if len(wrong) and wrong[0] < 1 else 0.0
