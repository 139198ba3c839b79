"""Hamiltonian Monte Carlo: the gold standard for small networks, by blackjax.

    (w, p) follows Hamilton's equations of H = -log p(w | data) + p M^-1 p / 2, with p ~ N(0, M)

`HMC` integrates them for a fixed number of leapfrog steps, `NUTS` until the path turns back. A step
of the method is one transition of every chain on the whole data set. In the first `warmup` steps
the leapfrog step size and the diagonal of M are adapted on Stan's schedule; the rest are samples.
Weights that are not random stay where they are.

Sources: Neal 2011, "MCMC using Hamiltonian dynamics"; Hoffman, Gelman 2014, "The No-U-Turn
Sampler", arXiv:1111.4246; Izmailov et al. 2021, arXiv:2104.14421 (Bayesian networks); Cabezas et
al. 2024, "BlackJAX", arXiv:2402.10797.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian
from bnn_jax._extras import optional_import
from bnn_jax.gaussian import Leaf
from bnn_jax.infer.diagnostics import effective_sample_size, r_hat
from bnn_jax.infer.hyperparameters import check_counts, check_numbers
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.infer.warm_up import WarmUp, Weights, strong
from bnn_jax.noise import PRNGKey, normal
from bnn_jax.posteriors import Samples


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("step", "chains", "adaptation", "samples", "log_densities", "divergences"),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class State:
    """The state of HMC and NUTS.

    Attributes:
        step: number of steps taken.
        chains: the random weights of each chain, on a new axis 0 of each array.
        adaptation: of each chain: step size, inverse mass matrix, and what adapts them.
        samples: the random weights after each step that follows the warm-up, on two new axes:
            chains and samples.
        log_densities: the log density of each sample, (chains, samples), in nats.
        divergences: number of transitions after the warm-up that diverged.
    """

    step: Leaf
    chains: PyTree
    adaptation: PyTree
    samples: PyTree
    log_densities: Leaf
    divergences: Leaf


@dataclasses.dataclass(frozen=True, kw_only=True)
class NUTS:
    """Hyper-parameters of NUTS.

    Attributes:
        warmup: steps of adaptation, before the samples; the epochs of `fit` are all steps.
        chains: number of chains.
        target_acceptance: the acceptance rate that the step size is adapted to.
        max_doublings: a path has at most 2^max_doublings leapfrog steps.
        jitter: standard deviation of the chains' starts around the initial params, as a fraction
            of the standard deviation over each array, or of the initial posterior's if larger.
    """

    warmup: int = 500
    chains: int = 2
    target_acceptance: float = 0.8
    max_doublings: int = 8
    jitter: float = 0.5

    name: ClassVar[str] = "nuts"
    whole_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        check_counts(self.name, max_doublings=self.max_doublings)

    def transition(self, blackjax: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Returns (init, kernel) with kernel(key, state, logdensity, step size, inverse mass)."""
        kernel = blackjax.nuts.build_kernel()
        return blackjax.nuts.init, partial(kernel, max_num_doublings=self.max_doublings)

    def build(self, problem: Problem) -> Inference:
        return _build(self, problem)


@dataclasses.dataclass(frozen=True, kw_only=True)
class HMC:
    """Hyper-parameters of HMC with a fixed number of leapfrog steps.

    Attributes:
        warmup, chains, target_acceptance, jitter: those of `NUTS`.
        leapfrogs: leapfrog steps of a transition.
    """

    warmup: int = 500
    chains: int = 2
    target_acceptance: float = 0.8
    leapfrogs: int = 50
    jitter: float = 0.5

    name: ClassVar[str] = "hmc"
    whole_data: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check(self)
        check_counts(self.name, leapfrogs=self.leapfrogs)

    def transition(self, blackjax: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Returns (init, kernel) with kernel(key, state, logdensity, step size, inverse mass)."""
        kernel = blackjax.hmc.build_kernel()
        return blackjax.hmc.init, partial(kernel, num_integration_steps=self.leapfrogs)

    def build(self, problem: Problem) -> Inference:
        return _build(self, problem)


def _check(method: NUTS | HMC) -> None:
    check_positive(method.name, target_acceptance=method.target_acceptance)
    if method.target_acceptance >= 1.0:
        raise ValueError(
            f"{method.name}: target_acceptance must be below 1, got {method.target_acceptance}."
        )
    check_counts(method.name, least=20, warmup=method.warmup)
    check_counts(method.name, chains=method.chains)
    check_numbers(method.name, jitter=method.jitter)
    if not 0.0 <= method.jitter < float("inf"):
        raise ValueError(f"{method.name}: jitter must be at least 0, got {method.jitter}.")


def _build(method: NUTS | HMC, problem: Problem) -> Inference:
    with optional_import("infer.nuts and infer.hmc"):
        import blackjax
    num_samples = problem.num_steps - method.warmup
    if num_samples < 4:
        raise ValueError(
            f"{method.name}: {problem.num_steps} steps leave {num_samples} samples after a warm-up "
            f"of {method.warmup}: ask for more steps (epochs of fit)."
        )
    start_chain, kernel = method.transition(blackjax)
    adaptation = WarmUp(method.warmup, method.target_acceptance)

    def init(key: PRNGKey) -> State:
        chains = _starts(problem, key, method)
        with jax.numpy_dtype_promotion("standard"):
            adapted = strong(jax.vmap(adaptation.init)(chains))
        count = method.chains, num_samples
        samples = [jnp.zeros((*count, *w.shape[1:]), w.dtype) for w in chains]
        zero = jnp.zeros((), jnp.int32)
        return State(
            zero, chains, adapted, samples, jnp.zeros(count, jnp.float32), jnp.zeros_like(zero)
        )

    def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
        log_density = partial(_log_density, problem, batch)
        keys = jax.random.split(jax.random.fold_in(run_key, state.step), method.chains)

        def transition(chain: tuple[PRNGKey, Weights, PyTree]) -> tuple[PyTree, ...]:
            key, weights, adapted = chain
            before = start_chain(weights, log_density)
            after, info = kernel(key, before, log_density, *adaptation.values(adapted))
            adapted = adaptation.update(adapted, state.step, after.position, info.acceptance_rate)
            numbers = (after.logdensity, info.is_divergent, info.acceptance_rate)
            return after.position, adapted, numbers

        over_chains = jax.lax.map if jax.default_backend() == "cpu" else _vmapped
        # blackjax does not keep to a strict dtype promotion.
        with jax.numpy_dtype_promotion("standard"):
            chains, adapted, numbers = over_chains(
                transition, (keys, state.chains, state.adaptation)
            )
        densities, divergent, acceptance = numbers
        new = _with_samples(method, state, chains, densities, divergent)
        new = dataclasses.replace(new, step=state.step + 1, adaptation=strong(adapted))
        loss = -jnp.mean(densities) / problem.num_data
        return new, Info(loss, loss, {"acceptance": jnp.mean(acceptance)})

    return Inference(
        init,
        step,
        partial(_posterior, method, problem),
        diagnostics=partial(_diagnostics, method),
    )


def _with_samples(
    method: NUTS | HMC, state: State, chains: Weights, densities: Array, divergent: Array
) -> State:
    """Returns the state after a transition, with its sample if the warm-up is over."""
    place = jnp.maximum(state.step - method.warmup, 0)
    sampling = state.step >= method.warmup
    samples = [
        s.at[:, place].set(jnp.where(sampling, w, s[:, place]))
        for s, w in zip(state.samples, chains, strict=True)
    ]
    kept = jnp.where(sampling, densities, state.log_densities[:, place])
    return dataclasses.replace(
        state,
        chains=chains,
        samples=samples,
        log_densities=state.log_densities.at[:, place].set(kept),
        divergences=state.divergences + jnp.sum(divergent & sampling).astype(jnp.int32),
    )


def _posterior(method: NUTS | HMC, problem: Problem, state: State) -> Samples:
    num_samples = state.log_densities.shape[1]
    taken = jnp.maximum(state.step - method.warmup, 0)
    # Before the buffer is full, the empty places repeat the samples that there are.
    places = jnp.arange(num_samples) % jnp.maximum(taken, 1)
    filled = [
        jnp.where(taken > 0, s[:, places], w[:, None])
        for s, w in zip(state.samples, state.chains, strict=True)
    ]
    flat = [s.reshape(-1, *s.shape[2:]) for s in filled]
    count = method.chains * num_samples
    return Samples(_with_weights(problem, flat, lambda w: jnp.broadcast_to(w, (count, *w.shape))))


def _diagnostics(method: NUTS | HMC, state: State) -> dict[str, float]:
    densities = state.log_densities[:, : max(int(state.step) - method.warmup, 2)]
    return {
        "r_hat": float(r_hat(densities)),
        "effective_sample_size": effective_sample_size(densities),
        "divergences": int(state.divergences),
    }


def _vmapped(fn: Callable[..., PyTree], chains: PyTree) -> PyTree:
    return jax.vmap(fn)(chains)


def _with_weights(
    problem: Problem, weights: Weights, rest: Callable[[Array], Array] = lambda w: w
) -> PyTree:
    """Returns the params with these random weights; `rest` is applied to the others."""
    leaves, structure = jax.tree.flatten(problem.params)
    chosen = jax.tree.leaves(problem.is_random)
    random = iter(weights)
    merged = [next(random) if c else rest(leaf) for leaf, c in zip(leaves, chosen, strict=True)]
    return jax.tree.unflatten(structure, merged)


def _starts(problem: Problem, key: PRNGKey, method: NUTS | HMC) -> Weights:
    """Returns the first weights of each chain, around the initial params."""
    leaves = list(gaussian.random_leaves(problem.model.posterior).values())
    starts = []
    for q, leaf_key in zip(leaves, jax.random.split(key, len(leaves)), strict=True):
        scale = method.jitter * jnp.maximum(jnp.std(q.mean), jnp.mean(q.std))
        draws = normal(leaf_key, (method.chains, *q.shape), q.dtype)
        starts.append(q.mean[None] + scale.astype(q.dtype) * draws)
    return starts


def _log_density(problem: Problem, batch: Batch, weights: Weights) -> Float[Array, ""]:
    """Returns log p(data, weights) in nats, for the network in its initial state."""
    # The network has no noise of its own here, so the key is not used.
    key = jax.random.key(0)
    params = _with_weights(problem, weights)
    loss, _ = problem.loss(params, problem.model.variables, key, batch)
    return -problem.num_data * loss
