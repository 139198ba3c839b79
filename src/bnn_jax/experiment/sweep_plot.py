"""The figure of a sweep: the validation score of each run against each setting."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bnn_jax.experiment.folder import Record


def draw(table: Sequence[Record], axes: Mapping[str, Sequence[object]], by: str) -> Figure:
    """Returns a figure with a panel for each setting; the best run is filled.

    Args:
        table: the rows of a sweep, the best first.
        axes: the values of each setting.
        by: the score that decides.
    """
    table = [row for row in table if by in row["scores"]]
    figure = Figure(figsize=(4.0 * len(axes), 3.2), layout="constrained")
    panels = figure.subplots(1, len(axes), sharey=True, squeeze=False)[0]
    for panel, (key, values) in zip(panels, axes.items(), strict=True):
        places = [values.index(row["settings"][key]) for row in table]
        scores = [row["scores"][by] for row in table]
        numeric = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        shown: list[float] = list(places)
        if len(numeric) == len(values):
            shown = [numeric[place] for place in places]
            if min(numeric) > 0 and max(numeric) >= 10 * min(numeric):
                panel.set_xscale("log")
        else:
            panel.set_xticks(range(len(values)), [str(value) for value in values])
        panel.scatter(shown, scores, facecolors="none", edgecolors="C0")
        panel.scatter(shown[:1], scores[:1], color="C0", label="best")
        panel.set_xlabel(key)
    panels[0].set_ylabel(f"validation {by}")
    panels[0].legend(frameon=False)
    return figure


def write(
    file: Path, table: Sequence[Record], axes: Mapping[str, Sequence[object]], by: str
) -> None:
    """Writes the figure of a sweep as PNG."""
    draw(table, axes, by).savefig(file, dpi=150)
