"""What the machine was seen to reach, and how near a program comes to it.

A program of so many operations and bytes, as XLA counts them, takes at least the time that the
machine needs for the one or for the other. Operations are held against a large matrix product,
bytes against the sum of two arrays that fit in no cache. XLA counts each operand of each operation,
also one that is in a cache, so a small program may be faster than memory seems to allow.

Source: Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bnn_jax.benchmark import timing

_SIDE = 2048
_LENGTH = 2**25


@dataclasses.dataclass(frozen=True)
class Machine:
    """Operations and bytes a second, the best of several tries."""

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, cost: Mapping[str, float]) -> float:
        """The time below which no program of this cost can be, 0 where the cost is not known."""
        return max(
            cost.get("flops", 0.0) / self.flops_per_second,
            cost.get("bytes", 0.0) / self.bytes_per_second,
        )


def measure(dtype: Any, *, rounds: int = 5) -> Machine:
    """Time a product of matrices of this dtype, and a sum of float32 arrays."""
    square = jnp.ones((_SIDE, _SIDE), dtype)
    long, other = jnp.ones(_LENGTH), jnp.zeros(_LENGTH)
    product, addition = jax.jit(jnp.dot), jax.jit(jnp.add)
    times = timing.in_turns(
        {"product": lambda: product(square, square), "addition": lambda: addition(long, other)},
        rounds=rounds,
    )
    fastest = {name: min(t.seconds) for name, t in times.items()}
    return Machine(2 * _SIDE**3 / fastest["product"], 3 * 4 * _LENGTH / fastest["addition"])
