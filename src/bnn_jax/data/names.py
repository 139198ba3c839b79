"""The names of data sets, and where prepared data is kept."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bnn_jax.data.arrays import DataError
from bnn_jax.data.curves import CURVES

# These need no TensorFlow to be prepared. Every other name is a TFDS one.
KNOWN = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10")

PathLike = str | os.PathLike[str]


def default_data_dir() -> Path:
    """$TFDS_DATA_DIR, or else ~/tensorflow_datasets: where TFDS itself keeps its data."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def resolve_data_dir(data_dir: PathLike | None) -> Path:
    return default_data_dir() if data_dir is None else Path(data_dir).expanduser()


def check_name(name: str) -> None:
    """Raises DataError for what cannot be a name of images: it becomes part of a path."""
    if isinstance(name, str) and name in CURVES:
        raise DataError(
            f"{name} is a curve and has no images: name one of {', '.join(KNOWN)}, or draw its "
            f"points by data.CURVES[{name!r}].draw(count, seed=0)."
        )
    if not isinstance(name, str) or not re.fullmatch(r"\w+(/\w[\w.-]*)?(:[\d.*]+)?", name):
        raise unknown_name(name)


def unknown_name(name: object, others: Iterable[str] = ()) -> DataError:
    """The error for a name that nobody knows; lists the known ones and the nearest."""
    near = difflib.get_close_matches(str(name).lower(), [*KNOWN, *CURVES, *others], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DataError(
        f"Unknown data set {name!r}.{hint} Known: {', '.join(KNOWN)}, and every image "
        "classification set of TensorFlow Datasets."
    )
