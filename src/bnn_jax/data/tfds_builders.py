"""TFDS builders for the MNIST family and CIFAR-10 that need no TensorFlow.

They are TFDS's own builders, with the same name, version, features and checksums. Only the reading
of the original files is replaced, for which TFDS uses TensorFlow. The prepared data equals TFDS's,
example by example. Importing this module imports TFDS.
"""

import gzip
import io
import math
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import TypedDict

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from bnn_jax.data.errors import DataError


class _Image(TypedDict):
    image: io.BytesIO
    label: int


class _CifarImage(_Image):
    id: str


def urls(builder: tfds.core.DatasetBuilder) -> dict[str, str]:
    """Returns {file name: URL} of the original files that TFDS registers for a builder."""
    return {info.filename: url for url, info in (builder.url_infos or {}).items()}


class IdxReader:
    """A reader for TFDS's MNIST family: two gzipped IDX files per split."""

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Iterator[tuple[object, Mapping[str, object]]]]:
        paths = dl_manager.download(urls(self))
        return {
            split: self._generate_examples(
                paths[f"{prefix}-images-idx3-ubyte.gz"], paths[f"{prefix}-labels-idx1-ubyte.gz"]
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        }

    def _generate_examples(
        self, images: PathLike[str], labels: PathLike[str]
    ) -> Iterator[tuple[int, _Image]]:
        pairs = zip(read_idx(images, 3)[..., None], read_idx(labels, 1), strict=True)
        for index, (image, label) in enumerate(pairs):
            yield index, {"image": png(image), "label": int(label)}


class Cifar10Reader:
    """A reader for TFDS's CIFAR-10: one archive of binary files."""

    info: tfds.core.DatasetInfo

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> Mapping[str, Iterator[tuple[object, Mapping[str, object]]]]:
        (path,) = dl_manager.download(urls(self)).values()
        names, parts = read_cifar10(path)
        self.info.features["label"].names = names
        return {split: self._generate_examples(split, parts[split]) for split in parts}

    def _generate_examples(
        self, split: str, records: np.ndarray
    ) -> Iterator[tuple[int, _CifarImage]]:
        for index, record in enumerate(records):
            image = png(record[1:].reshape(3, 32, 32).transpose(1, 2, 0))
            yield index, {"id": f"{split}_{index:05d}", "image": image, "label": int(record[0])}


def _builder(name: str, reader: type) -> type:
    """Returns TFDS's builder of this name with another reader, without registering it in TFDS."""
    stock = tfds.builder_cls(name)
    # TFDS looks for the checksums next to the file of the class; they are next to the parent's.
    members = {"name": stock.name, "url_infos": stock.url_infos}
    with tfds.core.registered.skip_registration():
        return type(stock.__name__, (reader, stock), members)


def png(image: np.ndarray) -> io.BytesIO:
    """Encodes an image as PNG, because TFDS would encode an array with TensorFlow."""
    file = io.BytesIO()
    plane = image[..., 0] if image.shape[-1] == 1 else np.ascontiguousarray(image)
    Image.fromarray(plane).save(file, "PNG")
    file.seek(0)
    return file


def read_idx(path: PathLike[str], rank: int) -> np.ndarray:
    """Reads a gzipped IDX file of bytes, as an array of the shape in its header."""
    try:
        with gzip.open(path) as file:
            data = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} is not a gzip file or is damaged ({error}).") from error
    header = 4 + 4 * rank
    if len(data) < header or data[:4] != bytes([0, 0, 8, rank]):
        raise DataError(f"{path} is not an IDX file of bytes with {rank} axes.")
    shape = tuple(int(n) for n in np.frombuffer(data, ">u4", rank, offset=4))
    if len(data) - header != math.prod(shape):
        raise DataError(f"{path} has shape {shape} in its header but {len(data) - header} values.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_cifar10(path: PathLike[str]) -> tuple[list[str], dict[str, np.ndarray]]:
    """Returns the class names, and for each split (N, 3073) bytes: the class, 3 planes of 32x32."""
    files: dict[str, bytes] = {}

    def records(*names: str) -> np.ndarray:
        return np.concatenate([np.frombuffer(files[n], np.uint8).reshape(-1, 3073) for n in names])

    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                if (file := archive.extractfile(member)) is not None:
                    files[member.name.rpartition("/")[2]] = file.read()
        train = records(*(f"data_batch_{i}.bin" for i in range(1, 6)))
        test = records("test_batch.bin")
        names = files["batches.meta.txt"].decode().split()
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, ValueError) as error:
        raise DataError(f"{path} is not CIFAR-10's archive of binary files ({error}).") from error
    return names, {"train": train, "test": test}


BUILDERS: dict[str, type] = {
    "mnist": _builder("mnist", IdxReader),
    "fashion_mnist": _builder("fashion_mnist", IdxReader),
    "kmnist": _builder("kmnist", IdxReader),
    "cifar10": _builder("cifar10", Cifar10Reader),
}
