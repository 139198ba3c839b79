"""The examples of a run on own data: arrays with the names of their columns and classes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from bnn_jax import data
from bnn_jax.config import own
from bnn_jax.data.dataset import Dataset, Kind, Splits, Task
from bnn_jax.data.streamed import Streamed
from bnn_jax.experiment.folder import RunError

Values = Shaped[np.ndarray, "..."]
Pair = tuple[Values, Values]

HELD_OUT = 0.1  # the share of the examples, where neither settings nor source have another part


@dataclasses.dataclass(frozen=True)
class Arrays:
    """The run's own data in their own units.

    Attributes:
        train, held_out: inputs and targets; `train` is a sample if the examples are streamed.
        held_out_name: "test" or "validation".
        splits: the data set with all its parts and names.
        standardize: whether features, and the targets of a regression, are standardised.
    """

    train: Pair
    held_out: Pair
    held_out_name: str
    splits: Splits
    standardize: bool

    @property
    def task(self) -> Task:
        return self.splits.train.task

    @property
    def kind(self) -> Kind:
        return self.splits.train.kind

    @property
    def num_outputs(self) -> int:
        """The number of classes, or of columns of the targets."""
        return self.splits.train.num_outputs

    @property
    def stream(self) -> Streamed | None:
        """The training examples, if `train` has only a sample of them."""
        return self.splits.stream

    @property
    def num_train(self) -> int:
        return len(self.train[1] if self.stream is None else self.stream)

    def as_inputs(self, x: Array) -> Array:
        """Returns inputs of the network: images of bytes in [0, 1], all else as it is."""
        return x.astype(jnp.float32) / 255.0 if x.dtype == jnp.uint8 else x


LIKELIHOODS: dict[str, tuple[str, ...]] = {
    "classification": ("categorical",),
    "binary": ("bernoulli",),
    "regression": ("normal", "student_t"),
    "counts": ("poisson", "normal"),
}


def read(settings: own.OwnData, *, seed: int) -> Splits:
    """Returns the data set of a data section, with at least one part held out.

    Raises:
        DataError: the data cannot be read, or have a value that does not fit.
        UserCodeError: the user's function fails.
    """
    splits = _read(settings, seed)
    if splits.stream is not None:
        if splits.validation is None and splits.test is None:
            raise RunError(
                f"data.stream needs held-out examples, and {splits.source} has none: return a part "
                "'test', or set data.test to a number of examples."
            )
        return splits
    if splits.validation is None and splits.test is None:
        splits = data.split(splits, test=HELD_OUT, seed=seed)
    return splits


def _read(settings: own.OwnData, seed: int) -> Splits:
    given = settings.model_dump(
        exclude={"format", "standardize", "augment", "path", "file", "folder"}
    )
    given = {name: value for name, value in given.items() if value is not None} | {"seed": seed}
    if isinstance(settings, own.TableData):
        return data.read_table(settings.path, **given)
    if isinstance(settings, own.NpzData):
        return data.read_npz(settings.path, **given)
    if isinstance(settings, own.ImageFolder):
        return data.read_image_folder(settings.path, **given)
    if isinstance(settings, own.PythonData):
        return data.read_python(settings.file, **given)
    if isinstance(settings, own.HuggingFaceData):
        return data.read_huggingface(settings.path, **given)
    assert isinstance(settings, own.UciData)
    if settings.split == "all":
        raise RunError("data.split is all, and one run needs a single split: set data.split=0.")
    train, test = data.uci(settings.name, split=settings.split, folder=settings.folder)
    parts = (Dataset(x, y, "regression") for x, y in (train, test))
    splits = Splits(next(parts), test=next(parts), source=settings.title)
    return data.split(splits, validation=settings.validation, test=settings.test, seed=seed)


def load(settings: own.OwnData, *, likelihood: str, seed: int) -> Arrays:
    """Returns the examples of a data section.

    Raises:
        DataError, UserCodeError: the data cannot be read.
        RunError: the likelihood is not one for the targets.
    """
    splits = read(settings, seed=seed)
    task = splits.train.task
    if likelihood not in LIKELIHOODS[task]:
        raise RunError(
            f"likelihood {likelihood} does not fit the targets of {splits.source}, which are a "
            f"{task}: set likelihood={{name: {LIKELIHOODS[task][0]}}}, or data.task."
        )
    if settings.augment is not None and splits.train.kind != "images":
        raise RunError(
            f"data.augment is for images, and the inputs of {splits.source} are "
            f"{splits.train.kind}: remove it."
        )
    standardize = settings.standardize and splits.train.kind == "features"
    if standardize and splits.stream is not None:
        raise RunError(
            "data.standardize needs the statistics of all training examples, and data.stream reads "
            "them one by one: scale them in your function, and set data.standardize=false."
        )
    held_out = splits.validation or splits.test
    assert held_out is not None
    return Arrays(
        train=(splits.train.inputs, splits.train.targets),
        held_out=(held_out.inputs, held_out.targets),
        held_out_name="validation" if splits.validation is not None else "test",
        splits=splits,
        standardize=standardize,
    )
