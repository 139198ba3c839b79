"""Samples of a Markov chain, kept in a buffer of constant size, and when they are taken.

A chain of `num_steps` steps is divided into cycles. In each cycle the step size falls by a cosine;
the first part of a cycle explores, without noise, and samples are taken at equal distances in the
rest. One cycle with a constant step size is the ordinary chain: the first part is the burn-in.

Source: Zhang, Li, Zhang, Chen, Wilson 2020, "Cyclical Stochastic Gradient MCMC for Bayesian Deep
Learning", arXiv:1902.03932, equation 1 and algorithm 1.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from bnn_jax.posteriors import Samples

Step = Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Schedule:
    """When a chain explores, and when it is sampled.

    Attributes:
        num_steps: steps in all.
        cycles: number of cycles; 1 is a chain with a constant step size.
        exploration: fraction of each cycle that is not sampled.
        num_samples: samples to keep, from all cycles together.
    """

    num_steps: int
    cycles: int
    exploration: float
    num_samples: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.exploration < 1.0:
            raise ValueError(
                f"exploration must be at least 0 and below 1, got {self.exploration!r}."
            )
        for name in ("cycles", "num_samples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
        if self.num_samples % self.cycles:
            raise ValueError(
                f"num_samples ({self.num_samples}) must be a multiple of cycles ({self.cycles})."
            )
        if self.every < 1:
            raise ValueError(
                f"{self.num_steps} steps are too few for {self.num_samples} samples from "
                f"{self.cycles} cycles: train for more epochs, or ask for fewer samples."
            )

    @property
    def cycle_steps(self) -> int:
        return self.num_steps // self.cycles

    @property
    def every(self) -> int:
        """Steps between two samples of a cycle."""
        sampled = self.cycle_steps - math.ceil(self.exploration * self.cycle_steps)
        return sampled // (self.num_samples // self.cycles)

    def factor(self, step: Step) -> Float[Array, ""]:
        """Returns the step size as a fraction of the largest."""
        if self.cycles == 1:
            return jnp.ones((), jnp.float32)
        position = (step % self.cycle_steps).astype(jnp.float32) / self.cycle_steps
        return 0.5 * (jnp.cos(jnp.pi * position) + 1.0)

    def explores(self, step: Step) -> Bool[Array, ""]:
        """Returns whether the step belongs to the exploration of a cyclical chain."""
        if self.cycles == 1:
            return jnp.zeros((), bool)
        return step % self.cycle_steps < math.ceil(self.exploration * self.cycle_steps)

    def index(self, step: Step) -> tuple[Int[Array, ""], Bool[Array, ""]]:
        """Returns the place of the sample after this step in the buffer, and whether to take it."""
        per_cycle = self.num_samples // self.cycles
        cycle, position = step // self.cycle_steps, step % self.cycle_steps
        # Counted from the end of the cycle, where the step size is smallest.
        left = self.cycle_steps - 1 - position
        place = per_cycle - 1 - left // self.every
        take = (left % self.every == 0) & (place >= 0) & (cycle < self.cycles)
        return jnp.clip(cycle * per_cycle + place, 0, self.num_samples - 1), take


def empty(tree: PyTree, num_samples: int) -> PyTree:
    """Returns a buffer for samples of a tree."""
    return jax.tree.map(lambda a: jnp.zeros((num_samples, *jnp.shape(a)), a.dtype), tree)


def put(buffer: PyTree, tree: PyTree, index: Int[Array, ""], take: Bool[Array, ""]) -> PyTree:
    """Returns the buffer with the tree at the index, if it is to be taken."""
    return jax.tree.map(lambda b, a: b.at[index].set(jnp.where(take, a, b[index])), buffer, tree)


def posterior(buffer: tuple[PyTree, PyTree], taken: int | Array, num_samples: int) -> Samples:
    """Returns the samples of a buffer of (params, variables).

    Before the buffer is full, the empty places repeat the samples that there are.
    """
    count = jnp.maximum(taken, 1)
    places = jnp.arange(num_samples) % count
    params, variables = jax.tree.map(lambda b: b[places], buffer)
    return Samples(params, variables)
