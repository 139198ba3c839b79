"""A training step: loss, gradient and update."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from bnn_jax import objective
from bnn_jax._compiler import wait_for
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import Prior
from bnn_jax.train.loss import Batch, Forward, LossFn, MetricFn, VariationalLoss
from bnn_jax.train.state import State
from bnn_jax.train.step_info import StepInfo


def build_step(
    forward: Forward,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    prior: Prior | PyTree,
    *,
    num_data: int | None = None,
    dnn_factor: float | None = None,
    bnn_factor: float | None = None,
    kl_schedule: objective.Schedule | None = None,
    num_samples: int = 1,
    antithetic: bool = False,
    reverse_kl: bool = False,
    kl_every: int = 1,
    average_decay: float = 0.999,
    metric_fn: MetricFn | None = None,
    accumulate_steps: int = 1,
) -> Callable[[State, PRNGKey, Batch], tuple[State, StepInfo[Array]]]:
    """Returns a pure function (state, run_key, (inputs, labels)) -> (state, info), to be jitted.

    Args:
        forward: the network, see `Forward`.
        loss_fn: (outputs, labels) -> the mean data loss of the batch, a scalar.
        optimizer: any optax transformation.
        prior: one prior, or a tree of them.
        num_data: number of training examples; makes the loss the negative ELBO per example.
        dnn_factor, bnn_factor: instead of num_data, MindSpore's two factors.
        kl_schedule: function of the step that multiplies bnn_factor.
        num_samples: Monte Carlo samples of the weights a step; cost grows in proportion.
        antithetic: draw them in pairs with opposite noise; num_samples must be even.
        reverse_kl: KL(prior || posterior), as MindSpore computes it.
        kl_every: compute the value of the KL only every so many steps, which saves time. Its
            gradient acts in every step; where it has no value `kl`, `kl_by_layer` and `loss` are
            nan.
        average_decay: decay a step of the posterior's moving average, where the state has one. It
            starts at the initial posterior, so training should last many times 1 / (1 - decay).
        metric_fn: (outputs, labels) -> {name: scalar}, reported in info.metrics.
        accumulate_steps: parts of a batch that are computed one at a time, see `accumulation`.

    Raises:
        ValueError, TypeError: both num_data and factors, or neither; values out of range.
    """
    dnn, bnn = objective.factors(num_data, dnn_factor, bnn_factor)
    schedule = kl_schedule or objective.constant()
    _check(num_samples, antithetic, kl_every, average_decay)
    loss = VariationalLoss(
        forward,
        loss_fn,
        metric_fn,
        prior,
        dnn,
        num_samples,
        antithetic,
        reverse_kl,
        accumulate_steps,
    )

    def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, StepInfo[Array]]:
        key = jax.random.fold_in(run_key, state.step)
        factor = jnp.asarray(bnn * schedule(state.step), jnp.float32)
        grads, (info, variables) = jax.grad(loss, has_aux=True)(
            state.posterior, state.variables, key, factor, batch
        )
        if kl_every > 1:
            valued = state.step % kl_every == 0
            info = loss.kl_only_if(valued, info, state.posterior, jax.random.clone(key))
        grads = wait_for(info.kl, grads)
        return _updated(state, grads, variables, optimizer, average_decay), info

    return step


def _updated(
    state: State,
    grads: PyTree,
    variables: PyTree,
    optimizer: optax.GradientTransformation,
    average_decay: float,
) -> State:
    """Returns the state after the optimizer's update."""
    # Optimizers come from other libraries, which need not support strict dtype promotion.
    with jax.numpy_dtype_promotion("standard"):
        updates, opt_state = optimizer.update(grads, state.opt_state, state.posterior)
        posterior = optax.apply_updates(state.posterior, updates)
    average = state.average
    if average is not None:
        average = optax.incremental_update(posterior, average, 1.0 - average_decay)
    return State(state.step + 1, posterior, opt_state, variables, average)


def _check(num_samples: int, antithetic: bool, kl_every: int, average_decay: float) -> None:
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}.")
    if antithetic and num_samples % 2:
        raise ValueError(f"num_samples must be even with antithetic pairs, got {num_samples}.")
    if isinstance(kl_every, bool) or not isinstance(kl_every, int) or kl_every < 1:
        raise ValueError(f"kl_every must be an integer of at least 1, got {kl_every!r}.")
    if not 0.0 <= average_decay < 1.0:
        raise ValueError(f"average_decay must be at least 0 and below 1, got {average_decay!r}.")
