"""The columns of a table that are inputs: numbers, or categories as zeros and ones."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from bnn_jax.data.errors import DataError, listed, nearest, shown
from bnn_jax.data.table import Column

MISSING_RULES = ("error", "mean", "median", "most_frequent")

MAX_CATEGORIES = 1000


@dataclasses.dataclass(frozen=True)
class InputColumn:
    """How one column of a table becomes features.

    Attributes:
        name: the column's name.
        categories: of a categorical column; None for numbers.
        fill: what takes the place of a missing value; None refuses it.
    """

    name: str
    categories: tuple[str, ...] | None = None
    fill: float | str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The names of the features."""
        if self.categories is None:
            return (self.name,)
        return tuple(f"{self.name}={category}" for category in self.categories)

    def encode(self, column: Column) -> Float[np.ndarray, "rows features"]:
        """Returns the features of a column, float32.

        Raises:
            DataError: a value is missing, is not a number, or is a category that the training file
                lacks.
        """
        missing = column.missing
        if missing.any() and self.fill is None:
            index = int(np.argmax(missing))
            raise DataError(
                f"{column.place.at(index)}: the value is missing: fill it, or set missing to "
                f"{'mean or median' if self.categories is None else 'most_frequent'}."
            )
        if self.categories is None:
            numbers = column.numbers(cure=_CURE)
            if self.fill is not None:
                numbers = np.where(missing, float(self.fill), numbers)
            return numbers[:, None].astype(np.float32)
        codes = {category: i for i, category in enumerate(self.categories)}
        words = column.texts()
        words[missing] = self.fill
        chosen = np.array([codes.get(word, -1) for word in words])
        if (chosen < 0).any():
            index = int(np.argmax(chosen < 0))
            word = str(words[index])
            raise DataError(
                f"{column.place.at(index)}: {shown(word)} is none of the categories of the "
                f"training file{nearest(word, codes)} They are {listed(codes)}."
            )
        features = np.zeros((len(words), len(codes)), np.float32)
        features[np.arange(len(words)), chosen] = 1.0
        return features


def rules_of(missing: str | Mapping[str, str], names: list[str]) -> dict[str, str]:
    """Returns the rule for missing values of each input.

    Raises:
        DataError: an unknown rule, or a name that is not among the inputs.
    """
    given = dict(missing) if isinstance(missing, Mapping) else dict.fromkeys(names, missing)
    for name, rule in given.items():
        if rule not in MISSING_RULES:
            raise DataError(f"missing must be one of {', '.join(MISSING_RULES)}, got {rule!r}.")
        if name not in names:
            raise DataError(
                f"missing names {name!r}, which is not among the inputs{nearest(name, names)} They "
                f"are {listed(names)}."
            )
    return {name: given.get(name, "error") for name in names}


def fit_column(
    column: Column, *, is_category: bool, rule: str, rows: np.ndarray | None
) -> InputColumn:
    """Returns how the column of a training table is encoded.

    Args:
        column: the column.
        is_category: whether its values are categories.
        rule: what to do with missing values.
        rows: the rows that the filled-in value comes from; None for all.

    Raises:
        DataError: the column has no values, a value is not a number, there are too many
            categories, or the rule does not apply to them.
    """
    missing = column.missing
    if missing.all():
        raise DataError(f"{column.place} has no values: leave it out of the inputs.")
    chosen = np.arange(len(missing)) if rows is None else rows
    present = chosen[~missing[chosen]]
    if rule != "error" and not len(present):
        raise DataError(
            f"{column.place} has no values in the training part: leave it out of the inputs."
        )
    if not is_category:
        numbers = column.numbers(cure=_CURE)
        fill = None if rule == "error" else _number(numbers[present], rule)
        return InputColumn(column.name, None, fill)
    words = column.texts()
    categories = sorted(set(words[~missing]))
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"{column.place} has {len(categories)} categories, more than {MAX_CATEGORIES}: leave "
            "it out of the inputs, or merge rare categories."
        )
    if rule in ("mean", "median") and missing.any():
        raise DataError(
            f"{column.place.at(int(np.argmax(missing)))}: the value is missing, and categories "
            f"have no {rule}: set missing to {{{column.name}: most_frequent}} for this column."
        )
    word = str(_most_frequent(words[present])) if rule == "most_frequent" else None
    return InputColumn(column.name, tuple(categories), word)


def _number(numbers: np.ndarray, rule: str) -> float:
    if rule == "mean":
        return float(numbers.mean())
    return float(np.median(numbers)) if rule == "median" else _most_frequent(numbers)


def _most_frequent(values: np.ndarray) -> Any:
    """The first in order of those that occur most often."""
    found, counts = np.unique(values, return_counts=True)
    return found[np.argmax(counts)]


_CURE = "correct it, or list the column as categorical"
