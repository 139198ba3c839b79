"""Data sets of images in a folder for each class.

    photos/cat/1.png                  photos/train/cat/1.png
    photos/dog/2.png        or        photos/test/cat/7.png

The classes are the names of the folders, in order. Alpha channels are dropped, and pictures that a
camera has marked as turned (EXIF) are turned back.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from bnn_jax._extras import optional_import
from bnn_jax.data.dataset import Dataset, Splits
from bnn_jax.data.errors import DataError, listed, nearest, one_line
from bnn_jax.data.files import MAX_BYTES, check_size
from bnn_jax.data.names import PathLike
from bnn_jax.data.resize import check_size as check_image_size
from bnn_jax.data.resize import resize_one
from bnn_jax.data.split import split

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_PART_NAMES = {"train": "train", "test": "test", "validation": "validation", "val": "validation",
               "valid": "validation"}  # fmt: skip
_IGNORED = ("thumbs.db", "desktop.ini")
_ORIENTATION = 0x0112  # EXIF's tag
_SWAPPED = (5, 6, 7, 8)  # orientations that exchange width and height


@dataclasses.dataclass(frozen=True)
class ImageForm:
    """The common form of a set of images.

    Attributes:
        channels: 1 for grey, 3 for colour.
        image_size: images are resized to image_size x image_size; None keeps their size.
    """

    channels: int
    image_size: int | None = None


def read_image_folder(
    folder: PathLike,
    *,
    image_size: int | None = None,
    channels: int | None = None,
    class_names: Sequence[str] | None = None,
    validation: float = 0,
    test: float = 0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Splits:
    """Reads images, uint8 (examples, height, width, channels), and their classes.

    Args:
        folder: holds a folder for each class, or the folders `train`, `validation`, `test` with
            these.
        image_size: resize to image_size x image_size, bilinear; by default all images must have the
            same size.
        channels: 1 for grey, 3 for colour; by default grey if all images are.
        class_names: the classes in their order; by default the folders of the training part.
        validation: the share or number of training images to hold out; see `data.split`.
        test: the same for the test part.
        seed: of the split.
        max_bytes: the largest size of all images in memory.

    Raises:
        DataError: the folder is not of this form, a class has no images, there is only one class,
            a file is no image, or sizes differ; the message names the file.
        MissingExtra: Pillow is not installed.
    """
    check_image_size(image_size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}.")
    root = Path(folder).expanduser()
    parts = _parts(root)
    names = tuple(class_names) if class_names is not None else tuple(parts["train"])
    files = {part: _labelled(root, classes, names) for part, classes in parts.items()}
    headers = _headers([file for pairs in files.values() for file, _ in pairs])
    form = ImageForm(channels or (1 if all(grey for _, _, grey in headers) else 3), image_size)
    shape = _shape(headers, form)
    check_size(root, len(headers) * int(np.prod(shape)), max_bytes)
    found = {
        part: Dataset(
            _decoded([file for file, _ in pairs], form, shape),
            np.array([label for _, label in pairs], np.int32),
            "classification",
            "images",
            class_names=names,
        )
        for part, pairs in files.items()
    }
    splits = Splits(found["train"], found.get("validation"), found.get("test"), source=str(root))
    return split(splits, validation=validation, test=test, seed=seed)


def read_new_images(
    folder: PathLike, *, shape: tuple[int, int, int], max_bytes: int = MAX_BYTES
) -> tuple[UInt8[np.ndarray, "images height width channels"], tuple[str, ...]]:
    """Returns the images of a folder without classes, and their file names, in order.

    Args:
        folder: the folder; images in folders below it are not read.
        shape: (height, width, channels) of the training images. Images of another size are resized
            if it is square, else refused.
        max_bytes: the largest size of all images in memory.

    Raises:
        DataError: there are no images, or a file is no image or of a wrong size.
        MissingExtra: Pillow is not installed.
    """
    root = Path(folder).expanduser()
    files = [path for path in _entries(root) if path.is_file()]
    if not files:
        raise DataError(f"{root} has no images.")
    height, width, channels = shape
    form = ImageForm(channels, height if height == width else None)
    headers = _headers(files)
    found = _shape(headers, form)
    if found != shape:
        raise DataError(
            f"{files[0]} has {found[0]}x{found[1]} pixels, and the training images have "
            f"{height}x{width}: resize it."
        )
    check_size(root, len(files) * int(np.prod(shape)), max_bytes)
    return _decoded(files, form, shape), tuple(file.name for file in files)


Classes = dict[str, list[Path]]
Header = tuple[Path, tuple[int, int], bool]  # the file, (height, width), whether it is grey


def _parts(root: Path) -> dict[str, Classes]:
    """The files of each class of each part."""
    entries = _entries(root)
    folders = {path.name: path for path in entries if path.is_dir()}
    if not folders:
        raise DataError(
            f"{root} has no folders: put the images into a folder for each class, such as "
            f"{root / 'cat'}."
        )
    if "train" in folders and set(folders) <= set(_PART_NAMES):
        parts = {_PART_NAMES[name]: _classes(path) for name, path in folders.items()}
        if len(parts) < len(folders):
            raise DataError(f"{root} has the part validation twice: {listed(folders)}.")
    else:
        parts = {"train": _classes(root)}
    train = parts["train"]
    empty = [name for name, files in train.items() if not files]
    if empty:
        raise DataError(f"The class {empty[0]!r} of {root} has no images: add some, or remove it.")
    if len(train) < 2:
        raise DataError(f"{root} has only one class, {listed(train)}: two are needed.")
    return parts


def _classes(root: Path) -> Classes:
    entries = _entries(root)
    loose = [path for path in entries if path.is_file()]
    if loose:
        raise DataError(f"{loose[0]} lies in no folder of a class: move or remove it.")
    return {path.name: _images(path) for path in entries}


def _images(folder: Path) -> list[Path]:
    files = _entries(folder)
    for file in files:
        if file.is_dir():
            raise DataError(f"{file} is a folder inside a class: move its images up, or remove it.")
    return files


def _entries(folder: Path) -> list[Path]:
    """The content of a folder in order, without hidden files; other files must be images."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder: name a folder with a folder of images for each class."
            if folder.exists()
            else f"{folder} does not exist."
        )
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    entries = [path for path in entries if path.name.lower() not in _IGNORED]
    for path in entries:
        if path.is_file() and path.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"{path} is no image: its name must end in one of {', '.join(SUFFIXES)}; remove "
                "it, or convert it."
            )
    return entries


def _labelled(root: Path, classes: Classes, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    for name in classes:
        if name not in names:
            raise DataError(
                f"The class {name!r} of {root} is none of the classes{nearest(name, names)} They "
                f"are {listed(names)}."
            )
    pairs = [(file, names.index(name)) for name, files in classes.items() for file in files]
    if not pairs:
        raise DataError(f"A part of {root} has no images: add some, or remove its folder.")
    return pairs


def _headers(files: list[Path]) -> list[Header]:
    headers: list[Header] = []
    for file in files:
        with _opened(file) as image:
            height, width = image.height, image.width
            if _orientation(file, image) in _SWAPPED:
                height, width = width, height
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"{file} has more than 8 bits a channel (mode {image.mode}): convert it, or "
                    "read the images into an npz file."
                )
            headers.append((file, (height, width), image.mode in ("1", "L", "LA")))
    return headers


def _shape(headers: list[Header], form: ImageForm) -> tuple[int, int, int]:
    if form.image_size is not None:
        return (form.image_size, form.image_size, form.channels)
    first, size, _ = headers[0]
    for file, other, _ in headers:
        if other != size:
            raise DataError(
                f"{file} has {other[0]}x{other[1]} pixels and {first} has {size[0]}x{size[1]}: set "
                "image_size."
            )
    return (*size, form.channels)


def _decoded(
    files: list[Path], form: ImageForm, shape: tuple[int, int, int]
) -> UInt8[np.ndarray, "images height width channels"]:
    with optional_import("Reading images"):
        from PIL import ImageOps
    images = np.empty((len(files), *shape), np.uint8)
    for file, target in zip(files, images, strict=True):
        with _opened(file) as image:
            try:
                turned = ImageOps.exif_transpose(image) or image
                pixels = np.asarray(turned.convert("L" if form.channels == 1 else "RGB"))
            except (OSError, SyntaxError, ValueError) as error:
                raise _unreadable(file, error) from error
        target[...] = resize_one(pixels.reshape(*pixels.shape[:2], form.channels), form.image_size)
    return images


def _opened(file: Path) -> "Image.Image":
    with optional_import("Reading images"):
        from PIL import Image
    try:
        return Image.open(file)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(file, error) from error


def _orientation(file: Path, image: "Image.Image") -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except (OSError, SyntaxError, ValueError) as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: Exception) -> DataError:
    return DataError(
        f"{file} cannot be read as an image ({one_line(error)}): replace or remove it."
    )
