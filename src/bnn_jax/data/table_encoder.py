"""The encoding of a table's columns as arrays, fixed by the training data.

A column of numbers is one feature. A categorical column has one feature for each category of the
training file, 1 for the row's own and 0 for the others. The encoder can be saved as JSON, so that
new files are encoded in the same way.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, PyTree

from bnn_jax.data.dataset import Dataset, Task, check_task
from bnn_jax.data.errors import DataError, Place, listed, nearest, shown
from bnn_jax.data.input_columns import InputColumn, fit_column, rules_of
from bnn_jax.data.table import Column, Table, is_number
from bnn_jax.data.targets import TargetEncoder, Values


@dataclasses.dataclass(frozen=True)
class TableEncoder:
    """How a table becomes inputs and targets.

    Attributes:
        inputs: the columns of the inputs.
        targets: the names of the columns of the targets.
        target: how the targets become an array.
    """

    inputs: tuple[InputColumn, ...]
    targets: tuple[str, ...]
    target: TargetEncoder

    @classmethod
    def fit(
        cls,
        table: Table,
        *,
        targets: str | Sequence[str],
        inputs: Sequence[str] | None = None,
        categorical: Sequence[str] = (),
        missing: str | Mapping[str, str] = "error",
        task: Task | None = None,
        class_names: Sequence[str] | None = None,
        rows: np.ndarray | None = None,
    ) -> "TableEncoder":
        """Returns the encoder of a training table.

        Args:
            table: the training table.
            targets: the name of the target, or names.
            inputs: the names of the inputs; by default all columns but the targets.
            categorical: the inputs whose values are categories.
            missing: what to do with missing values of inputs: refuse them, or put the mean, the
                median or the most frequent value in their place; one rule, or {input: rule}.
            task: what the targets are; by default classes for text, a regression for numbers with
                decimals. Integers need it.
            class_names: the classes in their order; by default all in the table, sorted.
            rows: the rows that the filled-in values come from; by default all. Categories and
                classes always come from the whole table.

        Raises:
            DataError: a column does not exist, or its values are not what they must be.
        """
        targets = (targets,) if isinstance(targets, str) else tuple(targets)
        names = _input_names(table, inputs, targets, categorical)
        rules = rules_of(missing, names)
        columns = tuple(
            fit_column(table.column(n), is_category=n in categorical, rule=rules[n], rows=rows)
            for n in names
        )
        found = [table.column(name) for name in targets]
        check_task(task)
        check_present(found)
        task = task or _task_of(found)
        values, place = _target_values(found, task)
        target = TargetEncoder.fit(values, place, task=task, class_names=class_names)
        return cls(columns, targets, target)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the features, such as "age" and "color=red"."""
        return tuple(feature for column in self.inputs for feature in column.features)

    def encode_inputs(self, table: Table) -> Float[np.ndarray, "rows features"]:
        """Returns the features of a table, float32; other columns are ignored.

        Raises:
            DataError: a column or a value is missing, or a value is not what it must be.
        """
        return np.concatenate([c.encode(table.column(c.name)) for c in self.inputs], axis=1)

    def encode_targets(self, table: Table) -> Values:
        """Returns the targets of a table, in the form that `data.dataset` lists for the task.

        Raises:
            DataError: as for `encode_inputs`.
        """
        columns = [table.column(name) for name in self.targets]
        check_present(columns)
        values, place = _target_values(columns, self.target.task)
        return self.target.encode(values, place)

    def has_targets(self, table: Table) -> bool:
        """Returns whether a table has all columns of the targets, and values in them."""
        columns = [table.columns[name] for name in self.targets if name in table.columns]
        return len(columns) == len(self.targets) and not all(c.missing.all() for c in columns)

    def dataset(self, table: Table) -> Dataset:
        """Returns the inputs and targets of a table."""
        return Dataset(
            self.encode_inputs(table),
            self.encode_targets(table),
            self.target.task,
            input_names=self.input_names,
            target_names=self.targets,
            class_names=self.target.class_names,
        )

    def to_json(self) -> dict[str, PyTree]:
        """Returns the encoder as a dictionary that `json.dump` can write."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, PyTree]) -> "TableEncoder":
        """Returns the encoder that `to_json` wrote.

        Raises:
            DataError: the dictionary is not of this form.
        """
        try:
            columns = tuple(
                InputColumn(c["name"], _tuple(c["categories"]), c["fill"]) for c in saved["inputs"]
            )
            target = {**saved["target"], "class_names": _tuple(saved["target"]["class_names"])}
            return cls(columns, tuple(saved["targets"]), TargetEncoder(**target))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"This is no saved table encoder ({type(error).__name__}: {error}): write one with "
                "json.dump(encoder.to_json(), file)."
            ) from error


def _tuple(names: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else tuple(names)


def _input_names(
    table: Table,
    inputs: Sequence[str] | None,
    targets: tuple[str, ...],
    categorical: Sequence[str],
) -> list[str]:
    if not targets:
        raise DataError(f"targets must name at least one column of {table.file}.")
    for role, given in (("inputs", inputs), ("categorical", categorical)):
        if isinstance(given, str):
            raise DataError(f"{role} must be a list of columns, got {given!r}: write [{given}].")
    names = [n for n in table.columns if n not in targets] if inputs is None else list(inputs)
    if not names:
        raise DataError(f"{table.file} has no columns but the targets {listed(targets)}.")
    for name in [*targets, *names]:
        table.column(name)
    for role, given in (("inputs", names), ("targets", targets), ("categorical", categorical)):
        twice = [name for i, name in enumerate(given) if name in given[:i]]
        if twice:
            raise DataError(f"{role} names the column {twice[0]!r} twice: remove one.")
    both = [name for name in names if name in targets]
    if both:
        raise DataError(f"The column {both[0]!r} is both an input and a target: remove one.")
    for name in categorical:
        if name not in names:
            raise DataError(
                f"The categorical column {name!r} is not among the inputs{nearest(name, names)} "
                f"They are {listed(names)}."
            )
    return names


def check_present(columns: list[Column]) -> None:
    """Raises DataError for the first missing value of columns of targets."""
    for column in columns:
        missing = column.missing
        if missing.any():
            raise DataError(
                f"{column.place.at(int(np.argmax(missing)))}: the target is missing: fill it, or "
                "remove the row."
            )


def _task_of(columns: list[Column]) -> Task:
    """The task of targets for which none is given."""
    if len(columns) > 1:
        return "regression"
    (column,) = columns
    words = column.texts()
    numbers = [is_number(word) for word in words]
    if not any(numbers):
        return "classification"
    if not all(numbers):
        index = numbers.index(not numbers[0])
        raise DataError(
            f"{column.place.at(index)}: {shown(words[index])} after {shown(words[0])}: correct it, "
            "or set task to classification."
        )
    if all(word.lstrip("+-").isdigit() for word in words):
        raise DataError(
            f"{column.place} holds integers, such as {words[0]}: set task to classification, "
            "regression or counts."
        )
    return "regression"


def _target_values(columns: list[Column], task: Task) -> tuple[Values, Place]:
    """Class names as text, or numbers (rows, columns)."""
    if task in ("classification", "binary"):
        if len(columns) > 1:
            raise DataError(
                f"The task {task} has one target column, got {listed(c.name for c in columns)}: "
                "name one, or set task to regression."
            )
        return columns[0].texts(), columns[0].place
    cure = "correct it, or set task to classification"
    numbers = np.stack([column.numbers(cure=cure) for column in columns], axis=1)
    first = columns[0].place
    part = first.part if len(columns) == 1 else f"columns {listed(c.name for c in columns)}"
    return numbers, dataclasses.replace(first, part=part)
