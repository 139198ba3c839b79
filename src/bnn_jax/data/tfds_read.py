"""Reading images and labels from a prepared TFDS builder: choice of features and splits."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from bnn_jax.data.errors import DataError
from bnn_jax.data.tfds_prepare import quiet

# Without a labelled test split, the validation split is used, as is usual for ImageNet.
SPLITS = {"train": ("train",), "test": ("test", "validation")}
CHUNK = 256


class Pairs:
    """Random access to the (image, label) pairs of a part, `train` or `test`, in TFDS's order.

    Raises:
        DataError: the examples are not one image with one class each, or the part is missing.
    """

    def __init__(self, builder: tfds.core.DatasetBuilder, part: str) -> None:
        self.name = builder.name
        self.image, self.label = _features(builder)
        available = builder.info.splits
        others = set(builder.info.features) - {self.image, self.label}
        decoders = {key: tfds.decode.SkipDecoding() for key in sorted(others)}
        for split in SPLITS[part]:
            if split in available and available[split].num_examples:
                self.records = builder.as_data_source(split, decoders=decoders)
                with quiet():
                    if self.records[0][self.label] >= 0:  # TFDS marks a missing label with -1.
                        return
        raise DataError(
            f"{builder.name} has no labelled {part} split, only {', '.join(available)}: read it "
            "with tfds.data_source, split it and pass it to from_arrays."
        )

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._pair(self.records[int(index)])

    def __iter__(self) -> Iterator[tuple[np.ndarray, int]]:
        # Reading one record at a time takes twice as long.
        for start in range(0, len(self), CHUNK):
            indices = range(start, min(start + CHUNK, len(self)))
            yield from map(self._pair, self.records.__getitems__(indices))

    def _pair(self, record: dict[str, Any]) -> tuple[np.ndarray, int]:
        image = record[self.image]
        if image.dtype != np.uint8:
            raise DataError(f"Images must be uint8, got {image.dtype} in {self.name}.")
        return image, int(record[self.label])


def label_names(builder: tfds.core.DatasetBuilder) -> list[str]:
    """Returns the names of the classes."""
    return list(builder.info.features[_features(builder)[1]].names)


def _features(builder: tfds.core.DatasetBuilder) -> tuple[str, str]:
    features = builder.info.features
    kinds = (tfds.features.Image, tfds.features.ClassLabel)
    pair = builder.info.supervised_keys
    if pair is None or len(pair) != 2:
        found = [[k for k, f in features.items() if isinstance(f, kind)] for kind in kinds]
        pair = [names[0] if len(names) == 1 else None for names in found]
    # A supervised key may be a tree of names, which is not the name of a feature.
    chosen = [features[key] if isinstance(key, str) else None for key in pair]
    if not all(isinstance(f, kind) for f, kind in zip(chosen, kinds, strict=True)):
        raise DataError(
            f"{builder.name} is not an image classification set: examples must have one image and "
            f"one class label, got {', '.join(sorted(features))}."
        )
    return pair[0], pair[1]
