"""Targets of a source as arrays: class numbers, zeros and ones, numbers, or counts.

Without a given task, text, truth values and integers are classes, and other numbers a regression.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from bnn_jax.data.dataset import Task, check_task
from bnn_jax.data.errors import DataError, Place, listed, nearest, shown

Values = Shaped[np.ndarray, "examples ..."]

MAX_CLASSES = 10_000
_LARGEST = np.iinfo(np.int32).max


@dataclasses.dataclass(frozen=True)
class TargetEncoder:
    """How targets become arrays, fixed by the training data.

    Attributes:
        task: what the targets are.
        columns: the number of columns of the targets.
        class_names: of a classification or a binary task; else None.
        numbered: whether the targets are class numbers; else they are class names.
    """

    task: Task
    columns: int
    class_names: tuple[str, ...] | None = None
    numbered: bool = False

    @classmethod
    def fit(
        cls,
        values: Values,
        place: Place,
        *,
        task: Task | None = None,
        class_names: Sequence[str] | None = None,
    ) -> "TargetEncoder":
        """Returns the encoder of training targets (examples,) or (examples, columns).

        Raises:
            DataError: the values do not fit the task; the message names the example and the value.
        """
        check_task(task)
        text = values.dtype.kind in "USO"
        task = task or ("classification" if text or values.dtype.kind in "biu" else "regression")
        if task in ("regression", "counts"):
            if class_names is not None:
                raise DataError(f"class_names are for classes, and the task is {task}: remove one.")
            encoder = cls(task, 1 if values.ndim == 1 else values.shape[1])
        else:
            labels = _one_column(values, place)
            names = _text_names(labels, place) if text else None
            numbered = not text
            if class_names is not None:
                _check_names(class_names)
                names = tuple(class_names)
            elif names is None:
                names = _numbered_names(labels, place, task)
            if len(names) > MAX_CLASSES:
                raise DataError(
                    f"{place} has more than {MAX_CLASSES} classes: set task to regression, or name "
                    "another target."
                )
            if len(names) < 2:
                raise DataError(f"{place} has only one class, {listed(names)}: two are needed.")
            if task == "binary" and len(names) != 2:
                raise DataError(
                    f"{place} has {len(names)} classes ({listed(names, most=5)}), and a binary "
                    "task has 2: set task to classification."
                )
            encoder = cls(task, 1, names, numbered)
        encoder.encode(values, place)
        return encoder

    def encode(self, values: Values, place: Place) -> Values:
        """Returns targets in the form of the task, as `data.dataset` lists them.

        Raises:
            DataError: a value is not of the task, or a class that the training data lacks.
        """
        if self.class_names is None:
            return self._numbers(values, place)
        labels = _one_column(values, place)
        if (labels.dtype.kind in "USO") == self.numbered:
            kind = "class numbers" if self.numbered else "class names"
            raise DataError(f"{place} must hold {kind} as in training, got {shown(labels[0])}.")
        codes = self._class_numbers(labels, place) if self.numbered else self._codes(labels, place)
        return codes[:, None] if self.task == "binary" else codes

    def _numbers(self, values: Values, place: Place) -> Values:
        if values.dtype.kind not in "biuf":
            raise DataError(
                f"{place.at(0)}: the targets of task {self.task} must be numbers, got "
                f"{shown(values.flat[0])}: set task to classification, or name another target."
            )
        matrix = values[:, None] if values.ndim == 1 else values
        if matrix.ndim != 2 or matrix.shape[1] != self.columns:
            raise DataError(
                f"{place} must have shape (examples, {self.columns}), got {values.shape}."
            )
        with np.errstate(over="ignore"):
            single = matrix.astype(np.float32)
        _refuse(~np.isfinite(single), matrix, place, "must be a finite number")
        if self.task == "regression":
            return single
        wrong = (matrix != np.floor(matrix)) | (matrix < 0) | (matrix > _LARGEST)
        _refuse(wrong, matrix, place, "must be a count: a whole number of at least 0")
        return matrix.astype(np.int32)

    def _class_numbers(self, labels: Values, place: Place) -> Values:
        assert self.class_names is not None
        _refuse_non_integers(labels, place)
        wrong = (labels < 0) | (labels >= len(self.class_names))
        rule = f"must be a class number from 0 to {len(self.class_names) - 1}"
        _refuse(wrong, labels, place, rule)
        return labels.astype(np.int32)

    def _codes(self, labels: Values, place: Place) -> Values:
        assert self.class_names is not None
        numbers = {name: i for i, name in enumerate(self.class_names)}
        found = np.array([numbers.get(_word(label), -1) for label in labels], np.int32)
        if (found < 0).any():
            index = int(np.argmax(found < 0))
            word = _word(labels[index])
            raise DataError(
                f"{place.at(index)}: {word!r} is none of the classes of the training data"
                f"{nearest(word, self.class_names)} They are {listed(self.class_names)}."
            )
        return found


def _one_column(values: Values, place: Place) -> Values:
    if values.ndim == 2 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim != 1:
        raise DataError(
            f"{place} must have one class for each example, shape (examples,), got {values.shape}: "
            "convert one-hot labels with argmax(axis=1)."
        )
    return values


def _word(label: object) -> str:
    text = label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
    return text.strip()


def _text_names(labels: Values, place: Place) -> tuple[str, ...]:
    """The names of the classes, in the order of numbers if all are numbers, else alphabetical."""
    words = [_word(label) for label in labels]
    empty = [i for i, word in enumerate(words) if not word]
    if empty:
        raise DataError(f"{place.at(empty[0])}: the label is empty: fill it, or remove the row.")
    names = sorted(set(words))
    try:
        names.sort(key=float)
    except ValueError:
        names.sort()
    return tuple(names)


def _numbered_names(labels: Values, place: Place, task: Task) -> tuple[str, ...]:
    """The names of classes that are numbers: "0", "1", ...; all must occur."""
    if labels.dtype.kind == "b":
        return ("False", "True")
    _refuse_non_integers(labels, place)
    _refuse(labels < 0, labels, place, "must be a class number of at least 0")
    highest = int(labels.max())
    if highest >= MAX_CLASSES:
        index = int(np.argmax(labels))
        raise DataError(
            f"{place.at(index)}: {highest} is not a class number below {MAX_CLASSES}: set task to "
            "regression or counts, or number the classes from 0."
        )
    absent = sorted(set(range(highest + 1)) - set(np.unique(labels).astype(int).tolist()))
    if absent and task != "binary":
        raise DataError(
            f"{place} has the class {highest} but not {absent[0]}: number the classes from 0 "
            "without gaps, or give class_names."
        )
    return tuple(str(i) for i in range(highest + 1))


def _check_names(names: Sequence[str]) -> None:
    if isinstance(names, str) or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"class_names must be a list of names, got {shown(names)}.")
    twice = [name for name in names if list(names).count(name) > 1]
    if twice:
        raise DataError(f"class_names must differ, got {twice[0]!r} twice.")


def _refuse_non_integers(labels: Values, place: Place) -> None:
    if labels.dtype.kind == "f":
        rule = "must be a whole number, for classes (or set task to regression)"
        with np.errstate(invalid="ignore"):
            _refuse(~np.isfinite(labels) | (labels != np.floor(labels)), labels, place, rule)


def _refuse(wrong: Values, values: Values, place: Place, rule: str) -> None:
    """Raises DataError for the first wrong value."""
    if wrong.any():
        index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise DataError(
            f"{place.at(int(index[0]))}: the target {rule}, got {shown(values[index])}."
        )
