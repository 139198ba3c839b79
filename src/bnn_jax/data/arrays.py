"""What a data set is here: images and labels as plain arrays, a training and a test part.

Images stay as they were published: uint8, 0 to 255, (examples, height, width, channels). Scaling
and normalising are the reader's, so that one prepared copy serves every experiment.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8


class DataError(ValueError):
    """A data set cannot be had as asked; the message says why and what to do, in one line."""


def one_line(error: BaseException) -> str:
    """An error's message without its line breaks."""
    return " ".join(str(error).split())


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images and their classes: uint8 (N, H, W, C) and int32 (N,). The arrays may be read-only."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[UInt8[np.ndarray, "h w c"], np.int32]:
        return self.images[index], self.labels[index]

    def __iter__(self) -> Iterator[tuple[UInt8[np.ndarray, "h w c"], np.int32]]:
        return zip(self.images, self.labels, strict=True)


@dataclasses.dataclass(frozen=True)
class ImageDataset:
    """A named data set; labels run from 0 to num_classes - 1 and index label_names."""

    name: str
    train: Examples
    test: Examples
    num_classes: int
    label_names: tuple[str, ...]


def from_arrays(
    train_images: Any,
    train_labels: Any,
    test_images: Any,
    test_labels: Any,
    *,
    name: str = "arrays",
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    image_size: int | None = None,
) -> ImageDataset:
    """A data set of your own arrays.

    Args:
        train_images: uint8, (N, H, W, C), or (N, H, W) for one channel.
        train_labels: integers, (N,), from 0 to num_classes - 1.
        test_images: as train_images, of the same height, width and channels.
        test_labels: as train_labels.
        name: what reports call it.
        num_classes: by default the number of label_names, or else the largest label plus one.
        label_names: one per class; by default "0", "1", ...
        image_size: resize to image_size x image_size, bilinear.

    Raises:
        DataError: the arrays do not make a data set; the message names the argument.
    """
    from bnn_jax.data.resize import check_size, resize

    check_size(image_size)
    train = _examples("train", train_images, train_labels)
    test = _examples("test", test_images, test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"Training and test images must have one shape, got {train.images.shape[1:]} and "
            f"{test.images.shape[1:]}."
        )
    largest = int(max(train.labels.max(), test.labels.max()))
    if num_classes is None:
        num_classes = largest + 1 if label_names is None else len(label_names)
    if largest >= num_classes:
        raise DataError(
            f"Labels must be below num_classes = {num_classes}, got {largest}: number the classes "
            "from 0, or raise num_classes."
        )
    if label_names is None:
        label_names = [str(i) for i in range(num_classes)]
    if len(label_names) != num_classes:
        raise DataError(f"{num_classes} classes need as many label_names, got {len(label_names)}.")
    return ImageDataset(
        name=name,
        train=dataclasses.replace(train, images=resize(train.images, image_size)),
        test=dataclasses.replace(test, images=resize(test.images, image_size)),
        num_classes=num_classes,
        label_names=tuple(label_names),
    )


def _examples(part: str, images: Any, labels: Any) -> Examples:
    images, labels = _array(f"{part}_images", images), _array(f"{part}_labels", labels)
    if images.dtype != np.uint8:
        raise DataError(
            f"{part}_images must be uint8, 0 to 255, got {images.dtype}: convert them, as by "
            "np.round(255 * x).astype(np.uint8) for values from 0 to 1."
        )
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or 0 in images.shape:
        raise DataError(
            f"{part}_images must be (examples, height, width, channels) and not empty, got shape "
            f"{images.shape}."
        )
    if labels.ndim != 1 or len(labels) != len(images):
        raise DataError(
            f"{part}_labels must have one label per image, shape ({len(images)},), got "
            f"{labels.shape}; one-hot labels want argmax(axis=1) first."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{part}_labels must be integers, got {labels.dtype}.")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"{part}_labels must be class numbers from 0, got values from {labels.min()} to "
            f"{labels.max()}."
        )
    return Examples(images, labels.astype(np.int32))


def _array(name: str, value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} must be an array: {error}") from None
