"""The examples of a run on the device, and their conversion to inputs of the network.

Images are from a data set, points from a curve. Both have the same interface for training and
evaluation: `train`, `held_out` and `as_inputs`.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnn_jax import data
from bnn_jax.config import own
from bnn_jax.config.data import CurveData, Data, ImageData
from bnn_jax.config.schema import Config, Model
from bnn_jax.config.sections import LeNet5
from bnn_jax.data import Curve, memory
from bnn_jax.data.streamed import Streamed
from bnn_jax.experiment import own_data
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays

Column = Float[Array, "_ 1"]

POINT_BYTES = 8.0  # of x and y on the device


@dataclasses.dataclass(frozen=True)
class Images:
    """The run's images on the device, uint8.

    Attributes:
        train, held_out: images and labels; `train` is a sample if the images are streamed.
        held_out_name: "test" or "validation".
        label_names: one per class.
        mean, std: of the pixels, one per channel.
        padding: black pixels to add on each side.
        data_dir: where prepared data sets are; None for the default.
        stream: the training images, if `train` has only a sample of them.
    """

    train: tuple[Array, Array]
    held_out: tuple[Array, Array]
    held_out_name: str
    label_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    padding: int
    data_dir: Path | None
    stream: Streamed | None = None

    @property
    def num_classes(self) -> int:
        return len(self.label_names)

    @property
    def num_train(self) -> int:
        return len(self.train[0] if self.stream is None else self.stream)

    def as_inputs(self, images: Array) -> Array:
        """Returns (x / 255 - mean) / std in float32, of the images with their padding."""
        side = (self.padding, self.padding)
        images = jnp.pad(images, ((0, 0), side, side, (0, 0)))
        shape = (1, 1, 1, len(self.mean))
        mean = jnp.asarray(self.mean, jnp.float32).reshape(shape)
        std = jnp.asarray(self.std, jnp.float32).reshape(shape)
        return (images.astype(jnp.float32) / 255.0 - mean) / std


@dataclasses.dataclass(frozen=True)
class Points:
    """The run's points (x, y) of a curve, on the device.

    Attributes:
        train, held_out: x and y, float32 each.
        curve: the distribution that they were drawn from.
    """

    train: tuple[Column, Column]
    held_out: tuple[Column, Column]
    curve: Curve
    held_out_name: ClassVar[str] = "test"
    stream: ClassVar[None] = None

    @property
    def num_train(self) -> int:
        return len(self.train[0])

    def as_inputs(self, x: Column) -> Column:
        """Returns x scaled to mean 0 and std 1 under the distribution of the training inputs."""
        low, high = self.curve.train_range
        return (x - 0.5 * (low + high)) / ((high - low) / 12**0.5)


def load(
    settings: Data, model: Model, *, likelihood: str, batch_size: int, seed: int
) -> Images | Points | Arrays:
    """Returns the examples of the data section.

    Args:
        settings: the data section.
        model: the model section, for the smallest image that it accepts.
        likelihood: the name of the likelihood.
        batch_size: of training.
        seed: of the points of a curve, and of the parts of own data.

    Raises:
        DataError, RunError: the data cannot be loaded, or does not fit the other settings.
    """
    if isinstance(settings, CurveData):
        return draw_points(settings, seed)
    if isinstance(settings, own.OwnData):
        arrays = own_data.load(settings, likelihood=likelihood, seed=seed)
        _check_batch_size(batch_size, arrays.num_train, settings.title)
        is_bytes = arrays.train[0].dtype == np.uint8
        return as_images(arrays) if is_bytes and arrays.task == "classification" else arrays
    return load_images(settings, model, batch_size=batch_size)


def with_test_part(examples: Images | Arrays, config: Config) -> Images | Arrays | None:
    """Returns the examples of a run with the test part held out; None if the data have none."""
    if isinstance(examples, Arrays):
        test = examples.splits.test
        if test is None:
            return None
        arrays = (test.inputs, test.targets)
        return dataclasses.replace(examples, held_out=arrays, held_out_name="test")
    settings = config.data
    if isinstance(settings, own.OwnData):
        test = own_data.read(settings, seed=config.seed).test
        if test is None:
            return None
        held_out = (jnp.asarray(test.inputs), jnp.asarray(test.targets))
    else:
        assert isinstance(settings, ImageData)
        without = settings.model_copy(update={"validation": 0})
        held_out = load_images(without, config.model, batch_size=1).held_out
    return dataclasses.replace(examples, held_out=held_out, held_out_name="test")


def draw_points(settings: CurveData, seed: int) -> Points:
    """Returns training and test points of the curve.

    Raises:
        RunError: they do not fit the memory.
    """
    curve = data.CURVES[settings.name]
    count = settings.train_examples + settings.test_examples
    shortage = memory.shortage(POINT_BYTES * count)
    if shortage is not None:
        raise RunError(f"{count} points need {shortage}: lower data.train_examples.")

    def columns(count: int, part: int) -> tuple[Column, Column]:
        x, y = curve.draw(count, seed=(seed, part))
        return jnp.asarray(x[:, None]), jnp.asarray(y[:, None])

    return Points(columns(settings.train_examples, 0), columns(settings.test_examples, 1), curve)


def as_images(arrays: Arrays) -> Images:
    """Returns own images with their classes, normalised by the pixels of the training part."""
    mean, std = _pixel_statistics(arrays.train[0])
    return Images(
        train=(jnp.asarray(arrays.train[0]), jnp.asarray(arrays.train[1])),
        held_out=(jnp.asarray(arrays.held_out[0]), jnp.asarray(arrays.held_out[1])),
        held_out_name=arrays.held_out_name,
        label_names=arrays.splits.train.class_names or (),
        mean=tuple(map(float, mean)),
        std=tuple(map(float, std)),
        padding=0,
        data_dir=None,
        stream=arrays.stream,
    )


def _check_batch_size(batch_size: int, num_train: int, source: str) -> None:
    if num_train < batch_size:
        raise RunError(
            f"training.batch_size {batch_size} is more than the {num_train} training examples of "
            f"{source} (less data.validation): lower it."
        )


def load_images(settings: ImageData, model: Model, *, batch_size: int) -> Images:
    """Returns the images of the data section.

    The last `settings.validation` training examples are held out; if it is 0, the test set.
    """
    source = data.load(
        settings.name,
        data_dir=settings.data_dir,
        manual_dir=settings.manual_dir,
        image_size=settings.image_size,
    )
    images, labels = source.train.images, source.train.labels
    images, labels = images[: settings.train_examples], labels[: settings.train_examples]
    cut = len(images) - settings.validation
    _check_batch_size(batch_size, max(cut, 0), source.name)
    if settings.validation:
        held_out = images[cut:], labels[cut:]
    else:
        test = source.test
        held_out = test.images[: settings.test_examples], test.labels[: settings.test_examples]
    images, labels = images[:cut], labels[:cut]
    channels = images.shape[-1]
    smallest = min(images.shape[1:3]) + 2 * settings.padding
    least = LeNet5.SMALLEST_IMAGE
    if isinstance(model, LeNet5) and smallest < least:
        raise RunError(
            f"lenet5 needs images of at least {least}x{least}, and {source.name} has "
            f"{images.shape[1]}x{images.shape[2]}: set data.image_size=32."
        )
    return Images(
        train=(jnp.asarray(images), jnp.asarray(labels)),
        held_out=(jnp.asarray(held_out[0]), jnp.asarray(held_out[1])),
        held_out_name="validation" if settings.validation else "test",
        label_names=source.label_names,
        mean=_per_channel("mean", settings.mean, channels, lambda: _pixel_statistics(images)[0]),
        std=_per_channel("std", settings.std, channels, lambda: _pixel_statistics(images)[1]),
        padding=settings.padding,
        data_dir=settings.data_dir,
    )


def _pixel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    flat = images.reshape(-1, images.shape[-1])
    mean = flat.mean(axis=0, dtype=np.float64) / 255.0
    std = flat.std(axis=0, dtype=np.float64) / 255.0
    return mean, np.maximum(std, 1e-6)


def _per_channel(
    name: str,
    value: float | tuple[float, ...] | None,
    channels: int,
    default: Callable[[], np.ndarray],
) -> tuple[float, ...]:
    if value is None:
        return tuple(float(v) for v in default())
    values = value if isinstance(value, tuple) else (float(value),) * channels
    if len(values) != channels:
        raise RunError(
            f"data.{name} has {len(values)} values but the images have {channels} channels: give "
            "one number, or one per channel."
        )
    return values
