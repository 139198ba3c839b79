"""Stochastic gradient Hamiltonian Monte Carlo (SGHMC): SGLD with momentum.

    v <- (1 - a) v - h grad U(w) + sqrt(2 a h T) e,   w <- w + v,   e ~ N(0, 1)

with U(w) = -log p(data | w) - log p(w), its gradient estimated on a minibatch, and friction a. As
the step size h goes to 0 the chain samples the posterior at temperature T = 1. `step_size` is h
times the number of examples, so that it acts like the learning rate of SGD with momentum 1 - a on
the loss per example.

Source: Chen, Fox, Guestrin 2014, "Stochastic Gradient Hamiltonian Monte Carlo", arXiv:1402.4102,
equation 15; cyclical: Zhang et al. 2020, arXiv:1902.03932.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax.gaussian import Leaf
from bnn_jax.infer import sample_buffer
from bnn_jax.infer.hyperparameters import check_counts, check_numbers
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.sgld import normal_like, only_trained
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Samples


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "velocity", "variables", "buffer", "taken"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of SGHMC.

    Attributes:
        step: number of steps taken.
        params: the params tree.
        velocity: the change of the params in the last step.
        variables: the network's other state.
        buffer: (params, variables) of the samples, on a new axis 0.
        taken: number of samples in the buffer.
    """

    step: Leaf
    params: PyTree
    velocity: PyTree
    variables: PyTree
    buffer: PyTree
    taken: Leaf


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGHMC:
    """Hyper-parameters of SGHMC.

    Attributes:
        step_size: the (largest) step size, times the number of examples.
        friction: a, between 0 and 1; the momentum is 1 - friction.
        num_samples: samples to keep.
        cycles: cycles of the step size; 1 keeps it constant.
        exploration: fraction of each cycle before the first sample; the burn-in of one cycle.
        temperature: of the posterior; other values than 1 sample a cold or warm posterior.
    """

    step_size: float = 1e-3
    friction: float = 0.1
    num_samples: int = 30
    cycles: int = 1
    exploration: float = 0.5
    temperature: float = 1.0

    name: ClassVar[str] = "sghmc"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, step_size=self.step_size, temperature=self.temperature)
        check_numbers(self.name, exploration=self.exploration, friction=self.friction)
        check_counts(self.name, num_samples=self.num_samples, cycles=self.cycles)
        if not 0.0 < self.friction <= 1.0:
            raise ValueError(
                f"sghmc: friction must be above 0 and at most 1, got {self.friction!r}."
            )
        sample_buffer.Schedule(self.num_samples * 10**6, *self._schedule)

    @property
    def _schedule(self) -> tuple[int, float, int]:
        return self.cycles, self.exploration, self.num_samples

    def build(self, problem: Problem) -> Inference:
        schedule = sample_buffer.Schedule(problem.num_steps, *self._schedule)

        def init(key: PRNGKey) -> State:
            params, variables = jax.tree.map(jnp.array, (problem.params, problem.model.variables))
            return State(
                step=jnp.zeros((), jnp.int32),
                params=params,
                velocity=jax.tree.map(jnp.zeros_like, params),
                variables=variables,
                buffer=sample_buffer.empty((params, variables), self.num_samples),
                taken=jnp.zeros((), jnp.int32),
            )

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            loss_key, noise_key = jax.random.split(jax.random.fold_in(run_key, state.step))
            gradient = jax.value_and_grad(problem.loss, has_aux=True)
            (loss, (nll, variables, metrics)), grads = gradient(
                state.params, state.variables, loss_key, batch
            )
            size = self.step_size * schedule.factor(state.step)
            variance = 2.0 * self.friction * size * self.temperature / problem.num_data
            std = jnp.where(schedule.explores(state.step), 0.0, jnp.sqrt(variance))
            velocity = jax.tree.map(
                lambda v, g, e: ((1.0 - self.friction) * v - size * g + std * e).astype(v.dtype),
                state.velocity,
                only_trained(grads, problem),
                normal_like(noise_key, grads, problem),
            )
            params = jax.tree.map(jnp.add, state.params, velocity)
            index, take = schedule.index(state.step)
            buffer = sample_buffer.put(state.buffer, (params, variables), index, take)
            taken = state.taken + take.astype(jnp.int32)
            new = State(state.step + 1, params, velocity, variables, buffer, taken)
            return new, Info(loss, nll, metrics)

        def posterior(state: State) -> Samples:
            return sample_buffer.posterior(state.buffer, state.taken, self.num_samples)

        return Inference(init, step, posterior)
