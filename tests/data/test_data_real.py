"""MNIST and Fashion-MNIST from their original files, whole."""

import gzip
import time
from pathlib import Path

import numpy as np
import pytest
from data_helpers import rows

from bnn_jax.data import Examples, load

MNIST_HISTOGRAM = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
# In TFDS's order, which does not depend on who prepared the data.
FIRST_LABELS = {
    "mnist": [4, 1, 0, 7, 8, 1, 2, 7, 1, 6],
    "fashion_mnist": [2, 1, 8, 4, 1, 9, 2, 2, 0, 2],
}


def gunzip(path: Path) -> bytes:
    return gzip.decompress(path.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_originals_to_arrays(name, shared, tmp_path):
    originals = shared / "data" / name
    data = load(name, data_dir=tmp_path, manual_dir=originals)
    assert data.train.images.shape == (60000, 28, 28, 1)
    assert data.test.images.shape == (10000, 28, 28, 1)
    histogram = np.bincount(data.train.labels).tolist()
    assert histogram == (MNIST_HISTOGRAM if name == "mnist" else [6000] * 10)
    assert data.train.labels[:10].tolist() == FIRST_LABELS[name]
    for prefix, part in (("train", data.train), ("t10k", data.test)):
        raw_images = gunzip(originals / f"{prefix}-images-idx3-ubyte.gz")[16:]
        raw_labels = gunzip(originals / f"{prefix}-labels-idx1-ubyte.gz")[8:]
        images = np.frombuffer(raw_images, np.uint8).reshape(-1, 28, 28, 1)
        labels = np.frombuffer(raw_labels, np.uint8).astype(np.int32)
        assert rows(part) == rows(Examples(images, labels))

    start = time.monotonic()
    again = load(name, data_dir=tmp_path)
    total = int(again.train.images.sum(dtype=np.int64))
    assert time.monotonic() - start < 1.0
    assert total == int(data.train.images.sum(dtype=np.int64))
    assert load(name, data_dir=tmp_path, image_size=32).test.images.shape == (10000, 32, 32, 1)
