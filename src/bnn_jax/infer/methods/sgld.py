"""Stochastic gradient Langevin dynamics (SGLD): gradient descent with noise that samples.

    w <- w - h grad U(w) + sqrt(2 h T) e,   e ~ N(0, 1),   U(w) = -log p(data | w) - log p(w)

with the gradient estimated on a minibatch. As the step size h goes to 0 the chain samples the
posterior at temperature T = 1. `step_size` is h times the number of examples, so that it acts like
the learning rate of SGD on the loss per example.

Source: Welling, Teh 2011, "Bayesian Learning via Stochastic Gradient Langevin Dynamics"; cyclical:
Zhang et al. 2020, arXiv:1902.03932.
"""

import dataclasses
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from bnn_jax import noise
from bnn_jax.gaussian import Leaf
from bnn_jax.infer import sample_buffer
from bnn_jax.infer.hyperparameters import check_counts, check_numbers
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import Samples


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "params", "variables", "buffer", "taken"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of SGLD.

    Attributes:
        step: number of steps taken.
        params: the params tree.
        variables: the network's other state.
        buffer: (params, variables) of the samples, on a new axis 0.
        taken: number of samples in the buffer.
    """

    step: Leaf
    params: PyTree
    variables: PyTree
    buffer: PyTree
    taken: Leaf


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGLD:
    """Hyper-parameters of SGLD.

    Attributes:
        step_size: the (largest) step size, times the number of examples.
        num_samples: samples to keep.
        cycles: cycles of the step size; 1 keeps it constant.
        exploration: fraction of each cycle before the first sample; the burn-in of one cycle.
        temperature: of the posterior; other values than 1 sample a cold or warm posterior.
    """

    step_size: float = 1e-3
    num_samples: int = 30
    cycles: int = 1
    exploration: float = 0.5
    temperature: float = 1.0

    name: ClassVar[str] = "sgld"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, step_size=self.step_size, temperature=self.temperature)
        check_numbers(self.name, exploration=self.exploration)
        check_counts(self.name, num_samples=self.num_samples, cycles=self.cycles)
        sample_buffer.Schedule(self.num_samples * 10**6, *self._schedule)

    @property
    def _schedule(self) -> tuple[int, float, int]:
        return self.cycles, self.exploration, self.num_samples

    def build(self, problem: Problem) -> Inference:
        schedule = sample_buffer.Schedule(problem.num_steps, *self._schedule)

        def init(key: PRNGKey) -> State:
            params, variables = jax.tree.map(jnp.array, (problem.params, problem.model.variables))
            buffer = sample_buffer.empty((params, variables), self.num_samples)
            zero = jnp.zeros((), jnp.int32)
            return State(zero, params, variables, buffer, jnp.zeros((), jnp.int32))

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            loss_key, noise_key = jax.random.split(jax.random.fold_in(run_key, state.step))
            gradient = jax.value_and_grad(problem.loss, has_aux=True)
            (loss, (nll, variables, metrics)), grads = gradient(
                state.params, state.variables, loss_key, batch
            )
            size = self.step_size * schedule.factor(state.step)
            variance = 2.0 * size * self.temperature / problem.num_data
            std = jnp.where(schedule.explores(state.step), 0.0, jnp.sqrt(variance))
            draws = normal_like(noise_key, grads, problem)
            params = jax.tree.map(
                lambda w, g, e: w - (size * g + std * e).astype(w.dtype),
                state.params,
                only_trained(grads, problem),
                draws,
            )
            index, take = schedule.index(state.step)
            buffer = sample_buffer.put(state.buffer, (params, variables), index, take)
            taken = state.taken + take.astype(jnp.int32)
            return State(state.step + 1, params, variables, buffer, taken), Info(loss, nll, metrics)

        def posterior(state: State) -> Samples:
            return sample_buffer.posterior(state.buffer, state.taken, self.num_samples)

        return Inference(init, step, posterior)


def normal_like(key: PRNGKey, tree: PyTree, problem: Problem) -> PyTree:
    """Returns standard normal noise for the random leaves of a params tree, zeros for others."""
    leaves, structure = jax.tree.flatten(tree)
    random = jax.tree.leaves(problem.is_random)
    keys = jax.random.split(key, len(leaves))
    draws = [
        noise.normal(k, leaf.shape, leaf.dtype) if chosen else jnp.zeros_like(leaf)
        for k, leaf, chosen in zip(keys, leaves, random, strict=True)
    ]
    return jax.tree.unflatten(structure, draws)


def only_trained(grads: PyTree, problem: Problem) -> PyTree:
    """Returns the gradients, with zeros at leaves that are not trained."""
    if problem.train_rest:
        return grads
    return jax.tree.map(
        lambda g, random: g if random else jnp.zeros_like(g), grads, problem.is_random
    )
