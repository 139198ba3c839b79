"""Images of another data set, made ready for a run's network: the ones it should not be sure of.

They go through the same padding, mean and standard deviation as the run's own. Where their size or
channels differ they are resized (bilinear), made grey or repeated over the channels; the report
tells what was done, for a network may well notice it.
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
    """A data set by name, and the folder with its original files if they are on this machine."""

    name: str
    folder: Path | None = None

    @classmethod
    def parse(cls, text: str) -> "Source":
        """NAME or NAME=FOLDER."""
        name, equals, folder = text.partition("=")
        if not name or (equals and not folder):
            raise RunError(
                f"--ood {text!r} must read NAME or NAME=FOLDER, such as kmnist=files/kmnist."
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
        changes: what was done to fit them, in words; empty if nothing.
    """

    name: str
    images: UInt8[np.ndarray, "n h w c"]
    labels: Int32[np.ndarray, " n"]
    label_names: tuple[str, ...]
    changes: str


def parse(texts: Sequence[str], *, trained_on: str) -> list[Source]:
    """The data sets that a caller names, each once and none of them the run's own.

    Raises:
        RunError: a text that cannot be meant.
    """
    sources = [Source.parse(text) for text in texts]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise RunError(f"--ood names {name} more than once: give each data set once.")
        if name == trained_on:
            raise RunError(
                f"--ood {name} is the data set that the network was trained on: name another."
            )
    return sources


def load(
    source: Source, data_dir: Path | None, *, shape: tuple[int, int, int], most: int
) -> OtherImages:
    """At most `most` test images of a data set, in the run's shape (height, width, channels).

    Args:
        source: the data set.
        data_dir: where prepared data sets are; None for the default.
        shape, most: of the images that are wanted.

    Raises:
        DataError, RunError: they cannot be had, or cannot be given that shape.
    """
    # The known sets have images of one size: better to resize a few here than to keep all of them
    # on disk once more. Others may need to be resized to become arrays at all.
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
                f"The images of {name} have {given} channels and the run's {channels}: only 1 and "
                "3 can be turned into each other, name another data set."
            )
        images = np.repeat(images, 3, axis=-1) if given == 1 else _grey(images)
        changes.append("made grey" if given == 3 else "grey repeated over 3 channels")
    if images.shape[1:3] != (height, width):
        if height != width:
            raise RunError(
                f"The images of {name} are {images.shape[1]}x{images.shape[2]} and the run's "
                f"{height}x{width}: only square ones can be resized to, name another data set."
            )
        changes.append(f"resized from {images.shape[1]}x{images.shape[2]} to {height}x{width}")
        images = resize(images, height)
    return images, ", ".join(changes)


def _grey(images: np.ndarray) -> np.ndarray:
    """Luma by ITU-R BT.601, as Pillow's mode L."""
    luma = images.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
    return np.rint(luma).astype(np.uint8)[..., None]
