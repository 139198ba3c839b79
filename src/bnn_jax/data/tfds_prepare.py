"""From a name to a TFDS builder whose data is on disk, with every obstacle said in one line.

TFDS by itself retries for minutes without a connection, and fails late on a wrong file. So what can
be known is checked before anything is written: the name, the files in manual_dir, the connection.
Importing this module imports TFDS.
"""

import contextlib
import hashlib
import logging
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds

from bnn_jax.data import cache
from bnn_jax.data.arrays import DataError, one_line
from bnn_jax.data.names import PathLike, unknown_name
from bnn_jax.data.tfds_builders import BUILDERS, urls

FILE_FORMAT = (
    "array_record"  # Random access without TensorFlow. TFDS's parquet loses rows silently.
)
CONNECTION_TIMEOUT = 5.0  # seconds
DOWNLOAD_ERRORS = (
    tfds.download.DownloadError,
    tfds.download.download_manager.NonMatchingChecksumError,
)


def prepared_builder(name: str, data_dir: Path, manual_dir: PathLike | None = None) -> Any:
    """The builder of a data set, with its data on disk, readable at random without TensorFlow.

    Raises:
        DataError: the name is unknown, files are missing or damaged, there is no connection, or
            preparing needs TensorFlow.
    """
    builder = _builder(name, data_dir)
    if _is_prepared(builder):
        return _readable(builder)
    originals = None if manual_dir is None else Path(manual_dir).expanduser()
    _check_originals(builder, originals)
    with cache.lock(cache.folder(data_dir, name, None).parent):
        builder = _builder(name, data_dir)  # Another process may have prepared it meanwhile.
        if not _is_prepared(builder):
            _prepare(builder, originals)
    return _readable(builder)


def _builder(name: str, data_dir: Path) -> Any:
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
    """Without TFDS's warnings, which advise on TensorFlow and OpenCV."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _is_prepared(builder: Any) -> bool:
    return (Path(builder.data_dir) / "dataset_info.json").is_file()


def _readable(builder: Any) -> Any:
    formats = {form.value for form in builder.info.available_file_formats()}
    if FILE_FORMAT not in formats:
        raise DataError(
            f"{builder.data_dir} holds {builder.name} as {', '.join(sorted(formats))}, and only "
            f"{FILE_FORMAT} can be read at random without TensorFlow: pass another data_dir."
        )
    return builder


def _prepare(builder: Any, originals: Path | None) -> None:
    config = tfds.download.DownloadConfig(
        manual_dir=originals,
        try_download_gcs=False,
        force_checksums_validation=bool(builder.url_infos),
    )
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    try:
        # TFDS announces itself on stdout, which belongs to the caller.
        with quiet(), contextlib.redirect_stdout(sys.stderr):
            builder.download_and_prepare(download_config=config, file_format=FILE_FORMAT)
    except DataError:
        raise
    except ImportError as error:
        raise _needs_package(builder.name, error) from error
    except (OSError, ValueError, AssertionError, *DOWNLOAD_ERRORS) as error:
        raise DataError(f"Preparing {builder.name} failed: {one_line(error)}") from error


def _check_originals(builder: Any, originals: Path | None) -> None:
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
                f"manual_dir {originals} lacks {', '.join(missing)}: get them from "
                f"{_sources(wanted, missing)}, or leave out manual_dir to download."
            )
    if missing and not _reachable(wanted[missing[0]]):
        raise DataError(
            f"No connection to download {builder.name}. Without one, put {_files(missing)} "
            f"(from {_sources(wanted, missing)}) into a folder and pass it as manual_dir."
        )


def _check_file(path: Path, expected: Any, url: str) -> None:
    size = path.stat().st_size
    if size == expected.size:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found == expected.checksum:
            return
        reason = f"SHA-256 is {found}, expected {expected.checksum}"
    else:
        reason = f"size is {size} bytes, expected {int(expected.size)}"
    raise DataError(f"{path} is damaged or another file: its {reason}. Get it again from {url}.")


def _reachable(url: str) -> bool:
    """Whether the host answers at all. In a thread, as name resolution knows no time limit."""
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
        f"Preparing {name!r} needs the package {package}, which is not installed: pip install "
        f"{package} and prepare it once; from then on it is read without."
    )
