"""Risk against coverage: what is gained by leaving the least certain images to somebody else.

The images are sorted by an uncertainty, and only the most certain share of them is decided. A
useful uncertainty puts the mistakes last, so the error falls as less is decided (Y. Geifman, R.
El-Yaniv 2017, arXiv:1705.08500).
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
    """Error rate of the decided share, one curve for each uncertainty.

    Args:
        curves: {uncertainty: (coverage, risk)}, both from 0 to 1, coverage rising.
        best: the curve of an uncertainty that puts every mistake last.
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
        # Of a handful of images, one mistake is a high rate: it must not set the scale.
        highest = max(highest, float(risk[coverage >= 10].max(initial=0.0)))
    if best is not None:
        axes.plot(*_drawn(best, first), color=style.GREY, linewidth=1.0, label="best possible")
    axes.set(xlim=(first, 100), ylim=(0, 1.1 * highest if highest > 0 else 1.0))
    axes.set(xlabel="coverage: most certain share of the images, %")
    axes.set(ylabel="error rate among them, %")
    legend(figure, axes)
    return figure


def _drawn(curve: Curve, first: float) -> Curve:
    """A few hundred points of a curve, in %, from a coverage of `first` % on."""
    # Equal uncertainties are decided together, or so many of them as one likes, at the same risk.
    coverage = 100 * np.concatenate([[first / 100], curve[0]])
    risk = 100 * np.concatenate([[curve[1][np.searchsorted(curve[0], first / 100)]], curve[1]])
    coverage, risk = coverage[coverage >= first], risk[coverage >= first]
    some = np.unique(np.linspace(0, len(coverage) - 1, POINTS).round().astype(int))
    return coverage[some], risk[some]


def _first_mistakes(coverage: np.ndarray, risk: np.ndarray) -> float:
    """The coverage, in steps of 0.1, up to which hardly anything goes wrong."""
    wrong = coverage[risk > 0.02 * risk[-1]]
    return float(np.floor(10 * wrong[0])) / 10 if len(wrong) and wrong[0] < 1 else 0.0
