"""Timing in turns, for reliable ratios between calls.

The speed of a machine drifts with load and temperature. So the calls are made in turns, round after
round, and compared by their ratios within each round.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Times:
    """Seconds of the same call in successive rounds."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(np.median(self.seconds))

    @property
    def spread(self) -> float:
        """Half of the interquartile range, divided by the median."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(high - low) / 2 / self.median


def in_turns(
    calls: Mapping[str, Callable[[], object]], *, rounds: int, warmup: int = 2
) -> dict[str, Times]:
    """Times each call once per round, in the given order, until its result is ready.

    Args:
        calls: name -> call.
        rounds: the number of timed rounds.
        warmup: the number of untimed rounds before them, which also compile.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(
            f"rounds must be at least 1 and warmup at least 0, got {rounds} and {warmup}."
        )
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def ratio(times: Times, base: Times) -> float:
    """Returns the median over rounds of the time divided by that of `base` in the same round."""
    return float(np.median(np.asarray(times.seconds) / np.asarray(base.seconds)))
