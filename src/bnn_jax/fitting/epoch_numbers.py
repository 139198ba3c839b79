"""The numbers of an epoch: for the history, and for a progress display."""

import math

from bnn_jax.fitting.divergence import Totals


def headline(totals: Totals) -> dict[str, float]:
    """Returns the means that a progress display has room for, where they have a value."""
    means = totals.means()
    shown = {name: means.get(name) for name in ("loss", "nll", "kl", "accuracy")}
    return {
        name: mean
        for name, mean in shown.items()
        if isinstance(mean, float) and not math.isnan(mean)
    }


def line(
    totals: Totals, epoch: int, step: int, seconds: float, examples_per_second: float
) -> dict[str, object]:
    """Returns an epoch's line of the history."""
    return {
        "epoch": epoch,
        "step": step,
        **totals.means(),
        "seconds": round(seconds, 3),
        "examples_per_second": round(examples_per_second, 1),
    }
