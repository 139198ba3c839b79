"""Builds the inference method of a run from its settings, with optimizer and schedules."""

from collections.abc import Callable

import optax

from bnn_jax import infer, objective, optimizers
from bnn_jax.config import inference as inference_sections
from bnn_jax.config import sections
from bnn_jax.config.schema import Config
from bnn_jax.config.types import Estimator
from bnn_jax.data.errors import one_line
from bnn_jax.experiment.folder import RunError
from bnn_jax.infer.method import Method

Rate = float | objective.Schedule

OPTIMIZERS: dict[str, Callable[[Rate, sections.Optimizer], optax.GradientTransformation]] = {
    "adam": lambda rate, _: optax.adam(rate),
    "adamw": lambda rate, given: optax.adamw(rate, weight_decay=given.weight_decay),
    "adam_weight_decay": lambda rate, given: optimizers.adam_weight_decay(
        rate, weight_decay=given.weight_decay
    ),
    "sgd": lambda rate, given: optax.sgd(rate, momentum=given.momentum or None),
}


def build_optimizer(
    settings: sections.Optimizer, *, steps_per_epoch: int, epochs: int
) -> optax.GradientTransformation:
    """Returns the optimizer of the optimizer section, with its learning rate schedule."""
    warmup = round(settings.warmup_epochs * steps_per_epoch)
    total = epochs * steps_per_epoch
    rate: Rate = settings.learning_rate
    if settings.schedule == "cosine":
        rate = optax.cosine_decay_schedule(rate, max(1, total - warmup))
    elif warmup:
        rate = optax.constant_schedule(rate)
    if warmup:
        rise = optax.linear_schedule(0.0, settings.learning_rate, warmup)
        rate = optax.join_schedules([rise, rate], [warmup])
    return OPTIMIZERS[settings.name](rate, settings)


def build_schedule(
    settings: sections.KLSchedule, *, steps_per_epoch: int, epochs: int
) -> objective.Schedule:
    """Returns the factor of the KL as a function of the step."""
    if isinstance(settings, sections.LinearKL):
        return objective.linear(
            warmup_steps=max(1, round(settings.epochs(epochs) * steps_per_epoch))
        )
    if isinstance(settings, sections.CyclicalKL):
        total = epochs * steps_per_epoch
        if settings.cycles > total:
            raise RunError(
                f"objective.kl_schedule.cycles ({settings.cycles}) must be at most the {total} "
                "steps of the run: lower it."
            )
        return objective.cyclical(total_steps=total, cycles=settings.cycles, ramp=settings.ramp)
    if isinstance(settings, sections.BlundellKL):
        return objective.blundell(num_batches=steps_per_epoch)
    return objective.constant()


def build_method(config: Config, *, num_train: int) -> Method:
    """Returns the inference method of the settings.

    Raises:
        RunError: a setting of the objective does not fit the number of steps of an epoch, or a
            hyper-parameter does not fit the others.
    """
    try:
        return _build(config, num_train)
    except (TypeError, ValueError) as error:
        if isinstance(error, RunError):
            raise
        raise RunError(f"inference: {one_line(error)}") from error


def _build(config: Config, num_train: int) -> Method:
    if config.inference is not None:
        return _method(config.inference, config.estimator)
    assert config.objective is not None
    assert config.optimizer is not None
    steps = num_train // config.training.batch_size
    if config.objective.kl_every > steps:
        raise RunError(
            f"objective.kl_every ({config.objective.kl_every}) is more than the {steps} steps of "
            "an epoch, so some epochs would have no value of the KL: set it to at most that."
        )
    return bayes_by_backprop(
        config.objective,
        config.optimizer,
        num_train=num_train,
        steps_per_epoch=steps,
        epochs=config.training.epochs,
        estimator=config.estimator,
    )


def _method(settings: inference_sections.Method, estimator: Estimator | None) -> Method:
    build: Callable[..., Method] = infer.METHODS[settings.name]
    if isinstance(settings, inference_sections.Ensemble):
        return build(_method(settings.method, estimator), **settings.hyperparameters)
    own = {"estimator": "moments"} if estimator == "moments" else {}
    return build(**settings.hyperparameters, **own)


def bayes_by_backprop(
    objective_settings: sections.Objective,
    optimizer_settings: sections.Optimizer,
    *,
    num_train: int,
    steps_per_epoch: int,
    epochs: int,
    estimator: Estimator | None = None,
) -> Method:
    """Returns Bayes by Backprop with the settings of the objective and optimizer sections."""
    given, num_data = objective_settings, objective_settings.num_data
    return infer.bayes_by_backprop(
        optimizer=build_optimizer(
            optimizer_settings, steps_per_epoch=steps_per_epoch, epochs=epochs
        ),
        kl_schedule=build_schedule(
            given.kl_schedule, steps_per_epoch=steps_per_epoch, epochs=epochs
        ),
        num_data=num_train if num_data == "train" else num_data,
        dnn_factor=given.dnn_factor,
        bnn_factor=given.bnn_factor,
        num_samples=given.num_samples,
        antithetic=given.antithetic,
        reverse_kl=given.reverse_kl,
        kl_every=given.kl_every,
        average=optimizer_settings.average,
        estimator="moments" if estimator == "moments" else None,
    )


def maximum_likelihood(
    settings: sections.Optimizer, *, steps_per_epoch: int, epochs: int
) -> Method:
    """Returns the method of the deterministic baseline: the data loss alone, no random weights."""
    return infer.bayes_by_backprop(
        optimizer=build_optimizer(settings, steps_per_epoch=steps_per_epoch, epochs=epochs),
        dnn_factor=1.0,
        bnn_factor=0.0,
        average=settings.average,
    )
