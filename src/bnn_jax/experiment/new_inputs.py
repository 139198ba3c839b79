"""Reads the inputs of new examples from a file, in the form of a run's training inputs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from bnn_jax import data
from bnn_jax.config import own
from bnn_jax.data.dataset import Kind
from bnn_jax.data.tables import PARQUET
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.run import Run

TABLES = (".csv", ".tsv", ".txt", *PARQUET)


@dataclasses.dataclass(frozen=True)
class NewInputs:
    """The inputs of new examples.

    Attributes:
        x: (examples, ...), as `Run.predict` takes them.
        files: the name of each image of a folder; None for other sources.
    """

    x: Shaped[np.ndarray, "examples ..."]
    files: Sequence[str] | None = None


def read(run: Run, source: Path) -> NewInputs:
    """Returns the inputs of new examples.

    Args:
        run: the trained run, whose encoder and shapes are used.
        source: a table (CSV or Parquet) for a run on a table; an npz file with an array x; or a
            folder of images for a run on images of bytes.

    Raises:
        RunError: a source of this form does not fit the run.
        DataError: the source cannot be read, or a value is not what it must be.
    """
    source = source.expanduser()
    suffix = source.suffix.lower()
    if source.is_dir():
        return _images(run, source)
    if suffix == ".npz":
        return NewInputs(_npz(run, source))
    encoder = None if isinstance(run.examples, Images | Points) else run.examples.splits.encoder
    if suffix in TABLES and encoder is not None:
        settings = run.config.data
        delimiter = settings.delimiter if isinstance(settings, own.TableData) else ","
        x, _ = data.read_new_table(source, encoder, targets=False, delimiter=delimiter)
        return NewInputs(x)
    raise RunError(f"The input {source} must be {_forms(run)}.")


def _forms(run: Run) -> str:
    """What the inputs of a run may be read from."""
    npz = "an npz file with an array x"
    if isinstance(run.examples, Images):
        return f"a folder of images or {npz}, for the run was trained on images"
    if isinstance(run.examples, Points) or run.examples.splits.encoder is None:
        return f"{npz}, for the run was not trained on a table"
    return f"a table ({', '.join(TABLES)}) or {npz}"


def _images(run: Run, folder: Path) -> NewInputs:
    shape = tuple(run.examples.train[0].shape[1:])
    if run.examples.train[0].dtype != np.uint8 or len(shape) != 3:
        raise RunError(f"The input {folder} is a folder: it must be {_forms(run)}.")
    images, files = data.read_new_images(folder, shape=(shape[0], shape[1], shape[2]))
    return NewInputs(images, files)


def _npz(run: Run, file: Path) -> Shaped[np.ndarray, "examples ..."]:
    inputs = run.examples.train[0]
    kind: Kind = "images" if isinstance(run.examples, Images) else "features"
    if not isinstance(run.examples, Images | Points):
        kind = run.examples.kind
    settings = run.config.data
    return data.read_new_npz(
        file,
        kind=kind,
        shape=tuple(inputs.shape[1:]),
        is_bytes=inputs.dtype == np.uint8,
        inputs=settings.inputs if isinstance(settings, own.NpzData) else None,
    )
