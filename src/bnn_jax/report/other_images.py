"""Images of another data set, converted to the shape of a run's images.

They get the same padding and normalization as the run's own. If their size or channels differ, they
are resized (bilinear), converted to gray or repeated over the channels. The report says so, because
the conversion can affect the scores.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from bnn_jax import data
from bnn_jax.data.resize import resize
from bnn_jax.experiment.folder import RunError


@dataclasses.dataclass(frozen=True)
class Source:
    """The name of a data set, and the folder with its original files if there is one."""

    name: str
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """Parses NAME or NAME=FOLDER."""
        name, equals, folder = text.partition("=")
        if not name or (equals and not folder):
            raise RunError(
                f"--ood {text!r} must have the form NAME or NAME=FOLDER, for example mnist=files."
            )
        return cls(name, Path(folder).expanduser() if folder else None)


@dataclasses.dataclass(frozen=True)
class OtherImages:
    """Test images in the shape of the run's own.

    Attributes:
        name: of the data set.
        images: uint8.
        labels: classes of their own data set.
        label_names: of these classes.
        changes: how the images were converted, in words; empty if they were not.
    """

    name: str
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    label_names: tuple[str, ...]
    changes: str


def parse(texts: Sequence[str], *, trained_on: str) -> list[Source]:
    """Returns the data sets of --ood, each one once and none of them the run's own.

    Raises:
        RunError: a text is invalid, a data set is repeated, or it is the run's own.
    """
    sources = [Source.parse(text) for text in texts]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"--ood has {name} more than once: give each data set once.")
        if name == trained_on:
            raise RunError(
                f"--ood {name} is the data set that the network was trained on: choose another one."
            )
    return sources


def load(
    source: Source, data_dir: Path | None, *, shape: tuple[int, int, int], most: int
) -> OtherImages:
    """Returns test images of a data set in the run's shape.

    Args:
        source: the data set.
        data_dir: where prepared data sets are; None for the default.
        shape: (height, width, channels) of the run's images.
        most: the maximum number of images.

    Raises:
        DataError, RunError: they cannot be loaded, or not converted to that shape.
    """
    # Known sets have images of one size: resizing a few of them here needs no second copy of the
    # set on disk. Other sets can have images of several sizes, so they are resized on loading.
    known = source.name in data.KNOWN or shape[0] != shape[1]
    found = data.load(
        source.name,
        data_dir=data_dir,
        manual_dir=source.folder,
        image_size=None if known else shape[0],
    )
    images, changes = _fit(np.asarray(found.test.images[:most]), shape, found.name)
    return OtherImages(source.name, images, found.test.labels[:most], found.label_names, changes)


def _fit(
    images: np.ndarray, shape: tuple[int, int, int], name: str
) -> tuple[UInt8[np.ndarray, "n h w c"], str]:
    height, width, channels = shape
    given = images.shape[-1]
    changes = []
    if given != channels:
        if {given, channels} != {1, 3}:
            raise RunError(
                f"The images of {name} have {given} channels and the run's have {channels}: only "
                "1 and 3 can be converted to each other, so choose another data set."
            )
        images = np.repeat(images, 3, axis=-1) if given == 1 else _gray(images)
        changes.append("converted to gray" if given == 3 else "gray repeated over 3 channels")
    if images.shape[1:3] != (height, width):
        if height != width:
            raise RunError(
                f"The images of {name} are {images.shape[1]}x{images.shape[2]} and the run's "
                f"are {height}x{width}: images can be resized to squares only, so choose another "
                "data set."
            )
        changes.append(f"resized from {images.shape[1]}x{images.shape[2]} to {height}x{width}")
        images = resize(images, height)
    return images, ", ".join(changes)


def _gray(images: np.ndarray) -> np.ndarray:
    """Returns the luma by ITU-R BT.601, as in Pillow's mode L."""
    luma = images.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
    return np.rint(luma).astype(np.uint8)[..., None]
