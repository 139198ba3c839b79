"""Training: a state, `init`, and a pure `step` from state to state.

    state = init(posterior, optimizer)
    step = jax.jit(
        build_step(forward, loss_fn, optimizer, prior, num_data=60_000), donate_argnums=0
    )
    state, info = step(state, run_key, (images, labels))

The noise of a step comes from fold_in(run_key, state.step), so a run that was interrupted and
resumed draws what the run that never stopped would have drawn.

Source: Blundell et al. 2015, arXiv:1505.05424, section 3.2 and equation 8.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, objective, priors
from bnn_jax.noise import PRNGKey
from bnn_jax.priors import Prior


@runtime_checkable
class Forward(Protocol):
    """The network: (key, posterior, variables, inputs) -> (outputs, new variables)."""

    def __call__(
        self, key: Any, posterior: Any, variables: Any, inputs: Any, *, antithetic: bool
    ) -> tuple[Any, Any]:
        """Draw the noise from key; with antithetic, negate it."""
        ...


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "posterior", "opt_state", "variables", "average"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """All that training carries from step to step.

    Attributes:
        step: number of steps taken.
        posterior: params tree with Gaussian leaves, in float32 (or float64).
        opt_state: the optimizer's.
        variables: the network's other state, such as batch statistics; may be None.
        average: exponential moving average of the posterior, or None.
    """

    step: Any
    posterior: Any
    opt_state: Any
    variables: Any
    average: Any


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "loss",
        "nll",
        "kl",
        "dnn_factor",
        "bnn_factor",
        "kl_by_layer",
        "metrics",
    ),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class StepInfo:
    """What a step saw, before its update.

    Attributes:
        loss: dnn_factor * nll + bnn_factor * kl.
        nll: the data loss, the mean over batch and Monte Carlo samples.
        kl: KL(posterior || prior) in nats, summed over all random weights.
        dnn_factor, bnn_factor: the factors of this step, the schedule included.
        kl_by_layer: {layer: its share of kl}.
        metrics: what metric_fn returned, the mean over the Monte Carlo samples.
    """

    loss: Any
    nll: Any
    kl: Any
    dnn_factor: Any
    bnn_factor: Any
    kl_by_layer: Any
    metrics: Any


def init(
    posterior: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    variables: PyTree = None,
    average: bool = False,
) -> State:
    """The state before the first step. With `average`, it carries an average of the posterior.

    The arrays are copied, so that a step which donates its state leaves the given ones alone.

    Raises:
        ValueError: a leaf of the posterior that is not floating point, which has no gradient.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(posterior):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            raise ValueError(
                f"{gaussian.path_name(path)!r} is {jnp.result_type(leaf)}, and only floating-point "
                "params can be trained: let the function close over it, or pass it as an input."
            )
    posterior, variables = jax.tree.map(jnp.array, (posterior, variables))
    return State(
        step=jnp.zeros((), jnp.int32),
        posterior=posterior,
        # Some optimizers use one array of zeros twice, which cannot be donated twice.
        opt_state=jax.tree.map(jnp.array, optimizer.init(posterior)),
        variables=variables,
        average=jax.tree.map(jnp.array, posterior) if average else None,
    )


def build_step(
    forward: Forward,
    loss_fn: Callable[[Any, Any], Float[Array, ""]],
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
    metric_fn: Callable[[Any, Any], Mapping[str, Array]] | None = None,
) -> Callable[[State, PRNGKey, tuple[Any, Any]], tuple[State, StepInfo]]:
    """A pure function (state, run_key, (inputs, labels)) -> (state, info), to be jitted.

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
        kl_every: compute the value of the KL in every so many steps only, which saves time. Its
            gradient acts in all; in the others `kl`, `kl_by_layer` and `loss` are nan.
        average_decay: decay a step of the posterior's moving average, where the state has one. It
            starts at the initial posterior, so training should last many times 1 / (1 - decay).
        metric_fn: (outputs, labels) -> {name: scalar}, reported in info.metrics.

    Raises:
        ValueError, TypeError: num_data together with factors, or neither; values out of range.
    """
    dnn, bnn = _factors(num_data, dnn_factor, bnn_factor)
    schedule = kl_schedule or objective.constant()
    if num_samples < 1 or (antithetic and num_samples % 2):
        raise ValueError(
            f"num_samples has to be >= 1, and even with antithetic pairs; got {num_samples}."
        )
    if isinstance(kl_every, bool) or not isinstance(kl_every, int) or kl_every < 1:
        raise ValueError(f"kl_every has to be a whole number of steps >= 1, got {kl_every!r}.")
    if not 0.0 <= average_decay < 1.0:
        raise ValueError(f"average_decay needs 0 <= average_decay < 1, got {average_decay!r}.")

    def divergences(posterior: PyTree, key: PRNGKey) -> dict[str, Array]:
        return priors.kl_by_layer(posterior, prior, key=key, reverse=reverse_kl)

    def loss(
        posterior: PyTree, variables: PyTree, key: PRNGKey, weight: Array, batch: tuple[Any, Any]
    ) -> tuple[Array, tuple[StepInfo, PyTree]]:
        inputs, labels = batch
        keys = _sample_keys(key, num_samples, antithetic)
        runs: list[tuple[Any, PyTree]] = []
        state = variables
        for i, k in enumerate(keys):
            twin = antithetic and i % 2 == 1
            runs.append(forward(k, posterior, state, inputs, antithetic=twin))
            if i + 1 < num_samples and (twin or not antithetic):
                state = _gone_on(variables, runs[-1][1])
        losses = [loss_fn(outputs, labels) for outputs, _ in runs]
        nll = sum(losses[1:], losses[0]) / num_samples
        # The forward pass has used these keys: a Monte Carlo KL sees the same weights.
        layers = divergences(posterior, jax.random.clone(keys[0]))
        kl = _sum(layers)
        total = objective.bnn_loss(nll, kl, dnn_factor=dnn, bnn_factor=weight.astype(kl.dtype))
        metrics = [metric_fn(outputs, labels) for outputs, _ in runs] if metric_fn else [{}]
        info = StepInfo(
            loss=total,
            nll=nll,
            kl=kl,
            dnn_factor=jnp.asarray(dnn, jnp.float32),
            bnn_factor=weight,
            kl_by_layer=layers,
            metrics=_tree_mean(metrics),
        )
        return total, (info, _gone_on(_tree_mean([new for _, new in runs]), runs[-1][1]))

    def now_and_then(info: StepInfo, step: Array, posterior: PyTree, key: PRNGKey) -> StepInfo:
        """The info with the KL's value in some steps; what it was before is not computed."""
        first = jax.random.clone(_sample_keys(key, num_samples, antithetic)[0])
        layers = lax.cond(
            step % kl_every == 0,
            lambda: divergences(posterior, first),
            lambda: {
                name: jnp.full_like(value, jnp.nan) for name, value in info.kl_by_layer.items()
            },
        )
        kl = _sum(layers)
        factor = info.bnn_factor.astype(kl.dtype)
        total = objective.bnn_loss(info.nll, kl, dnn_factor=dnn, bnn_factor=factor)
        return dataclasses.replace(info, loss=total, kl=kl, kl_by_layer=layers)

    def step(state: State, run_key: PRNGKey, batch: tuple[Any, Any]) -> tuple[State, StepInfo]:
        key = jax.random.fold_in(run_key, state.step)
        weight = jnp.asarray(bnn * schedule(state.step), jnp.float32)
        grads, (info, variables) = jax.grad(loss, has_aux=True)(
            state.posterior, state.variables, key, weight, batch
        )
        if kl_every > 1:
            info = now_and_then(info, state.step, state.posterior, jax.random.clone(key))
        grads = _after(info.kl, grads)
        # The optimizer is others' code, which need not keep to a strict dtype promotion.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, state.opt_state, state.posterior)
            posterior = optax.apply_updates(state.posterior, updates)
        average = state.average
        if average is not None:
            average = optax.incremental_update(posterior, average, 1.0 - average_decay)
        return State(state.step + 1, posterior, opt_state, variables, average), info

    return step


def _after(value: Float[Array, ""], grads: PyTree) -> PyTree:
    """The gradients, divided by a one that XLA cannot know before it has the value.

    The value is computed from the posterior. Were nothing in the update to wait for it, XLA would
    copy the whole posterior before it writes the new one in its place. And the result of a division
    is stored, by XLA on CPU: an optimizer uses each gradient more than once, and of a longer
    expression XLA would store the parts and compute the rest again for each use.
    """
    one = 1.0 + jnp.where(jnp.isfinite(value), 0.0 * value, 0.0)
    return jax.tree.map(lambda g: g / one.astype(g.dtype), grads)


def _factors(
    num_data: int | None, dnn_factor: float | None, bnn_factor: float | None
) -> tuple[float, float]:
    if num_data is not None:
        if dnn_factor is not None or bnn_factor is not None:
            raise ValueError(
                "num_data computes both factors: give num_data, or dnn_factor and bnn_factor; got "
                f"num_data={num_data}, dnn_factor={dnn_factor}, bnn_factor={bnn_factor}."
            )
        return objective.elbo_factors(num_data)
    if dnn_factor is None or bnn_factor is None:
        raise ValueError(
            "The loss needs its weights: give num_data, the number of training examples, for the "
            f"ELBO, or both factors; got dnn_factor={dnn_factor}, bnn_factor={bnn_factor}."
        )
    return (
        objective.check_factor("dnn_factor", dnn_factor),
        objective.check_factor("bnn_factor", bnn_factor),
    )


def _sample_keys(key: PRNGKey, num_samples: int, antithetic: bool) -> list[PRNGKey]:
    """One key per sample; the two of an antithetic pair share theirs."""
    if not antithetic:
        return list(jax.random.split(key, num_samples))
    pairs = list(jax.random.split(key, num_samples // 2))
    return [jax.random.clone(pair) for pair in pairs for _ in range(2)]


def _sum(layers: Mapping[str, Array]) -> Float[Array, ""]:
    values = list(layers.values()) or [jnp.zeros((), jnp.float32)]
    return sum(values[1:], start=values[0])


def _gone_on(variables: PyTree, after: PyTree) -> PyTree:
    """The variables with the counters of a later call, and what else is no float.

    The streams of an NNX network go on from weight sample to weight sample, or all would see the
    same dropout masks; an antithetic pair does. Its averages start from the same for each.
    """

    def choose(old: Any, new: Any) -> Any:
        return old if jnp.issubdtype(jnp.result_type(old), jnp.floating) else new

    return jax.tree.map(choose, variables, after)


def _tree_mean(trees: list[Any]) -> Any:
    """The mean over trees of one structure; leaves that are not floats come from the first."""

    def mean(first: Any, *rest: Any) -> Any:
        if not rest or not jnp.issubdtype(jnp.result_type(first), jnp.floating):
            return first
        return sum(rest, start=first) / (1 + len(rest))

    return jax.tree.map(mean, *trees)
