"""Batches of data that is larger than memory, by grain: random access, a new order each epoch.

The order depends only on the seed and the step, so a run can resume anywhere: at a step, with
`start`, or with the state of grain's iterator (get_state, set_state), which orbax can save.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from bnn_jax._extras import optional_import
from bnn_jax.data.arrays import ImageDataset
from bnn_jax.data.digits import load_digits
from bnn_jax.data.errors import DataError
from bnn_jax.data.loader import read_options
from bnn_jax.data.names import PathLike, check_name, resolve_data_dir
from bnn_jax.data.resize import check_size, resize_one

if TYPE_CHECKING:
    import grain


@runtime_checkable
class Source(Protocol):
    """Random access to elements, (image, label) or {"image": ..., "label": ...}."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> object: ...


def stream(
    source: object,
    *,
    batch_size: int,
    seed: int,
    part: str = "train",
    shuffle: bool = True,
    epochs: int | None = None,
    start: int = 0,
    drop_remainder: bool = True,
    image_size: int | None = None,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
) -> "grain.IterDataset[dict[str, np.ndarray]]":
    """Returns batches {"image": uint8 (B, H, W, C), "label": int32 (B,)}, prefetched by threads.

    Args:
        source: a name as for `load`, an `ImageDataset`, `Examples`, or an object with len() and
            [index] whose elements are (image, label) or {"image": ..., "label": ...}, with images
            uint8 (H, W, C).
        batch_size: examples per batch.
        seed: determines the order; equal seeds give equal batches.
        part: `train` or `test`, for a source that has both.
        shuffle: whether to use a new order each epoch; False keeps the order of the source.
        epochs: the number of passes over the source; None repeats without end.
        start: the number of batches to skip, without reading them.
        drop_remainder: whether to drop the last batch of an epoch if it is not full. Batches never
            span two epochs.
        image_size: resize to image_size x image_size, bilinear.
        data_dir: as for `load`.
        manual_dir: as for `load`.

    Returns:
        A grain dataset: iterate over it, transform it further, or save its iterator's state.

    Raises:
        DataError: as for `load`; or an argument is out of range; or, while iterating, images differ
            in shape and image_size is None.
        MissingExtra: a package of `bnn-jax[data]` is not installed.
    """
    check_size(image_size)
    if part not in ("train", "test"):
        raise DataError(f"part must be 'train' or 'test', got {part!r}.")
    pairs = _pairs(source, part, data_dir, manual_dir)
    if not 1 <= batch_size <= len(pairs):
        raise DataError(
            f"batch_size must be from 1 to the number of examples, {len(pairs)}, got {batch_size}."
        )
    if (epochs is not None and epochs < 1) or start < 0:
        raise DataError(f"epochs must be at least 1 and start at least 0, got {epochs}, {start}.")
    with optional_import("data.stream"):
        import grain

    dataset = grain.MapDataset.source(_Elements(pairs, image_size))
    if shuffle:
        dataset = dataset.shuffle(seed=seed)
    dataset = dataset.batch(batch_size, drop_remainder=drop_remainder).repeat(epochs)
    return dataset[start:].to_iter_dataset(read_options())


class _Elements:
    """A grain source whose elements can be stacked to a batch."""

    def __init__(self, pairs: Source, image_size: int | None) -> None:
        self.pairs, self.image_size = pairs, image_size
        image, _ = self._read(0)
        if image.dtype != np.uint8 or image.ndim != 3:
            raise DataError(
                f"Images must be uint8 (height, width, channels), got {image.dtype} {image.shape}."
            )
        self.shape = image.shape

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> dict[str, np.ndarray | np.int32]:
        image, label = self._read(index)
        if image.shape != self.shape:
            raise DataError(
                f"The images differ in shape ({self.shape} and {image.shape}): set image_size."
            )
        return {"image": image, "label": label}

    def _read(self, index: int) -> tuple[np.ndarray, np.int32]:
        element = self.pairs[index]
        if isinstance(element, Mapping):
            image, label = element["image"], element["label"]
        else:
            assert isinstance(element, Sequence)
            image, label = element
        image = np.asarray(image)
        return (image if self.image_size is None else resize_one(image, self.image_size)), np.int32(
            label
        )


def _pairs(
    source: object,
    part: str,
    data_dir: PathLike | None,
    manual_dir: PathLike | None,
) -> Source:
    if isinstance(source, str) and source == "digits":
        source = load_digits()
    if isinstance(source, str):
        with optional_import(f"The data set {source!r}"):
            from bnn_jax.data.tfds_prepare import prepared_builder
            from bnn_jax.data.tfds_read import Pairs

        check_name(source)
        return Pairs(prepared_builder(source, resolve_data_dir(data_dir), manual_dir), part)
    if isinstance(source, ImageDataset):
        return source.train if part == "train" else source.test
    if not isinstance(source, Source):
        raise DataError(
            "source must be a name, an ImageDataset, Examples or an object with len() and [index], "
            f"got {type(source).__name__}."
        )
    return source
