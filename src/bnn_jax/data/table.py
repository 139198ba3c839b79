"""A table of named columns, as read from a file, and the checks of a column's values."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Bool, Float, Shaped

from bnn_jax.data.errors import DataError, Place, listed, nearest, shown

Text = Shaped[np.ndarray, " rows"]
Numbers = Float[np.ndarray, " rows"]

# Text that stands for a missing value, in lower case.
MISSING = ("", "na", "n/a", "nan", "null", "?")
_TRUTH = {"true": 1.0, "false": 0.0}


@dataclasses.dataclass(frozen=True)
class Column:
    """A named column.

    Attributes:
        name: the column's name.
        place: its place in the file.
        values: an array of text (dtype object), or float64 with NaN for missing values.
        integer: of numbers, whether the file has them as integers.
    """

    name: str
    place: Place
    values: Shaped[np.ndarray, " rows"]
    integer: bool = False

    @property
    def is_text(self) -> bool:
        return self.values.dtype == object

    @functools.cached_property
    def missing(self) -> Bool[np.ndarray, " rows"]:
        """Whether each value is missing: empty, or one of `MISSING`."""
        if not self.is_text:
            return np.isnan(self.values)
        return np.array([word.strip().lower() in MISSING for word in self.values], bool)

    def texts(self) -> Text:
        """Returns the values as text."""
        if self.is_text:
            return np.array([word.strip() for word in self.values], object)
        as_text = (lambda v: str(int(v))) if self.integer else (lambda v: repr(float(v)))
        return np.array(["" if np.isnan(v) else as_text(v) for v in self.values], object)

    def numbers(self, *, cure: str = "correct it") -> Numbers:
        """Returns the values as float64, NaN where they are missing; true is 1 and false is 0.

        Args:
            cure: what the message of an error advises.

        Raises:
            DataError: a value is not a number, or infinite.
        """
        numbers = self._parsed
        if numbers is None:
            raise self._not_a_number(cure)
        # Beyond float32, which the network computes in, a number would become infinite.
        with np.errstate(over="ignore"):
            wrong = np.isinf(numbers.astype(np.float32))
        if wrong.any():
            index = int(np.argmax(wrong))
            raise DataError(
                f"{self.place.at(index)}: the number must be finite in float32, got "
                f"{shown(self.values[index])}: correct it, or leave it empty."
            )
        return numbers

    @functools.cached_property
    def _parsed(self) -> Numbers | None:
        """The values as numbers, infinite ones too; None if one is not a number."""
        if not self.is_text:
            return self.values
        present = self.values[~self.missing]
        numbers = np.full(len(self.values), np.nan)
        try:
            numbers[~self.missing] = present.astype(np.float64)
        except ValueError:
            words = [word.strip().lower() for word in present]
            if not set(words) <= set(_TRUTH):
                return None
            numbers[~self.missing] = [_TRUTH[word] for word in words]
        return numbers

    def _not_a_number(self, cure: str) -> DataError:
        for index, word in enumerate(self.values):
            if not self.missing[index] and not is_number(word):
                break
        hint = cure
        if is_number(word.replace(",", ".", 1)):
            hint = "write a decimal point"
        elif is_number(word.replace(",", "")):
            hint = "leave the thousands separators out"
        return DataError(
            f"{self.place.at(index)}: the value must be a number, got {shown(word)}: {hint}."
        )


@dataclasses.dataclass(frozen=True)
class Table:
    """Named columns of equal length, at least 1.

    Attributes:
        file: the file that it was read from.
        columns: {name: column}, in the order of the file.
    """

    file: str
    columns: Mapping[str, Column]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())).values)

    def column(self, name: str) -> Column:
        """Returns a column by name.

        Raises:
            DataError: there is none.
        """
        if name not in self.columns:
            raise no_column(self.file, name, self.columns)
        return self.columns[name]


def no_column(file: str, name: str, known: Iterable[str]) -> DataError:
    """Returns the error for a column that a file lacks."""
    known = list(known)
    return DataError(
        f"{file} has no column {name!r}{nearest(name, known)} It has the columns {listed(known)}."
    )


def check_header(file: str, names: list[str], *, delimiter: str = "") -> None:
    """Raises DataError for columns without a name, or of the same name, or for a missing header."""
    for position, name in enumerate(names, start=1):
        if not name:
            raise DataError(
                f"{file}, line 1: column {position} has no name: name it, or remove the column."
            )
        if names.index(name) + 1 != position:
            raise DataError(
                f"{file}, line 1: columns {names.index(name) + 1} and {position} have the same "
                f"name {name!r}: rename one."
            )
    if all(is_number(name) for name in names):
        raise DataError(
            f"{file}, line 1: the first line must name the columns, got {listed(names, most=5)}."
        )
    others = [mark for mark in (",", ";", "\t", "|") if delimiter not in ("", mark)]
    if len(names) == 1 and (mark := next((m for m in others if m in names[0]), None)):
        raise DataError(
            f"{file}, line 1: one column {shown(names[0])} with the delimiter {delimiter!r}: set "
            f"delimiter to {mark!r}."
        )


def is_number(word: str) -> bool:
    """Returns whether a word is a number as Python reads it."""
    try:
        float(word)
    except ValueError:
        return False
    return True
