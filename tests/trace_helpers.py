"""Counts how often JAX traces a function.

The size of a jitted function's own cache does not tell: JAX empties it when a process has compiled
many programs.
"""

from collections.abc import Callable
from typing import Any


class Counted:
    """A function that counts its calls; under `jax.jit`, its traces."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.traces = function, 0

    def __call__(self, *arguments: Any) -> Any:
        self.traces += 1
        return self.function(*arguments)
