"""Timing in turns: what shares one process and one minute can be compared.

A machine's speed drifts, by load and by temperature. So the calls to compare are made one after the
other, round after round, and only their ratios within the rounds are trusted.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

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
        """Half the distance of the quartiles, over the median."""
        low, high = np.quantile(self.seconds, (0.25, 0.75))
        return float(high - low) / 2 / self.median


def in_turns(
    calls: Mapping[str, Callable[[], Any]], *, rounds: int, warmup: int = 2
) -> dict[str, Times]:
    """Time each call once a round, in the order given; each waits for its result.

    Args:
        calls: what to time, by name.
        rounds: timed rounds.
        warmup: rounds before them, which also compile.
    """
    if rounds < 1 or warmup < 0:
        raise ValueError(f"rounds has to be >= 1 and warmup >= 0, got {rounds} and {warmup}.")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(warmup + rounds):
        for name, call in calls.items():
            started = time.perf_counter()
            jax.block_until_ready(call())
            if turn >= warmup:
                seconds[name].append(time.perf_counter() - started)
    return {name: Times(tuple(values)) for name, values in seconds.items()}


def ratio(times: Times, base: Times) -> float:
    """The median over rounds of the time over that of the base in the same round."""
    return float(np.median(np.asarray(times.seconds) / np.asarray(base.seconds)))
