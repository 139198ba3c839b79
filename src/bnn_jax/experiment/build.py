"""From settings to objects: the network, the likelihood, the optimizer, the step.

Everything that can be wrong with settings that are well formed by themselves is found here, before
anything is written.
"""

import dataclasses
from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from bnn_jax import gaussian, likelihoods, noise, objective, optimizers, priors, train
from bnn_jax.config import sections
from bnn_jax.config.data import Categorical
from bnn_jax.config.schema import Config
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting.loop import Step
from bnn_jax.likelihoods import Likelihood
from bnn_jax.models import MLP, LeNet5, banded_conv
from bnn_jax.noise import Draw, PRNGKey
from bnn_jax.transforms import BayesianModel, to_bnn


def build_model(config: Config, examples: Images | Points) -> BayesianModel:
    """The config's network with its initial posterior."""
    example = examples.as_inputs(examples.train[0][:1])
    dtype = jnp.dtype(config.training.dtype)
    settings = config.model
    if isinstance(examples, Images):
        outputs = examples.num_classes
    else:
        assert not isinstance(config.likelihood, Categorical)  # Config refuses it with points
        outputs = config.likelihood.num_outputs
    # On CPU as matrix products.
    convolution = banded_conv if jax.default_backend() == "cpu" else jax.lax.conv_general_dilated
    module: Any
    if isinstance(settings, sections.MLP):
        module = MLP(hidden=settings.hidden, num_outputs=outputs, dtype=dtype)
    else:
        module = LeNet5(num_classes=outputs, dtype=dtype, conv_general_dilated=convolution)
    init_key, posterior_key = jax.random.split(named_key(config, "init"))
    variables = jax.jit(module.init)(init_key, example)
    where = config.posterior.where
    try:
        model = to_bnn(
            module,
            variables,
            where=where if isinstance(where, str) else list(where),
            prior=build_prior(config),
        )
    except ValueError as error:
        raise RunError(f"posterior.where: {error}") from error
    estimators = {
        path: config.estimator_of(path) for path in gaussian.random_leaves(model.posterior)
    }
    if isinstance(config.estimator, dict):
        for glob in config.estimator:
            if not any(fnmatchcase(path, glob) for path in estimators):
                raise RunError(
                    f"estimator pattern {glob!r} matches no random weight; they are: "
                    f"{', '.join(estimators)}."
                )
    posterior = initial_posterior(config, posterior_key, model.posterior)
    return dataclasses.replace(
        model,
        posterior=posterior,
        estimators=estimators,
        strict=isinstance(config.estimator, dict),
    )


def initial_posterior(config: Config, key: PRNGKey, posterior: PyTree) -> PyTree:
    """Rho ~ N(rho_mean, rho_std), and the means as the network's initialisers or N(0, mean_std)."""
    settings = config.posterior

    def start(leaf: Any, leaf_key: PRNGKey) -> Any:
        if not gaussian.is_gaussian(leaf):
            return leaf
        fresh = gaussian.init(
            leaf_key,
            leaf.shape,
            leaf.dtype,
            loc_std=settings.mean_std or 0.0,
            rho_mean=settings.rho_mean,
            rho_std=settings.rho_std,
        )
        mean = fresh.mean if settings.mean_init == "normal" else leaf.mean
        return gaussian.Gaussian(mean=mean, rho=fresh.rho)

    keys = gaussian.leaf_keys(key, posterior)
    return jax.tree.map(start, posterior, keys, is_leaf=gaussian.is_gaussian)


PRIORS: dict[str, Callable[..., priors.Prior]] = {
    "normal": priors.NormalPrior,
    "scale_mixture": priors.ScaleMixturePrior,
    "laplace": priors.LaplacePrior,
    "student_t": priors.StudentTPrior,
}


def build_prior(config: Config) -> priors.Prior:
    return PRIORS[config.prior.name](**config.prior.model_dump(exclude={"name"}))


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {
    "categorical": likelihoods.Categorical,
    "normal": likelihoods.Normal,
    "student_t": likelihoods.StudentT,
}


def build_likelihood(config: Config) -> Any:
    return LIKELIHOODS[config.likelihood.name](**config.likelihood.model_dump(exclude={"name"}))


OPTIMIZERS: dict[str, Callable[[Any, sections.Optimizer], optax.GradientTransformation]] = {
    "adam": lambda rate, _: optax.adam(rate),
    "adamw": lambda rate, given: optax.adamw(rate, weight_decay=given.weight_decay),
    "adam_weight_decay": lambda rate, given: optimizers.adam_weight_decay(
        rate, weight_decay=given.weight_decay
    ),
    "sgd": lambda rate, given: optax.sgd(rate, momentum=given.momentum or None),
}


def build_optimizer(
    config: Config, *, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
    settings = config.optimizer
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    total = epochs * steps_per_epoch
    rate: Any = settings.learning_rate
    if settings.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, max(1, total - warmup))
    elif warmup:
        rate = optax.constant_schedule(rate)
    if warmup:
        rise = optax.linear_schedule(0.0, settings.learning_rate, warmup)
        rate = optax.join_schedules([rise, rate], [warmup])
    return OPTIMIZERS[settings.name](rate, settings)


def build_schedule(config: Config, *, steps_per_epoch: int) -> objective.Schedule:
    settings = config.objective.kl_schedule
    if isinstance(settings, sections.LinearKL):
        return objective.linear(
            warmup_steps=max(1, round(settings.warmup_epochs * steps_per_epoch))
        )
    if isinstance(settings, sections.CyclicalKL):
        total = config.training.epochs * steps_per_epoch
        return objective.cyclical(total_steps=total, cycles=settings.cycles, ramp=settings.ramp)
    if isinstance(settings, sections.BlundellKL):
        return objective.blundell(num_batches=steps_per_epoch)
    return objective.constant()


def batch_metrics(likelihood: Likelihood, outputs: Any, targets: Array) -> dict[str, Array]:
    """What is reported of each batch beside the loss and its parts: means over its examples."""
    if isinstance(likelihood, likelihoods.Regression):
        return {"squared_error": jnp.mean(jnp.square(likelihood.mean(outputs) - targets))}
    correct = jnp.argmax(outputs, axis=-1) == targets
    return {"accuracy": jnp.mean(correct.astype(jnp.float32))}


def bayesian_step(
    config: Config,
    model: BayesianModel,
    optimizer: optax.GradientTransformation,
    num_train: int,
    steps_per_epoch: int,
) -> Step:
    settings = config.objective
    likelihood = build_likelihood(config)
    return train.build_step(
        model.forward(),
        likelihood.nll,
        optimizer,
        model.prior,
        num_data=num_train if settings.num_data == "train" else settings.num_data,
        dnn_factor=settings.dnn_factor,
        bnn_factor=settings.bnn_factor,
        kl_schedule=build_schedule(config, steps_per_epoch=steps_per_epoch),
        num_samples=settings.num_samples,
        antithetic=settings.antithetic,
        reverse_kl=settings.reverse_kl,
        kl_every=settings.kl_every,
        average_decay=config.optimizer.average or 0.999,
        metric_fn=partial(batch_metrics, likelihood),
    )


def deterministic_step(
    config: Config, model: BayesianModel, optimizer: optax.GradientTransformation
) -> Step:
    """The same network with ordinary weights and the data loss alone."""

    def forward(draw: Draw, posterior: Any, variables: Any, inputs: Any) -> tuple[Any, Any]:
        noise.unpaired(draw, "A deterministic network")
        return model.network.call(posterior, variables, inputs), variables

    likelihood = build_likelihood(config)
    return train.build_step(
        forward,
        likelihood.nll,
        optimizer,
        model.prior,
        dnn_factor=1.0,
        bnn_factor=0.0,
        average_decay=config.optimizer.average or 0.999,
        metric_fn=partial(batch_metrics, likelihood),
    )


def named_key(config: Config, name: str) -> PRNGKey:
    """The run's key for one purpose."""
    purposes = ("init", "noise", "batches", "evaluation", "baseline")
    return jax.random.fold_in(jax.random.key(config.seed), purposes.index(name))
