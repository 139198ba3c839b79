"""IVON: variational inference with independent Gaussians, by a natural-gradient method.

    sigma = 1 / sqrt(ess (h + delta)),   w = m + sigma epsilon,   g^ = gradient of the nll at w
    h^ = g^ epsilon / sigma                                  (Hessian estimate by Stein's identity)
    g  = beta1 g + (1 - beta1) g^
    h  = beta2 h + (1 - beta2) h^ + (1 - beta2)^2 (h - h^)^2 / (2 (h + delta))
    m  = m - rate (g / (1 - beta1^t) + delta (m - m0)) / (h + delta)

for a prior N(m0, s) with weight decay delta = 1 / (s^2 num_data), and an effective sample size ess
= num_data / temperature. The posterior is N(m, sigma). A step has one gradient, as one of Adam.

Source: Shen, Daheim, Cong, Nickl, Marconi, Bazan, Yokota, Gurevych, Cremers, Khan, Moellenhoff
2024, "Variational Learning is Effective for Large Deep Networks", arXiv:2402.17641, algorithm 1.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian, Leaf
from bnn_jax.infer.hyperparameters import check_counts, check_numbers
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.bayes_by_backprop import normal_prior
from bnn_jax.infer.methods.map import apply
from bnn_jax.infer.problem import Batch, Metrics, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import MeanField

# Arrays by the path of a leaf.
Leaves = dict[str, Leaf]
# g^, h^ and the gradients of the params that are not random.
Estimates = tuple[Leaves, Leaves, Leaves]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Core:
    """The variational part of the state, in float32 (or float64) for any dtype of the network.

    Attributes:
        mean, hess, momentum: m, h and g of each random weight by its path.
        updates: number of updates.
    """

    mean: Leaves
    hess: Leaves
    momentum: Leaves
    updates: Leaf


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The state of IVON.

    Attributes:
        step: number of steps taken.
        core: the Gaussians of the random weights.
        rest: all other params, by path.
        opt_state: that of their optimizer.
        variables: the network's other state, such as batch statistics.
        sums: accumulated estimates (g^, h^, gradients of the rest); None if each step updates.
    """

    step: Leaf
    core: Core
    rest: PyTree
    opt_state: PyTree
    variables: PyTree
    sums: PyTree


@dataclasses.dataclass(frozen=True, kw_only=True)
class IVON:
    """Hyper-parameters of IVON.

    Attributes:
        learning_rate: decays to zero by a cosine over the run; about a hundred times Adam's.
        beta1: decay of the gradient's average.
        beta2: decay of the Hessian's average; by default 1 - 10 / updates, so that the initial
            Hessian is forgotten, but at least 0.999, for shorter averages of the noisy estimates
            diverge in larger networks, and at most the 0.99999 of the paper.
        hess_init: initial Hessian; the initial std is 1 / sqrt(num_data (hess_init + delta)).
        num_samples: weight samples a step; the cost grows in proportion.
        accumulate: number of steps whose estimates are averaged before an update.
        temperature: of the posterior; other than 1, it is a cold (or warm) posterior.
        rest_learning_rate: of Adam, for the params that are not random.
    """

    learning_rate: float = 0.1
    beta1: float = 0.9
    beta2: float | None = None
    hess_init: float = 1.0
    num_samples: int = 1
    accumulate: int = 1
    temperature: float = 1.0
    rest_learning_rate: float = 1e-3

    name: ClassVar[str] = "ivon"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        rates = ("learning_rate", "rest_learning_rate", "hess_init", "temperature")
        check_positive(self.name, **{name: getattr(self, name) for name in rates})
        check_counts(self.name, num_samples=self.num_samples, accumulate=self.accumulate)
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            if value is not None:
                check_numbers(self.name, **{name: value})
            if value is not None and not 0.0 <= value < 1.0:
                raise ValueError(f"ivon: {name} must be in [0, 1), got {value!r}.")

    def build(self, problem: Problem) -> Inference:
        centres, decays = _weight_decay(problem)
        ess = problem.num_data / self.temperature
        updates = max(1, problem.num_steps // self.accumulate)
        default = min(max(0.999, 1.0 - 10.0 / updates), 0.99999)
        betas = (self.beta1, default if self.beta2 is None else self.beta2)
        rate = optax.cosine_decay_schedule(self.learning_rate, updates)
        optimizer = (
            optax.adam(optax.cosine_decay_schedule(self.rest_learning_rate, updates))
            if problem.train_rest
            else optax.set_to_zero()
        )

        def init(key: PRNGKey) -> State:
            random, rest = _split(problem, problem.params)
            rest, variables = jax.tree.map(jnp.array, (rest, problem.model.variables))
            mean = {n: jnp.array(w, _wide(w)) for n, w in random.items()}
            hess = {name: jnp.full_like(leaf, self.hess_init) for name, leaf in mean.items()}
            zeros = jax.tree.map(jnp.zeros_like, (mean, mean, rest))
            core = Core(mean, hess, jax.tree.map(jnp.zeros_like, mean), jnp.zeros((), jnp.int32))
            sums = zeros if self.accumulate > 1 else None
            opt_state = jax.tree.map(jnp.array, optimizer.init(rest))
            return State(jnp.zeros((), jnp.int32), core, rest, opt_state, variables, sums)

        def step(state: State, run_key: PRNGKey, batch: Batch) -> tuple[State, Info]:
            key = jax.random.fold_in(run_key, state.step)
            stds = {
                name: lax.rsqrt(ess * (h + decays[name])) for name, h in state.core.hess.items()
            }
            estimates, (nll, variables, metrics) = _estimates(
                problem, state, stds, jax.random.split(key, self.num_samples), batch
            )
            means = state.core.mean
            penalties = [0.5 * d * jnp.sum((means[n] - centres[n]) ** 2) for n, d in decays.items()]
            info = Info(nll + sum(penalties, jnp.zeros(())).astype(nll.dtype), nll, metrics)

            def update(now: State, estimates: Estimates) -> State:
                grads, hessians, rest_grads = estimates
                core = _update(betas, now.core, grads, hessians, rate, centres, decays)
                rest, opt_state = apply(optimizer, rest_grads, now.opt_state, now.rest)
                return dataclasses.replace(now, core=core, rest=rest, opt_state=opt_state)

            now = dataclasses.replace(state, step=state.step + 1, variables=variables)
            return _accumulated(now, estimates, self.accumulate, update), info

        def posterior(state: State) -> MeanField:
            core = state.core

            def leaf(path: Any, template: Array) -> Array | Gaussian:
                name = gaussian.path_name(path)
                if name in state.rest:
                    return state.rest[name]
                rho = gaussian.rho_from_std(lax.rsqrt(ess * (core.hess[name] + decays[name])))
                return Gaussian(core.mean[name].astype(template.dtype), rho.astype(template.dtype))

            tree = jax.tree_util.tree_map_with_path(leaf, problem.params)
            return MeanField(tree, state.variables)

        return Inference(init, step, posterior)


def _estimates(
    problem: Problem, state: State, stds: Leaves, keys: Array, batch: Batch
) -> tuple[Estimates, tuple[Float[Array, ""], PyTree, Metrics]]:
    """Returns the means over weight samples of (g^, h^, gradients of the rest), and of the nll."""
    dtypes = {name: leaf.dtype for name, leaf in _split(problem, problem.params)[0].items()}
    total: Any = None
    variables = state.variables
    for key in keys:
        noise_key, nll_key = jax.random.split(key)
        epsilons = {
            name: noise.normal(jax.random.fold_in(noise_key, i), std.shape, std.dtype)
            for i, (name, std) in enumerate(stds.items())
        }
        drawn = {
            name: (state.core.mean[name] + stds[name] * epsilon).astype(dtypes[name])
            for name, epsilon in epsilons.items()
        }

        def nll(
            leaves: tuple[Leaves, Leaves], variables: PyTree, nll_key: PRNGKey
        ) -> tuple[Float[Array, ""], tuple[PyTree, Metrics]]:
            return problem.nll(_merged(problem, *leaves), variables, nll_key, batch)

        gradient = jax.value_and_grad(nll, has_aux=True)
        (value, (variables, metrics)), (grads, rest) = gradient(
            (drawn, state.rest), variables, nll_key
        )
        grads = {name: g.astype(stds[name].dtype) for name, g in grads.items()}
        hessians = {name: g * epsilons[name] / stds[name] for name, g in grads.items()}
        one = ((grads, hessians, rest), (value, metrics))
        total = one if total is None else jax.tree.map(jnp.add, total, one)
    if len(keys) > 1:
        total = jax.tree.map(lambda x: x / len(keys), total)
    estimates, (value, metrics) = total
    return estimates, (value, variables, metrics)


def _update(
    betas: tuple[float, float],
    core: Core,
    grads: Leaves,
    hessians: Leaves,
    rate: Callable[[Array], Array],
    centres: dict[str, Any],
    decays: dict[str, Any],
) -> Core:
    """Returns the Gaussians after one update, the last four lines of the algorithm."""
    beta1, beta2 = betas
    updates = core.updates + 1
    correction = 1.0 - jnp.power(beta1, updates.astype(jnp.float32))
    step_size = jnp.asarray(rate(core.updates.astype(jnp.float32)), jnp.float32)
    mean, hess, momentum = {}, {}, {}
    for name, m in core.mean.items():
        h, decay = core.hess[name], decays[name]
        momentum[name] = beta1 * core.momentum[name] + (1.0 - beta1) * grads[name]
        difference = hessians[name] - h
        curved = 0.5 * (1.0 - beta2) ** 2 * jnp.square(difference) / (h + decay)
        hess[name] = h + (1.0 - beta2) * difference + curved
        direction = momentum[name] / correction.astype(m.dtype) + decay * (m - centres[name])
        mean[name] = m - step_size.astype(m.dtype) * direction / (hess[name] + decay)
    return Core(mean, hess, momentum, updates)


def _accumulated(
    now: State, estimates: Estimates, number: int, update: Callable[[State, Estimates], State]
) -> State:
    """Returns the state with the estimates added, and updated after every `number` steps."""
    if number == 1:
        return update(now, estimates)
    sums = jax.tree.map(jnp.add, now.sums, estimates)

    def updated() -> State:
        after = update(now, jax.tree.map(lambda x: x / number, sums))
        return dataclasses.replace(after, sums=jax.tree.map(jnp.zeros_like, sums))

    return lax.cond(now.step % number == 0, updated, lambda: dataclasses.replace(now, sums=sums))


def _weight_decay(problem: Problem) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the prior mean and the weight decay of each random weight.

    Raises:
        TypeError: a prior that is not normal.
    """
    random = gaussian.random_leaves(problem.model.posterior)
    centres, decays = {}, {}
    for name in random:
        own = normal_prior(problem.model.prior, name)
        if own is None:
            raise TypeError(
                f"ivon: the prior of {name!r} must be a NormalPrior, whose gradient is a weight "
                "decay: use infer.bayes_by_backprop for another prior."
            )
        centres[name] = own.mean
        decays[name] = 1.0 / (own.std**2 * problem.num_data)
    return centres, decays


def _wide(leaf: Array) -> jnp.dtype:
    return jnp.promote_types(leaf.dtype, jnp.float32)


def _split(problem: Problem, params: PyTree) -> tuple[Leaves, Leaves]:
    """Returns the random and the other leaves by path."""
    random: Leaves = {}
    rest: Leaves = {}
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for (path, leaf), is_random in zip(leaves, jax.tree.leaves(problem.is_random), strict=True):
        (random if is_random else rest)[gaussian.path_name(path)] = leaf
    return random, rest


def _merged(problem: Problem, random: Leaves, rest: Leaves) -> PyTree:
    def leaf(path: Any, _: Array) -> Array:
        name = gaussian.path_name(path)
        return random[name] if name in random else rest[name]

    return jax.tree_util.tree_map_with_path(leaf, problem.params)
