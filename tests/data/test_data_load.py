"""Data sets by name: preparing, keeping and reading them, and every obstacle on the way."""

import gzip
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from data_helpers import idx, images_and_labels, register, rows

from bnn_jax.data import DataError, cache, load, tfds_builders, tfds_prepare, tfds_read
from bnn_jax.data.tfds_builders import BUILDERS


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def error_of(*args, **kwargs) -> str:
    with pytest.raises(DataError) as caught:
        load(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_prepared_by_our_builder_and_read_by_tfds(kmnist, tmp_path, monkeypatch):
    folder, train, test = kmnist
    monkeypatch.setattr(tfds_read, "CHUNK", 7)
    data = load("kmnist", data_dir=tmp_path, manual_dir=folder)
    assert rows(data.train) == rows(train)
    assert rows(data.test) == rows(test)
    assert data.label_names == ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
    # TFDS's own way of reading, at the version of TFDS's own builder.
    source = tfds.data_source("kmnist", data_dir=tmp_path, download=False, split="train")
    assert [int(e["label"]) for e in source] == data.train.labels.tolist()
    np.testing.assert_array_equal(np.stack([e["image"] for e in source]), data.train.images)


def test_colour_archive(cifar10, tmp_path):
    folder, train, test = cifar10
    data = load("cifar10", data_dir=tmp_path, manual_dir=folder)
    assert rows(data.train) == rows(train)
    assert rows(data.test) == rows(test)
    assert data.label_names[:3] == ("airplane", "automobile", "bird")
    source = tfds.data_source("cifar10", data_dir=tmp_path, download=False, split="test")
    np.testing.assert_array_equal(np.stack([e["image"] for e in source]), data.test.images)
    assert sorted(e["id"].decode() for e in source) == [f"test_{i:05d}" for i in range(20)]


def test_our_builders_are_those_of_tfds():
    for name, ours in BUILDERS.items():
        stock = tfds.builder_cls(name)
        assert ours is not stock
        assert (ours.name, ours.VERSION) == (stock.name, stock.VERSION)
        assert ours.url_infos == stock.url_infos
        assert len(ours.url_infos) == (1 if name == "cifar10" else 4)


def test_a_version_may_be_asked_for(kmnist, tmp_path):
    data = load("kmnist:3.*.*", data_dir=tmp_path, manual_dir=kmnist[0])
    assert rows(data.train) == rows(kmnist[1])
    assert "cannot be loaded at version 1.0.0" in error_of("kmnist:1.0.0", data_dir=tmp_path)


def test_a_second_load_needs_neither_originals_nor_tfds(kmnist, tmp_path):
    first = load("kmnist", data_dir=tmp_path, manual_dir=kmnist[0], image_size=32)
    code = (
        "import sys, numpy as np; sys.modules['tensorflow_datasets'] = None\n"
        "from bnn_jax import data\n"
        f"d = data.load('kmnist', data_dir={str(tmp_path)!r}, image_size=32)\n"
        "assert 'grain' not in sys.modules and 'sklearn' not in sys.modules\n"
        "print(d.train.images.shape, int(d.train.images.sum()), d.train.labels[:5].tolist())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    images, labels = first.train.images, first.train.labels[:5].tolist()
    assert result.stdout.strip() == f"(40, 32, 32, 1) {int(images.sum())} {labels}", result.stderr


def test_resized_arrays_are_those_of_the_original_size_resized(kmnist, tmp_path):
    from bnn_jax.data.resize import resize

    small_first = load("kmnist", data_dir=tmp_path / "a", manual_dir=kmnist[0], image_size=14)
    original = load("kmnist", data_dir=tmp_path / "b", manual_dir=kmnist[0])
    small_second = load("kmnist", data_dir=tmp_path / "b", image_size=14)
    for small in (small_first, small_second):
        np.testing.assert_array_equal(small.train.images, resize(original.train.images, 14))
        np.testing.assert_array_equal(small.train.labels, original.train.labels)


def test_the_folder_of_tfds_is_the_default(kmnist, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "here"))
    load("kmnist", manual_dir=kmnist[0])
    assert (tmp_path / "here" / "kmnist" / "3.0.1" / "dataset_info.json").is_file()
    assert (tmp_path / "here" / "bnn_jax" / "kmnist" / "original" / "info.json").is_file()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("minst", "Did you mean 'mnist'?"),
        ("fashion-mnist", "Did you mean 'fashion_mnist'?"),
        ("svhn_croped", "Did you mean 'svhn_cropped'?"),
        ("../mnist", "Did you mean 'mnist'?"),
        ("", "Known names: digits"),
    ],
)
def test_unknown_name(name, hint, tmp_path):
    message = error_of(name, data_dir=tmp_path)
    assert message.startswith(f"Unknown data set {name!r}.")
    assert hint in message
    assert "digits, mnist, fashion_mnist, kmnist, cifar10" in message
    assert not files(tmp_path)


def test_image_size_is_checked_before_anything_else(tmp_path):
    assert "image_size must be a positive integer" in error_of("minst", image_size=-1)


def test_damaged_file(kmnist, tmp_path):
    folder = kmnist[0]
    path = folder / "train-labels-idx1-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    message = error_of("kmnist", data_dir=tmp_path / "data", manual_dir=folder)
    assert "train-labels-idx1-ubyte.gz is damaged" in message
    assert "SHA-256" in message
    path.write_bytes(content[:-3])
    message = error_of("kmnist", data_dir=tmp_path / "data", manual_dir=folder)
    assert f"size is {len(content) - 3} bytes, expected {len(content)}" in message
    assert not files(tmp_path / "data")


def test_missing_file(kmnist, tmp_path):
    folder = kmnist[0]
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    message = error_of("kmnist", data_dir=tmp_path / "data", manual_dir=folder)
    assert f"{folder} lacks t10k-images-idx3-ubyte.gz: download them from http://codh" in message
    message = error_of("kmnist", data_dir=tmp_path / "data", manual_dir=folder / "nowhere")
    assert "manual_dir must be a folder" in message
    assert not (tmp_path / "data").exists()


def test_no_connection(tmp_path):
    start = time.monotonic()
    message = error_of("mnist", data_dir=tmp_path / "data")
    assert time.monotonic() - start < 10.0
    assert message.startswith("No connection to download mnist:")
    assert "train-images-idx3-ubyte.gz" in message
    assert "manual_dir" in message
    assert not (tmp_path / "data").exists()


def test_a_connection_that_hangs(tmp_path, monkeypatch):
    import requests

    over = threading.Event()

    def hang(*args, **kwargs):
        over.wait()
        raise requests.Timeout

    monkeypatch.setattr(requests, "head", hang)
    monkeypatch.setattr(tfds_prepare, "CONNECTION_TIMEOUT", 0.1)
    start = time.monotonic()
    assert "No connection" in error_of("cifar10", data_dir=tmp_path)
    assert time.monotonic() - start < 5.0
    over.set()


def test_download(served, tmp_path):
    train, test = served
    data = load("kmnist", data_dir=tmp_path / "data")
    assert rows(data.train) == rows(train)
    assert rows(data.test) == rows(test)


def test_a_damaged_download(served, kmnist, tmp_path):
    path = kmnist[0] / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(path.read_bytes() + b"more")
    message = error_of("kmnist", data_dir=tmp_path / "data")
    assert message.startswith("Preparing kmnist failed: ")
    assert "wrong checksum" in message
    assert not list((tmp_path / "data" / "kmnist").iterdir())


def test_a_host_that_answers_and_then_does_not_deliver(tmp_path, monkeypatch):
    import requests

    monkeypatch.setattr(requests, "head", lambda *args, **kwargs: requests.Response())
    fail = tfds.download.DownloadError("Failed to get url.\nHTTP code: 404.")

    def download(self, urls):
        raise fail

    monkeypatch.setattr(tfds.download.DownloadManager, "download", download)
    message = error_of("mnist", data_dir=tmp_path)
    assert message == "Preparing mnist failed: Failed to get url. HTTP code: 404."
    assert not files(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (idx(np.zeros((40, 28, 28)))[:-20], "not a gzip file or is damaged"),
        (idx(np.zeros(40)), "not an IDX file of bytes with 3 axes"),
        (gzip.compress(b"<html>not found</html>"), "not an IDX file"),
        (gzip.compress(gzip.decompress(idx(np.zeros((2, 3, 3))))[:-1]), "but 17 values"),
    ],
    # The time is part of a gzip file, and the processes of a test run must agree on the names.
    ids=["cut", "one_axis", "not_idx", "a_byte_short"],
)
def test_a_file_that_is_not_what_it_should_be(content, message, kmnist, tmp_path, monkeypatch):
    (kmnist[0] / "train-images-idx3-ubyte.gz").write_bytes(content)
    register(monkeypatch, "kmnist", kmnist[0])
    assert message in error_of("kmnist", data_dir=tmp_path / "data", manual_dir=kmnist[0])
    assert not files(tmp_path / "data")


def test_an_archive_that_is_not_what_it_should_be(cifar10, tmp_path, monkeypatch):
    path = cifar10[0] / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    register(monkeypatch, "cifar10", cifar10[0])
    message = error_of("cifar10", data_dir=tmp_path / "data", manual_dir=cifar10[0])
    assert "is not CIFAR-10's archive of binary files" in message


def test_interrupted_while_tfds_prepares(kmnist, tmp_path, monkeypatch):
    calls = []
    png = tfds_builders.png

    def interrupted(image):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return png(image)

    monkeypatch.setattr(tfds_builders, "png", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load("kmnist", data_dir=tmp_path / "data", manual_dir=kmnist[0])
    assert not files(tmp_path / "data")
    data = load("kmnist", data_dir=tmp_path / "data", manual_dir=kmnist[0])
    assert rows(data.train) == rows(kmnist[1])


def test_interrupted_while_arrays_are_written(kmnist, tmp_path, monkeypatch):
    load("kmnist", data_dir=tmp_path / "data", manual_dir=kmnist[0])
    before = files(tmp_path / "data")
    calls = []

    def interrupted(image, size):
        calls.append(1)
        if len(calls) == 45:
            raise KeyboardInterrupt
        return image

    with monkeypatch.context() as patch:
        patch.setattr(cache, "resize_one", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load("kmnist", data_dir=tmp_path / "data", image_size=14)
    assert files(tmp_path / "data") == before
    assert load("kmnist", data_dir=tmp_path / "data", image_size=14).train.images.shape[1] == 14


def test_two_writers_of_one_folder(tmp_path):
    path = tmp_path / "original"
    first, second = images_and_labels(0, 12, (4, 4, 1)), images_and_labels(1, 12, (4, 4, 1))
    info = {"name": "mine", "label_names": list("0123456789"), "image_size": None}

    class Overtaken:
        def __len__(self):
            return len(first)

        def __iter__(self):
            cache.write(path, second, second, **info)
            return iter(first)

    cache.write(path, Overtaken(), first, **info)
    kept = cache.read(path)
    np.testing.assert_array_equal(kept.train.images, second.images)
    np.testing.assert_array_equal(kept.test.images, second.images)
    assert [p.name for p in tmp_path.iterdir()] == ["original"]


@pytest.mark.skipif(os.name == "nt", reason="locks are those of POSIX")
def test_one_preparation_at_a_time_and_leftovers_go(tmp_path):
    leftover = tmp_path / f"{cache.TEMPORARY}killed"
    leftover.mkdir()
    (leftover / "train_images.npy").write_bytes(b"half")
    entered = threading.Event()

    def wait_for_lock():
        with cache.lock(tmp_path):
            entered.set()

    waiting = threading.Thread(target=wait_for_lock)
    with cache.lock(tmp_path):
        assert not leftover.exists()
        waiting.start()
        assert not entered.wait(0.2)
    assert entered.wait(5.0)
    waiting.join()


def test_kept_arrays_that_cannot_be_read(kmnist, tmp_path):
    load("kmnist", data_dir=tmp_path, manual_dir=kmnist[0])
    path = tmp_path / "bnn_jax" / "kmnist" / "original" / "test_images.npy"
    path.write_bytes(path.read_bytes()[:200])
    message = error_of("kmnist", data_dir=tmp_path)
    assert f"{path.parent} cannot be read" in message
    assert "delete this folder" in message


def test_a_data_dir_that_is_a_file(kmnist, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of("kmnist", data_dir=tmp_path / "file", manual_dir=kmnist[0])
    assert "Cannot write prepared data to" in message
    assert "data_dir" in message
