"""A data set of a supervised task as arrays, in one to three parts: what every own source returns.

| task | targets | likelihoods |
| --- | --- | --- |
| classification | int32 (examples,), class numbers from 0 | Categorical |
| binary | int32 (examples, 1), 0 or 1 | Bernoulli |
| regression | float32 (examples, outputs) | Normal, StudentT |
| counts | int32 (examples, outputs), at least 0 | Poisson |
"""

import dataclasses
from typing import Any, Literal

import numpy as np
from jaxtyping import Shaped

from bnn_jax.data.errors import DataError
from bnn_jax.data.streamed import Streamed

Task = Literal["classification", "binary", "regression", "counts"]
Kind = Literal["features", "images", "tokens"]
TASKS: tuple[Task, ...] = ("classification", "binary", "regression", "counts")
KINDS: tuple[Kind, ...] = ("features", "images", "tokens")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Inputs and targets of the examples of one part of a data set.

    Attributes:
        inputs: (examples, ...): features float32; images uint8 or float32 (examples, height, width,
            channels); tokens int32 (examples, length).
        targets: as the table at the head of this file says.
        task: what the targets are.
        kind: what the inputs are.
        input_names: a name for each feature, such as "color=red"; None where they have none.
        target_names: a name for each column of the targets.
        class_names: a name for each class; None for regression and counts.
    """

    inputs: Shaped[np.ndarray, "examples ..."]
    targets: Shaped[np.ndarray, "examples ..."]
    task: Task
    kind: Kind = "features"
    input_names: tuple[str, ...] | None = None
    target_names: tuple[str, ...] = ("y",)
    class_names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_outputs(self) -> int:
        """The number of classes of a classification, else the number of columns of the targets."""
        if self.task == "classification":
            assert self.class_names is not None
            return len(self.class_names)
        return int(self.targets.shape[1])

    def rows(self, index: np.ndarray | slice) -> "Dataset":
        """Returns the data set of these examples."""
        return dataclasses.replace(self, inputs=self.inputs[index], targets=self.targets[index])


@dataclasses.dataclass(frozen=True)
class Splits:
    """The parts of a data set.

    Attributes:
        train: the examples to train on.
        validation: those to choose settings by; None if there are none.
        test: those to report scores of; None if there are none.
        encoder: for tables, the `TableEncoder` that encodes new files in the same way.
        source: the file or folder.
        stream: all training examples, if `train` has only a sample of them.
    """

    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None
    encoder: Any = None
    source: str = "arrays"
    stream: Streamed | None = None


def check_task(task: str | None) -> None:
    """Raises DataError unless task is None or one of `TASKS`."""
    if task is not None and task not in TASKS:
        raise DataError(f"task must be one of {', '.join(TASKS)}, got {task!r}.")
