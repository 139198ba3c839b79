"""Preparing a TFDS data set on disk, with errors of one line.

Without a connection, TFDS retries for minutes, and it detects a wrong file late. So the name, the
files in manual_dir and the connection are checked before anything is written. Importing this module
imports TFDS.
"""

import contextlib
import hashlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import tensorflow_datasets as tfds

from bnn_jax._extras import optional_import
from bnn_jax.data import cache
from bnn_jax.data.errors import DataError, one_line
from bnn_jax.data.names import PathLike, unknown_name
from bnn_jax.data.tfds_builders import BUILDERS, urls

# Random access without TensorFlow. TFDS's parquet files silently lose rows.
FILE_FORMAT = "array_record"
CONNECTION_TIMEOUT = 5.0  # seconds
DOWNLOAD_ERRORS = (
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
)


def prepared_builder(
    name: str, data_dir: Path, manual_dir: PathLike | None = None
) -> tfds.core.DatasetBuilder:
    """Returns the builder of a prepared data set, with random access without TensorFlow.

    Raises:
        DataError: the name is unknown, files are missing or damaged, there is no connection, or
            preparation needs TensorFlow.
    """
    builder = _builder(name, data_dir)
    if _is_prepared(builder):
        return _readable(builder)
    originals = None if manual_dir is None else Path(manual_dir).expanduser()
    _check_originals(builder, originals)
    with cache.lock(cache.folder(data_dir, name, None).parent):
        builder = _builder(name, data_dir)  # Another process may have prepared it.
        if not _is_prepared(builder):
            _prepare(builder, originals)
    return _readable(builder)


def _builder(name: str, data_dir: Path) -> tfds.core.DatasetBuilder:
    try:
        known, _, version = name.partition(":")
        if known in BUILDERS:
            return BUILDERS[known](data_dir=data_dir, version=version or None)
        return tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError:
        raise unknown_name(name, tfds.list_builders(with_community_datasets=False)) from None
    except ImportError as error:
        raise _needs_package(name, error) from error
    except (ValueError, AssertionError, RuntimeError) as error:
        raise DataError(f"TFDS cannot open {name!r}: {one_line(error)}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences TFDS's warnings, which recommend TensorFlow and OpenCV."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_prepared(builder: tfds.core.DatasetBuilder) -> bool:
    return (Path(builder.data_dir) / "dataset_info.json").is_file()


def _readable(builder: tfds.core.DatasetBuilder) -> tfds.core.DatasetBuilder:
    formats = {form.value for form in builder.info.available_file_formats()}
    if FILE_FORMAT not in formats:
        raise DataError(
            f"{builder.data_dir} has {builder.name} only as {', '.join(sorted(formats))}; random "
            f"access without TensorFlow needs {FILE_FORMAT}: pass another data_dir."
        )
    return builder


def _prepare(builder: tfds.core.DatasetBuilder, originals: Path | None) -> None:
    config = tfds.download.DownloadConfig(
        manual_dir=originals,
        try_download_gcs=False,
        force_checksums_validation=bool(builder.url_infos),
    )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        # TFDS prints to stdout, which belongs to the caller.
        with quiet(), contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_config=config, file_format=FILE_FORMAT)
    except DataError:
        raise
    except ImportError as error:
        raise _needs_package(builder.name, error) from error
    except (OSError, ValueError, AssertionError, *DOWNLOAD_ERRORS) as error:
        raise DataError(f"Preparing {builder.name} failed: {one_line(error)}") from error


def _check_originals(builder: tfds.core.DatasetBuilder, originals: Path | None) -> None:
    if originals is not None and not originals.is_dir():
        raise DataError(f"manual_dir must be a folder with the original files, got {originals}.")
    wanted = urls(builder)
    missing = list(wanted)
    if originals is not None:
        missing = [name for name in wanted if not (originals / name).is_file()]
        for name in set(wanted) - set(missing):
            _check_file(originals / name, builder.url_infos[wanted[name]], wanted[name])
        if missing and builder.name in BUILDERS:
            raise DataError(
                f"manual_dir {originals} lacks {', '.join(missing)}: download them from "
                f"{_sources(wanted, missing)}, or omit manual_dir."
            )
    if missing and not _reachable(wanted[missing[0]]):
        raise DataError(
            f"No connection to download {builder.name}: put {_files(missing)} (from "
            f"{_sources(wanted, missing)}) into a folder and pass it as manual_dir."
        )


def _check_file(path: Path, expected: tfds.core.download.checksums.UrlInfo, url: str) -> None:
    size = path.stat().st_size
    if size == expected.size:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == expected.checksum:
            return
        reason = f"SHA-256 is {found}, expected {expected.checksum}"
    else:
        reason = f"size is {size} bytes, expected {int(expected.size)}"
    raise DataError(
        f"{path} is damaged or a different file: its {reason}. Download it again from {url}."
    )


def _reachable(url: str) -> bool:
    """Returns whether the host answers; in a thread, since name resolution has no time limit."""
    with optional_import("Downloading a data set"):
        import requests

    answers: list[int] = []

    def ask() -> None:
        with contextlib.suppress(requests.RequestException):
            response = requests.head(url, timeout=CONNECTION_TIMEOUT, allow_redirects=False)
            answers.append(response.status_code)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECTION_TIMEOUT + 1.0)
    return bool(answers)


def _files(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"its {len(names)} original files"


def _sources(wanted: dict[str, str], names: list[str]) -> str:
    return ", ".join(sorted({wanted[name].rpartition("/")[0] + "/" for name in names[:6]}))


def _needs_package(name: str, error: ImportError) -> DataError:
    package = (error.name or "tensorflow").partition(".")[0]
    return DataError(
        f"Preparing {name!r} needs the package {package}, which is not installed: run pip install "
        f"{package}. Only preparation needs it."
    )
