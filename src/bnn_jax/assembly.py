"""From settings to objects: the data on the device, the network, the optimizer, the step.

Everything that can be wrong with settings that are well formed by themselves is found here, before
anything is written.
"""

import dataclasses
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from bnn_jax import config as configs
from bnn_jax import data, gaussian, objective, optimizers, priors, train
from bnn_jax.config import Config
from bnn_jax.loop import Step
from bnn_jax.models import MLP, LeNet5, banded_conv
from bnn_jax.noise import PRNGKey
from bnn_jax.run_folder import RunError
from bnn_jax.transforms import BayesianModel, to_bnn

LENET_MINIMUM = configs.LeNet5.SMALLEST_IMAGE


@dataclasses.dataclass(frozen=True)
class Images:
    """The run's uint8 examples on the device, and how they become the network's input."""

    train: tuple[Array, Array]
    held_out: tuple[Array, Array]
    held_out_name: str
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int

    @property
    def num_train(self) -> int:
        return len(self.train[0])

    def as_inputs(self, images: Array) -> Array:
        """With black pixels on each side, as (x / 255 - mean) / std, float32."""
        side = (self.padding, self.padding)
        images = jnp.pad(images, ((0, 0), side, side, (0, 0)))
        shape = (1, 1, 1, len(self.mean))
        mean = jnp.asarray(self.mean, jnp.float32).reshape(shape)
        std = jnp.asarray(self.std, jnp.float32).reshape(shape)
        return (images.astype(jnp.float32) / 255.0 - mean) / std


def load_images(config: Config) -> Images:
    """The data set of the config: held out are its last training examples, or the test set."""
    settings = config.data
    source = data.load(
        settings.name,
        data_dir=settings.data_dir,
        manual_dir=settings.manual_dir,
        image_size=settings.image_size,
    )
    images, labels = source.train.images, source.train.labels
    images, labels = images[: settings.train_examples], labels[: settings.train_examples]
    cut = len(images) - settings.validation
    if cut < config.training.batch_size:
        raise RunError(
            f"training.batch_size {config.training.batch_size} is more than the {max(cut, 0)} "
            f"training examples of {source.name} (less data.validation): lower it."
        )
    if settings.validation:
        held_out = images[cut:], labels[cut:]
    else:
        test = source.test
        held_out = test.images[: settings.test_examples], test.labels[: settings.test_examples]
    images, labels = images[:cut], labels[:cut]
    channels = images.shape[-1]
    smallest = min(images.shape[1:3]) + 2 * settings.padding
    if config.model.name == "lenet5" and smallest < LENET_MINIMUM:
        raise RunError(
            f"lenet5 needs images of at least {LENET_MINIMUM}x{LENET_MINIMUM}, {source.name} has "
            f"{images.shape[1]}x{images.shape[2]}: set data.image_size=32."
        )
    return Images(
        train=(jnp.asarray(images), jnp.asarray(labels)),
        held_out=(jnp.asarray(held_out[0]), jnp.asarray(held_out[1])),
        held_out_name="validation" if settings.validation else "test",
        num_classes=source.num_classes,
        mean=_per_channel("mean", settings.mean, channels, lambda: _pixel_statistics(images)[0]),
        std=_per_channel("std", settings.std, channels, lambda: _pixel_statistics(images)[1]),
        padding=settings.padding,
    )


def _pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = images.reshape(-1, images.shape[-1])
    mean = flat.mean(axis=0, dtype=np.float64) / 255.0
    std = flat.std(axis=0, dtype=np.float64) / 255.0
    return mean, np.maximum(std, 1e-6)


def _per_channel(
    name: str, value: Any, channels: int, default: Callable[[], np.ndarray]
) -> tuple[float, ...]:
    if value is None:
        return tuple(float(v) for v in default())
    values = tuple(value) if isinstance(value, tuple | list) else (float(value),) * channels
    if len(values) != channels:
        raise RunError(
            f"data.{name} has {len(values)} values but the images have {channels} channels: give "
            "one number, or one per channel."
        )
    return values


def build_model(config: Config, images: Images) -> BayesianModel:
    """The config's network with its initial posterior."""
    example = images.as_inputs(images.train[0][:1])
    dtype = jnp.dtype(config.training.dtype)
    settings = config.model
    module: Any
    if isinstance(settings, configs.MLP):
        module = MLP(hidden=settings.hidden, num_classes=images.num_classes, dtype=dtype)
    else:
        module = LeNet5(
            num_classes=images.num_classes, dtype=dtype, conv_general_dilated=convolution(config)
        )
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
    return dataclasses.replace(model, posterior=posterior, estimators=estimators)


def convolution(config: Config) -> Callable[..., Any]:
    """How LeNet-5's convolutions are computed: on CPU as matrix products.

    Not under an estimator other than reparam, which has to see the convolution itself.
    """
    estimators = {config.estimator_of(weight) for weight in configs.LeNet5.CONVOLUTIONS}
    if jax.default_backend() == "cpu" and estimators == {"reparam"}:
        return banded_conv
    return jax.lax.conv_general_dilated


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
    if settings.name == "adam":
        return optax.adam(rate)
    if settings.name == "adamw":
        return optax.adamw(rate, weight_decay=settings.weight_decay)
    if settings.name == "adam_weight_decay":
        return optimizers.adam_weight_decay(rate, weight_decay=settings.weight_decay)
    return optax.sgd(rate, momentum=settings.momentum or None)


def build_schedule(config: Config, *, steps_per_epoch: int) -> objective.Schedule:
    settings = config.objective.kl_schedule
    if isinstance(settings, configs.LinearKL):
        return objective.linear(
            warmup_steps=max(1, round(settings.warmup_epochs * steps_per_epoch))
        )
    if isinstance(settings, configs.CyclicalKL):
        total = config.training.epochs * steps_per_epoch
        return objective.cyclical(total_steps=total, cycles=settings.cycles, ramp=settings.ramp)
    if isinstance(settings, configs.BlundellKL):
        return objective.blundell(num_batches=steps_per_epoch)
    return objective.constant()


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Mean negative log likelihood of the labels, nats, in float32."""
    per_example = optax.softmax_cross_entropy_with_integer_labels(
        logits.astype(jnp.float32), labels
    )
    return jnp.mean(per_example)


def batch_accuracy(logits: Array, labels: Array) -> dict[str, Array]:
    return {"accuracy": jnp.mean((jnp.argmax(logits, axis=-1) == labels).astype(jnp.float32))}


def bayesian_step(
    config: Config,
    model: BayesianModel,
    optimizer: optax.GradientTransformation,
    num_train: int,
    steps_per_epoch: int,
) -> Step:
    settings = config.objective
    return train.build_step(
        model.forward(),
        cross_entropy,
        optimizer,
        model.prior,
        num_data=num_train if settings.num_data == "train" else settings.num_data,
        dnn_factor=settings.dnn_factor,
        bnn_factor=settings.bnn_factor,
        kl_schedule=build_schedule(config, steps_per_epoch=steps_per_epoch),
        num_samples=settings.num_samples,
        antithetic=settings.antithetic,
        reverse_kl=settings.reverse_kl,
        average_decay=config.optimizer.average or 0.999,
        metric_fn=batch_accuracy,
    )


def deterministic_step(
    config: Config, model: BayesianModel, optimizer: optax.GradientTransformation
) -> Step:
    """The same network with ordinary weights and the data loss alone."""

    def forward(
        key: Any, posterior: Any, variables: Any, inputs: Any, *, antithetic: bool
    ) -> tuple[Any, Any]:
        return model.network.call(posterior, variables, inputs), variables

    return train.build_step(
        forward,
        cross_entropy,
        optimizer,
        model.prior,
        dnn_factor=1.0,
        bnn_factor=0.0,
        average_decay=config.optimizer.average or 0.999,
        metric_fn=batch_accuracy,
    )


def named_key(config: Config, name: str) -> PRNGKey:
    """The run's key for one purpose."""
    purposes = ("init", "noise", "batches", "evaluation", "twin")
    return jax.random.fold_in(jax.random.key(config.seed), purposes.index(name))
