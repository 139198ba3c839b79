"""The names of data sets, and the folder of prepared data."""

import difflib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from bnn_jax.data.curves import CURVES
from bnn_jax.data.errors import DataError

# Prepared without TensorFlow. Every other name is looked up in TFDS.
KNOWN = ("digits", "mnist", "fashion_mnist", "kmnist", "cifar10")

PathLike = str | os.PathLike[str]


def default_data_dir() -> Path:
    """Returns $TFDS_DATA_DIR if set, else ~/tensorflow_datasets, as TFDS does."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def resolve_data_dir(data_dir: PathLike | None) -> Path:
    return default_data_dir() if data_dir is None else Path(data_dir).expanduser()


def check_name(name: str) -> None:
    """Raises DataError unless name can be that of an image data set; it becomes part of a path."""
    if isinstance(name, str) and name in CURVES:
        raise DataError(
            f"{name} is a curve, not a set of images: use one of {', '.join(KNOWN)}, or draw its "
            f"points with data.CURVES[{name!r}].draw(count, seed=0)."
        )
    if not isinstance(name, str) or not re.fullmatch(r"\w+(/\w[\w.-]*)?(:[\d.*]+)?", name):
        raise unknown_name(name)


def unknown_name(name: object, others: Iterable[str] = ()) -> DataError:
    """Returns the error for an unknown name, with the known names and the closest one."""
    near = difflib.get_close_matches(str(name).lower(), [*KNOWN, *CURVES, *others], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return DataError(
        f"Unknown data set {name!r}.{hint} Known names: {', '.join(KNOWN)}, and every image "
        "classification set of TensorFlow Datasets."
    )
