"""The roofline: a lower bound of the time of a program from its operations and bytes.

XLA counts the operations and bytes of a program. The rates of the machine are measured: operations
per second with a large matrix product, bytes per second with the sum of two arrays that fit in no
cache. XLA counts each operand of each operation, also operands in a cache, so a small program may
be faster than the bound.

Source: Williams, Waterman, Patterson 2009, "Roofline: an insightful visual performance model".
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from bnn_jax.benchmark import timing

_SIDE = 2048
_LENGTH = 2**25


@dataclasses.dataclass(frozen=True)
class Machine:
    """Operations and bytes per second, the best of several rounds."""

    flops_per_second: float
    bytes_per_second: float

    def least_seconds(self, cost: Mapping[str, float]) -> float:
        """Returns the lower bound for a program of this cost; 0 if the cost is unknown."""
        return max(
            cost.get("flops", 0.0) / self.flops_per_second,
            cost.get("bytes", 0.0) / self.bytes_per_second,
        )


def measure(dtype: DTypeLike, *, rounds: int = 5) -> Machine:
    """Measures a product of matrices of this dtype and a sum of float32 arrays."""
    square = jnp.ones((_SIDE, _SIDE), dtype)
    long, other = jnp.ones(_LENGTH), jnp.zeros(_LENGTH)
    product, addition = jax.jit(jnp.dot), jax.jit(jnp.add)
    times = timing.in_turns(
        {"product": lambda: product(square, square), "addition": lambda: addition(long, other)},
        rounds=rounds,
    )
    fastest = {name: min(t.seconds) for name, t in times.items()}
    return Machine(2 * _SIDE**3 / fastest["product"], 3 * 4 * _LENGTH / fastest["addition"])
