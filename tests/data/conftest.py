"""Originals of small data sets, and no network."""

import functools
import http.server
import io
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from data_helpers import cifar_records, idx, images_and_labels, register

from bnn_jax.data import Examples


@pytest.fixture
def kmnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Examples, Examples]:
    """A folder with four small IDX files that pass for KMNIST's, and what is in them."""
    folder = tmp_path / "originals"
    folder.mkdir()
    train, test = images_and_labels(0, 40, (28, 28, 1)), images_and_labels(1, 20, (28, 28, 1))
    for prefix, part in (("train", train), ("t10k", test)):
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(part.images[..., 0]))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(part.labels))
    register(monkeypatch, "kmnist", folder)
    return folder, train, test


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Examples, Examples]:
    """A folder with a small archive that passes for CIFAR-10's, and what is in it."""
    folder = tmp_path / "originals"
    folder.mkdir()
    train, test = images_and_labels(0, 50, (32, 32, 3)), images_and_labels(1, 20, (32, 32, 3))
    parts = {f"data_batch_{i + 1}.bin": slice(10 * i, 10 * i + 10) for i in range(5)}
    files = {name: cifar_records(train, part) for name, part in parts.items()}
    files["test_batch.bin"] = cifar_records(test, slice(None))
    names = "airplane automobile bird cat deer dog frog horse ship truck"
    files["batches.meta.txt"] = names.replace(" ", "\n").encode() + b"\n\n"
    files["readme.html"] = b"<html></html>"
    with tarfile.open(folder / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    register(monkeypatch, "cifar10", folder)
    return folder, train, test


@pytest.fixture
def served(
    kmnist: tuple[Path, Examples, Examples], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Examples, Examples]]:
    """The small KMNIST to download, from this machine."""
    from bnn_jax.data.tfds_builders import BUILDERS

    folder, train, test = kmnist
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        infos = {f"{address}/{i.filename}": i for i in BUILDERS["kmnist"].url_infos.values()}
        monkeypatch.setattr(BUILDERS["kmnist"], "url_infos", infos)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield train, test
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is offline, as a refused connection would have it, but for `served`."""
    if "served" in request.fixturenames:
        return
    import requests

    def refuse(*args: object, **kwargs: object) -> None:
        raise requests.ConnectionError("no network in tests")

    monkeypatch.setattr(requests, "head", refuse)
    monkeypatch.setattr(requests.Session, "request", refuse)
