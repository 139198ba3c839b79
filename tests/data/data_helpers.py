"""Small data sets in the original file formats."""

import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest

from bnn_jax.data import Examples


def images_and_labels(seed: int, n: int, shape: tuple[int, ...]) -> Examples:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (n, *shape), np.uint8)
    return Examples(images, (np.arange(n) % 10).astype(np.int32))


def rows(examples: Examples) -> list[tuple[int, bytes]]:
    """The examples as a sorted list: two data sets agree up to order if these are equal."""
    pairs = zip(examples.labels, examples.images, strict=True)
    return sorted((int(label), image.tobytes()) for label, image in pairs)


def idx(array: np.ndarray) -> bytes:
    header = struct.pack(f">I{array.ndim}I", 0x0800 + array.ndim, *array.shape)
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def register(monkeypatch: pytest.MonkeyPatch, name: str, folder: Path) -> None:
    """Has the checksums of the files in a folder stand for those that TFDS registers."""
    from tensorflow_datasets.core.download.checksums import UrlInfo
    from tensorflow_datasets.core.utils import Size

    from bnn_jax.data.tfds_builders import BUILDERS

    infos = {}
    for url, known in BUILDERS[name].url_infos.items():
        content = (folder / known.filename).read_bytes()
        checksum = hashlib.sha256(content).hexdigest()
        infos[url] = UrlInfo(Size(len(content)), checksum, known.filename)
    monkeypatch.setattr(BUILDERS[name], "url_infos", infos)


def cifar_records(examples: Examples, part: slice) -> bytes:
    planes = examples.images[part].transpose(0, 3, 1, 2).reshape(-1, 3072)
    labels = examples.labels[part].astype(np.uint8)[:, None]
    return np.concatenate([labels, planes], axis=1).tobytes()
