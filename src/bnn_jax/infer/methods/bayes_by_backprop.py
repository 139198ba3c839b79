"""Bayes by Backprop: variational inference with an independent Gaussian for each weight.

    minimise  E_q[-log p(data | w)] + KL(q || prior),   q(w) = prod_i N(w_i; mean_i, std_i)

per training example in nats, with reparameterised gradients on minibatches; std = softplus(rho) +
1e-6. `bnn_jax.train` holds the step; the estimator of each weight is the model's.

With `sticking_the_landing` the KL is the estimate log q(w) - log p(w) at the drawn weights, whose
gradient does not flow through the mean and std of log q: at q = posterior it is exactly zero. With
`learn_prior` the std of a normal prior is, for each layer, the one that minimises the KL,

    s^2 = mean over the layer's weights of (std_i^2 + (mean_i - prior mean_i)^2)

With estimator="moments" the expectation of the log likelihood is computed from the means and
variances of the network's outputs, propagated in one pass (`infer.deterministic`): nothing is
drawn.

Source: Blundell, Cornebise, Kavukcuoglu, Wierstra 2015, "Weight Uncertainty in Neural Networks",
arXiv:1505.05424; Roeder, Wu, Duvenaud 2017, "Sticking the Landing", arXiv:1703.09194; the learned
scale is the empirical Bayes of MacKay 1992 for this bound, as in Wu et al. 2019, arXiv:1810.03958.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, objective, priors, train
from bnn_jax.gaussian import Gaussian
from bnn_jax.infer import deterministic
from bnn_jax.infer.hyperparameters import check_counts, check_numbers, check_optimizer
from bnn_jax.infer.method import Inference, Info, check_positive
from bnn_jax.infer.methods.map import apply
from bnn_jax.infer.problem import Batch, Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import MeanField
from bnn_jax.priors import NormalPrior, Prior

Step = Callable[[train.State, PRNGKey, Batch], tuple[train.State, Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BayesByBackprop:
    """Hyper-parameters of Bayes by Backprop.

    Attributes:
        learning_rate: of Adam; decays to zero by a cosine over the run.
        optimizer: any optax transformation, in place of Adam and its schedule.
        kl_warmup: fraction of the steps over which the weight of the KL rises from 0 to 1
            (Bowman et al. 2016, arXiv:1511.06349).
        num_samples: weight samples a step; the cost grows in proportion.
        antithetic: draw them in pairs with opposite noise.
        kl_schedule: function of the step that multiplies the weight of the KL, in place of
            kl_warmup.
        num_data: weights the KL by 1 / num_data; by default the number of training examples.
        dnn_factor, bnn_factor: MindSpore's two factors of the data loss and the KL, in place of
            num_data.
        reverse_kl: KL(prior || posterior), as MindSpore computes it.
        average: decay a step of a moving average of the posterior, which is then the result.
        kl_every: compute the value of the KL in every so many steps only.
        sticking_the_landing: the gradient of Roeder et al., of lower variance near the optimum.
            The weights are drawn once a step, under any estimator of the model.
        learn_prior: learn the std of a normal prior for each layer.
        estimator: "moments" propagates means and variances in place of weight samples, for networks
            whose operations have rules in `bnn_jax.moments` (Wu et al. 2019, arXiv:1810.03958);
            None for weight samples by the model's estimators.
    """

    learning_rate: float = 1e-3
    optimizer: optax.GradientTransformation | None = None
    kl_warmup: float = 0.0
    num_samples: int = 1
    antithetic: bool = False
    kl_schedule: objective.Schedule | None = None
    num_data: int | None = None
    dnn_factor: float | None = None
    bnn_factor: float | None = None
    reverse_kl: bool = False
    average: float | None = None
    kl_every: int = 1
    sticking_the_landing: bool = False
    learn_prior: bool = False
    estimator: str | None = None

    name: ClassVar[str] = "bayes_by_backprop"
    whole_data: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_positive(self.name, learning_rate=self.learning_rate)
        check_numbers(self.name, kl_warmup=self.kl_warmup)
        check_counts(self.name, num_samples=self.num_samples, kl_every=self.kl_every)
        check_optimizer(self.name, self.optimizer)
        if self.average is not None and not 0.0 <= self.average < 1.0:
            raise ValueError(
                f"{self.name}: average must be at least 0 and below 1, got {self.average!r}."
            )
        if self.antithetic and self.num_samples % 2:
            raise ValueError(
                f"{self.name}: num_samples must be even with antithetic pairs, got "
                f"{self.num_samples}."
            )
        if not 0.0 <= self.kl_warmup <= 1.0:
            raise ValueError(
                f"{self.name}: kl_warmup is a fraction of the steps, 0 to 1, got {self.kl_warmup}."
            )
        if self.sticking_the_landing and (self.num_samples, self.antithetic) != (1, False):
            raise ValueError(
                f"{self.name}: sticking_the_landing draws one sample a step, got num_samples="
                f"{self.num_samples} and antithetic={self.antithetic}: leave them at 1 and False."
            )
        self._check_estimator()
        if self.kl_schedule is not None and self.kl_warmup:
            raise ValueError(
                f"{self.name}: kl_schedule and kl_warmup={self.kl_warmup} exclude each other: "
                "leave one of them out."
            )
        self._check_variants()

    def _check_estimator(self) -> None:
        if self.estimator is None:
            return
        if self.estimator != "moments":
            raise ValueError(
                f"{self.name}: estimator must be 'moments' or None, got {self.estimator!r}: the "
                "estimators of weight samples are set by to_bnn(estimator=...)."
            )
        drawn = {
            "num_samples": self.num_samples != 1,
            "antithetic": self.antithetic,
            "sticking_the_landing": self.sticking_the_landing,
        }
        for name, given in drawn.items():
            if given:
                raise ValueError(
                    f"{self.name}: estimator='moments' draws no weight samples: leave {name} out."
                )

    def _check_variants(self) -> None:
        factors = (self.num_data, self.dnn_factor, self.bnn_factor)
        if factors != (None, None, None):
            objective.factors(*factors)
        own = {"reverse_kl": self.reverse_kl, "average": self.average is not None}
        own["num_data or factors"] = factors != (None, None, None)
        for name, given in own.items():
            if given and self.sticking_the_landing:
                raise ValueError(
                    f"{self.name}: sticking_the_landing takes no {name}: leave it out."
                )

    def build(self, problem: Problem) -> Inference:
        rate = optax.cosine_decay_schedule(self.learning_rate, problem.num_steps)
        optimizer = problem.masked(self.optimizer or optax.adam(rate))
        warmup = round(self.kl_warmup * problem.num_steps)
        schedule = objective.linear(warmup_steps=warmup) if warmup else objective.constant()
        schedule = self.kl_schedule or schedule
        has_factors = self.dnn_factor is not None or self.bnn_factor is not None
        prior = problem.model.prior
        if self.learn_prior:
            learned_prior(prior, problem.model.posterior)

        def init(key: PRNGKey) -> train.State:
            model = problem.model
            average = self.average is not None
            return train.init(
                model.posterior, optimizer, variables=model.variables, average=average
            )

        network: train.Forward = problem.forward
        nll, metric_fn = problem.likelihood.nll, problem.metric_fn
        if self.estimator == "moments":
            deterministic.check(problem)
            network = partial(deterministic.forward, problem)
            nll = partial(deterministic.nll, problem)
            metric_fn = partial(deterministic.metrics, problem)

        def variational(prior: Prior | PyTree) -> Step:
            return train.build_step(
                network,
                nll,
                optimizer,
                prior,
                num_data=None if has_factors else self.num_data or problem.num_data,
                dnn_factor=self.dnn_factor,
                bnn_factor=self.bnn_factor,
                kl_schedule=schedule,
                num_samples=self.num_samples,
                antithetic=self.antithetic,
                reverse_kl=self.reverse_kl,
                average_decay=0.0 if self.average is None else self.average,
                kl_every=self.kl_every,
                metric_fn=metric_fn,
                accumulate_steps=problem.accumulate_steps,
            )

        plain = variational(prior)

        def step(state: train.State, run_key: PRNGKey, batch: Batch) -> tuple[train.State, Any]:
            now = learned_prior(prior, state.posterior) if self.learn_prior else prior
            if self.sticking_the_landing:
                return _stick_the_landing(problem, now, optimizer, schedule, state, run_key, batch)
            return (variational(now) if self.learn_prior else plain)(state, run_key, batch)

        def posterior(state: train.State) -> MeanField:
            tree = state.posterior if state.average is None else state.average
            return MeanField(tree, state.variables)

        return Inference(init, step, posterior)


def normal_prior(prior: Prior | PyTree, name: str) -> NormalPrior | None:
    """Returns the prior of the leaf at a path if it is normal, else None."""
    own = prior if isinstance(prior, Prior) else priors.prior_leaves(prior)[name]
    return own if isinstance(own, NormalPrior) else None


def learned_prior(prior: Prior | PyTree, posterior: PyTree) -> PyTree:
    """Returns a tree of normal priors whose stds are those that minimise the KL of each layer.

    Raises:
        TypeError: a prior that is not normal.
    """
    random = gaussian.random_leaves(posterior)
    centres: dict[str, Any] = {}
    squares: dict[str, list[Array]] = {}
    for name, q in random.items():
        own = normal_prior(prior, name)
        if own is None:
            raise TypeError(
                "bayes_by_backprop: learn_prior learns the std of a NormalPrior, and the prior of "
                f"{name!r} is of another type: use a normal prior, or leave learn_prior out."
            )
        centres[name] = own.mean
        second = jnp.square(q.std) + jnp.square(q.mean - own.mean)
        squares.setdefault(_layer(name), []).append(jnp.ravel(jax.lax.stop_gradient(second)))
    stds = {layer: jnp.sqrt(jnp.mean(jnp.concatenate(all_))) for layer, all_ in squares.items()}

    def of_leaf(path: Any, leaf: PyTree) -> NormalPrior | None:
        name = gaussian.path_name(path)
        return NormalPrior(centres[name], stds[_layer(name)]) if name in random else None

    return jax.tree_util.tree_map_with_path(of_leaf, posterior, is_leaf=gaussian.is_gaussian)


def _stick_the_landing(
    problem: Problem,
    prior: Prior | PyTree,
    optimizer: optax.GradientTransformation,
    schedule: objective.Schedule,
    state: train.State,
    run_key: PRNGKey,
    batch: Batch,
) -> tuple[train.State, Info]:
    weight_key, nll_key = jax.random.split(jax.random.fold_in(run_key, state.step))
    factor = schedule(state.step) / problem.num_data

    def loss(posterior: PyTree) -> tuple[Float[Array, ""], tuple[Float[Array, ""], Any, Any]]:
        weights = gaussian.sample(weight_key, posterior)
        fixed = jax.lax.stop_gradient(posterior)
        nll, (variables, metrics) = problem.nll(weights, state.variables, nll_key, batch)
        # KL estimated at these weights; in log q only the weights depend on the posterior.
        kl = sum(_log_ratios(fixed, prior, weights), start=jnp.zeros((), jnp.float32))
        return nll + (factor * kl).astype(nll.dtype), (nll, variables, metrics)

    (value, (nll, variables, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(
        state.posterior
    )
    posterior, opt_state = apply(optimizer, grads, state.opt_state, state.posterior)
    state = train.State(state.step + 1, posterior, opt_state, variables, state.average)
    return state, Info(value, nll, metrics)


def _log_ratios(posterior: PyTree, prior: Prior | PyTree, weights: PyTree) -> list[Array]:
    """Returns log q(w) - log p(w) of each random leaf."""
    random = gaussian.random_leaves(posterior)
    own = dict.fromkeys(random, prior) if isinstance(prior, Prior) else priors.prior_leaves(prior)
    drawn = {
        gaussian.path_name(path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }

    def ratio(q: Gaussian, p: Prior, w: Array) -> Array:
        return jnp.sum(NormalPrior(q.mean, q.std).log_prob(w) - p.log_prob(w))

    return [ratio(q, own[name], drawn[name]).astype(jnp.float32) for name, q in random.items()]


def _layer(name: str) -> str:
    return name.rpartition("/")[0] or name
