"""SWAG: a Gaussian fitted to the iterates of stochastic gradient descent.

    mean = average of w_i,   variance = average of (w_i - mean)^2,   D = the last deviations
    q(w) = N(mean, diag(variance) / 2 + D^T D / (2 (rank - 1)))

After a first phase that finds a mode, the learning rate stays high enough for the iterates to
explore the posterior around it, and w_i is collected every so many steps. Row i of D is w_i minus
the average of the first i iterates. Batch statistics belong to the mean: `finish` computes them
again. An ensemble of this method is MultiSWAG (Wilson and Izmailov 2020, arXiv:2002.08791).

Source: Maddox, Garipov, Izmailov, Vetrov, Wilson 2019, "A Simple Baseline for Bayesian Uncertainty
in Deep Learning", arXiv:1902.02476, section 3 and algorithm 1; the cyclical learning rate is that
of Izmailov et al. 2018, arXiv:1803.05407.
"""

import dataclasses
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax.gaussian import Leaf
from bnn_jax.infer.current_variables import current_variables
from bnn_jax.infer.hyperparameters import check_counts, check_numbers, check_optimizer
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.map import apply
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import LowRank


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("count", "mean", "squares", "deviations"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class Moments:
    """Running moments of the collected iterates.

    Attributes:
        count: number of collected iterates.
        mean: their average.
        squares: the sum of squared differences from the average; None where not random.
        deviations: the last `rank` differences from the running average, on axis 0; None likewise.
    """

    count: Leaf
    mean: PyTree
    squares: PyTree
    deviations: PyTree


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "opt_state", "variables", "moments"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of SWAG.

    Attributes:
        step: number of steps taken.
        params: the present iterate.
        opt_state: the optimizer's.
        variables: the network's other state, such as batch statistics.
        moments: of the iterates collected so far.
    """

    step: Leaf
    params: PyTree
    opt_state: PyTree
    variables: PyTree
    moments: Moments


@dataclasses.dataclass(frozen=True, kw_only=True)
class SWAG:
    """Hyper-parameters of SWAG.

    Attributes:
        learning_rate: of Adam at the first step; decays by a cosine to `swag_learning_rate`.
        swag_learning_rate: of Adam after `start`; half of learning_rate by default.
        cyclical: let the learning rate fall from swag_learning_rate to a hundredth of it between
            two collected iterates, instead of keeping it constant.
        optimizer: any optax transformation, in place of Adam and its schedule.
        start: fraction of the steps before the first iterate is collected.
        every: number of steps between two collected iterates; by default so many that `rank` are
            collected.
        rank: number of deviations kept, the memory of that many networks.
    """

    learning_rate: float = 1e-3
    swag_learning_rate: float | None = None
    cyclical: bool = False
    optimizer: optax.GradientTransformation | None = None
    start: float = 0.75
    every: int | None = None
    rank: int = 20

    name: ClassVar[str] = "swag"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, learning_rate=self.learning_rate)
        if self.swag_learning_rate is not None:
            check_positive(self.name, swag_learning_rate=self.swag_learning_rate)
        check_numbers(self.name, start=self.start)
        check_optimizer(self.name, self.optimizer)
        check_counts(self.name, least=2, rank=self.rank)
        if self.every is not None:
            check_counts(self.name, every=self.every)
        if not 0.0 <= self.start < 1.0:
            raise ValueError(f"swag: start must be a fraction in [0, 1), got {self.start!r}.")

    def build(self, problem: Problem) -> Inference:
        first = int(self.start * problem.num_steps)
        every = self.every or max(1, (problem.num_steps - first) // self.rank)
        if (problem.num_steps - first) // every < 2:
            raise ValueError(
                f"swag: {problem.num_steps} steps with start={self.start} and every={every} give "
                "fewer than 2 iterates to collect: take more steps, or decrease start or every."
            )
        optimizer = problem.masked(self.optimizer or optax.adam(_schedule(self, first, every)))
        is_random = problem.is_random

        def init(key: PRNGKey) -> State:
            params, variables = jax.tree.map(jnp.array, (problem.params, problem.model.variables))
            opt_state = jax.tree.map(jnp.array, optimizer.init(params))
            moments = _no_moments(params, is_random, self.rank)
            return State(jnp.zeros((), jnp.int32), params, opt_state, variables, moments)

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            key = jax.random.fold_in(run_key, state.step)
            gradient = jax.value_and_grad(problem.loss, has_aux=True)
            (loss, (nll, variables, metrics)), grads = gradient(
                state.params, state.variables, key, batch
            )
            params, opt_state = apply(optimizer, grads, state.opt_state, state.params)
            done = state.step + 1
            collected = (done > first) & ((done - first) % every == 0)
            moments = lax.cond(
                collected, _collect, lambda moments, params: moments, state.moments, params
            )
            return State(done, params, opt_state, variables, moments), Info(loss, nll, metrics)

        def finish(state: State, batches: Callable[[], Iterable[Batch]]) -> State:
            mean = _mean(state)
            variables = current_variables(problem, mean, state.variables, batches())
            return dataclasses.replace(state, variables=variables)

        return Inference(init, step, _posterior, finish)


def _posterior(state: State) -> LowRank:
    moments = state.moments
    count = moments.count.astype(jnp.float32)

    def half_variance(squares: Array) -> Array:
        return squares / (2.0 * jnp.maximum(count, 1.0)).astype(squares.dtype)

    def half_deviations(rows: Array) -> Array:
        used = jnp.minimum(count, float(len(rows)))
        return rows / jnp.sqrt(2.0 * jnp.maximum(used - 1.0, 1.0)).astype(rows.dtype)

    variance = jax.tree.map(half_variance, moments.squares)
    deviations = jax.tree.map(half_deviations, moments.deviations)
    return LowRank(_mean(state), variance, deviations, state.variables)


def _mean(state: State) -> PyTree:
    """Returns the average of the iterates; the present iterate before any is collected."""
    none = state.moments.count == 0
    return jax.tree.map(
        lambda mean, now: jnp.where(none, now, mean.astype(now.dtype)),
        state.moments.mean,
        state.params,
    )


def _no_moments(params: PyTree, is_random: PyTree, rank: int) -> Moments:
    def zeros(leaf: Array, *leading: int) -> Array:
        return jnp.zeros((*leading, *leaf.shape), jnp.promote_types(leaf.dtype, jnp.float32))

    return Moments(
        count=jnp.zeros((), jnp.int32),
        mean=jax.tree.map(zeros, params),
        squares=jax.tree.map(lambda r, w: zeros(w) if r else None, is_random, params),
        deviations=jax.tree.map(lambda r, w: zeros(w, rank) if r else None, is_random, params),
    )


def _collect(moments: Moments, params: PyTree) -> Moments:
    """Adds an iterate by Welford's recursion, which does not cancel as E[w^2] - E[w]^2 does."""
    count = moments.count + 1
    before = jax.tree.map(lambda w, m: w.astype(m.dtype) - m, params, moments.mean)
    mean = jax.tree.map(lambda m, d: m + d / count.astype(m.dtype), moments.mean, before)
    after = jax.tree.map(lambda w, m: w.astype(m.dtype) - m, params, mean)

    def squares(a: Array, b: Array, total: Array | None) -> Array | None:
        return None if total is None else total + a * b

    def deviations(a: Array, rows: Array | None) -> Array | None:
        return None if rows is None else rows.at[moments.count % len(rows)].set(a)

    return Moments(
        count=count,
        mean=mean,
        squares=jax.tree.map(squares, before, after, moments.squares),
        deviations=jax.tree.map(deviations, after, moments.deviations),
    )


def _schedule(method: SWAG, first: int, every: int) -> Callable[[Array], Float[Array, ""]]:
    """The learning rate at each step."""
    high = method.learning_rate
    low = 0.5 * high if method.swag_learning_rate is None else method.swag_learning_rate

    def rate(step: Array) -> Float[Array, ""]:
        progress = jnp.minimum(jnp.asarray(step, jnp.float32) / max(first, 1), 1.0)
        decayed = low + 0.5 * (high - low) * (1.0 + jnp.cos(jnp.pi * progress))
        position = ((step - first) % every) / max(every - 1, 1)
        cycle = low * (1.0 - 0.99 * jnp.asarray(position, jnp.float32))
        return jnp.where(step < first, decayed, cycle if method.cyclical else low)

    return rate
