"""Checks of a data file before it is read: it exists, is not empty, and is not too large."""

from pathlib import Path

from bnn_jax.data.errors import DataError, nearest
from bnn_jax.data.names import PathLike

MAX_BYTES = 2**32  # of arrays in memory
MAX_TEXT_BYTES = 2**30  # of a text file, whose values take several times as much memory


def checked_file(file: PathLike, *, kind: str, max_bytes: int | None = None) -> Path:
    """Returns the path of a file that can be read.

    Args:
        file: the path; ~ is the home folder.
        kind: what it must be, such as "a CSV file".
        max_bytes: the largest size of the file; None for no limit.

    Raises:
        DataError: it does not exist, is a folder, is empty or is too large.
    """
    path = Path(file).expanduser()
    if path.is_dir():
        raise DataError(f"{path} is a folder: name {kind}.")
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"{path} does not exist: there is no folder {path.parent}.")
        names = [other.name for other in sorted(path.parent.iterdir())]
        raise DataError(f"{path} does not exist{nearest(path.name, names)}")
    check_size(path, path.stat().st_size, max_bytes)
    return path


def check_size(path: Path, size: int, max_bytes: int | None) -> None:
    """Raises DataError if a file of this size is empty or larger than max_bytes."""
    if size == 0:
        raise DataError(f"{path} is empty.")
    if max_bytes is not None and size > max_bytes:
        raise DataError(
            f"{path} has {size} bytes, more than max_bytes={max_bytes}: raise max_bytes, use fewer "
            "examples, or read it in batches with data.stream."
        )
