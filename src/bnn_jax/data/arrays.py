"""Data sets of images and labels as plain arrays, with a training and a test part.

Images keep their published values: uint8, 0 to 255, (examples, height, width, channels). Scaling
and normalization are left to the caller, so that one prepared copy serves every experiment.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, UInt8

from bnn_jax.data.errors import DataError
from bnn_jax.data.resize import check_size, resize


@runtime_checkable
class ImagePairs(Protocol):
    """A sized iterable of (image, label) pairs; images are uint8 (H, W, C)."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[tuple[np.ndarray, int | np.int32]]: ...


@dataclasses.dataclass(frozen=True)
class Examples:
    """Images and class labels: uint8 (N, H, W, C) and int32 (N,). The arrays may be read-only."""

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
    train_images: object,
    train_labels: object,
    test_images: object,
    test_labels: object,
    *,
    name: str = "arrays",
    num_classes: int | None = None,
    label_names: Sequence[str] | None = None,
    image_size: int | None = None,
) -> ImageDataset:
    """Makes a data set from arrays.

    Args:
        train_images: uint8, (N, H, W, C), or (N, H, W) for one channel.
        train_labels: integers, (N,), from 0 to num_classes - 1.
        test_images: as train_images, of the same height, width and channels.
        test_labels: as train_labels.
        name: the name of the data set in reports.
        num_classes: by default the number of label_names if given, else the largest label plus one.
        label_names: one name per class; by default "0", "1", ...
        image_size: resize to image_size x image_size, bilinear.

    Raises:
        DataError: an array has a wrong dtype, shape or value; the message names the argument.
    """
    check_size(image_size)
    train = _examples("train", train_images, train_labels)
    test = _examples("test", test_images, test_labels)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"Training and test images must have the same shape, got {train.images.shape[1:]} and "
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
        raise DataError(
            f"label_names must have num_classes = {num_classes} entries, got {len(label_names)}."
        )
    return ImageDataset(
        name=name,
        train=dataclasses.replace(train, images=resize(train.images, image_size)),
        test=dataclasses.replace(test, images=resize(test.images, image_size)),
        num_classes=num_classes,
        label_names=tuple(label_names),
    )


def _examples(part: str, images: object, labels: object) -> Examples:
    return _checked(part, _array(f"{part}_images", images), _array(f"{part}_labels", labels))


def _checked(part: str, images: np.ndarray, labels: np.ndarray) -> Examples:
    if images.dtype != np.uint8:
        raise DataError(
            f"{part}_images must be uint8, 0 to 255, got {images.dtype}: convert values from 0 "
            "to 1 with np.round(255 * x).astype(np.uint8)."
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
            f"{labels.shape}: convert one-hot labels with argmax(axis=1)."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise DataError(f"{part}_labels must be integers, got {labels.dtype}.")
    if labels.min() < 0 or labels.max() > np.iinfo(np.int32).max:
        raise DataError(
            f"{part}_labels must be class numbers from 0, got values from {labels.min()} to "
            f"{labels.max()}."
        )
    return Examples(images, labels.astype(np.int32))


def _array(name: str, value: object) -> np.ndarray:
    try:
        return np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} must be an array: {error}") from None
