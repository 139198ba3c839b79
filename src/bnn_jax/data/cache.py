"""Prepared data on disk: one folder of .npy files per data set and image size.

Writes are atomic: a folder is written under a temporary name and renamed when it is complete.
Arrays are memory-mapped when read.
"""

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from bnn_jax.data.arrays import Examples, ImageDataset, ImagePairs
from bnn_jax.data.errors import DataError, one_line
from bnn_jax.data.resize import resize_one

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no flock; the atomic rename is the only protection.
    fcntl = None

TEMPORARY = ".incomplete-"


def folder(data_dir: Path, name: str, image_size: int | None) -> Path:
    """Returns the folder of a data set's arrays, which may not exist yet."""
    size = "original" if image_size is None else f"{image_size}x{image_size}"
    return data_dir / "bnn_jax" / name.replace("/", "-").replace(":", "-") / size


def read(path: Path) -> ImageDataset | None:
    """Reads the data set in this folder; returns None if the folder does not exist.

    Raises:
        DataError: the folder exists and cannot be read.
    """
    if not path.is_dir():
        return None
    try:
        info = json.loads((path / "info.json").read_text())
        return ImageDataset(
            name=info["name"],
            train=_read_examples(path, "train"),
            test=_read_examples(path, "test"),
            num_classes=len(info["label_names"]),
            label_names=tuple(info["label_names"]),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"The prepared arrays in {path} cannot be read ({one_line(error)}): delete this "
            "folder to prepare them again."
        ) from error


def _read_examples(path: Path, part: str) -> Examples:
    images = np.load(path / f"{part}_images.npy", mmap_mode="r")
    labels = np.load(path / f"{part}_labels.npy")
    if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
        raise ValueError(f"{part} has images {images.dtype}{images.shape}, labels {labels.shape}")
    return Examples(np.asarray(images), labels.astype(np.int32, copy=False))


def write(
    path: Path,
    train: ImagePairs,
    test: ImagePairs,
    *,
    name: str,
    label_names: Sequence[str],
    image_size: int | None,
) -> None:
    """Writes a data set to this folder, unless another process has written it first.

    Args:
        path: the folder, as returned by `folder`.
        train: (image, label) pairs, iterated over once.
        test: as train.
        name: the name of the data set.
        label_names: one name per class.
        image_size: resize to image_size x image_size.

    Raises:
        DataError: images differ in shape and image_size is None, or writing fails.
    """
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    try:
        for part, pairs in (("train", train), ("test", test)):
            _write_part(temporary, part, pairs, name, image_size)
        info = {"name": name, "label_names": list(label_names)}
        (temporary / "info.json").write_text(json.dumps(info, indent=1))
        temporary.chmod(path.parent.stat().st_mode)
        temporary.rename(path)
    except OSError as error:
        if not path.is_dir():
            raise DataError(f"Cannot write prepared data to {path}: {one_line(error)}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_part(
    directory: Path, part: str, pairs: ImagePairs, name: str, image_size: int | None
) -> None:
    shape: tuple[int, ...] | None = None
    labels = np.empty(len(pairs), np.int32)
    # Written sequentially: with a memory map, a full disk would raise a bus error.
    with (directory / f"{part}_images.npy").open("wb") as file:
        for i, (image, label) in enumerate(pairs):
            if image_size is not None:
                image = resize_one(image, image_size)
            if shape is None:
                shape = image.shape
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(pairs), *shape)}
                np.lib.format.write_array_header_1_0(file, header)
            if image.shape != shape:
                raise DataError(
                    f"The images of {name} differ in shape ({shape} and {image.shape}): set "
                    "image_size."
                )
            file.write(image.tobytes())
            labels[i] = label
    np.save(directory / f"{part}_labels.npy", labels)


@contextlib.contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Holds an exclusive lock on this directory, which is created if it does not exist.

    Also removes the temporary folders of killed processes. On file systems without locks this does
    nothing, and two processes may prepare the same data set twice.

    Raises:
        DataError: the directory cannot be created or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not os.access(directory, os.W_OK):
            raise PermissionError("it is read-only")
    except OSError as error:
        raise DataError(
            f"Cannot write prepared data to {directory} ({one_line(error)}): pass another "
            "data_dir, or set TFDS_DATA_DIR."
        ) from error
    if fcntl is None:
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass
        else:
            for leftover in directory.glob(f"{TEMPORARY}*"):
                shutil.rmtree(leftover, ignore_errors=True)
        yield
    finally:
        os.close(handle)
