"""Random parts of a data set for validation and test.

A part is a share of the examples, such as 0.1, or their number, such as 500. The order comes from
the seed alone, so a split is the same on every machine.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Int

from bnn_jax.data.dataset import Dataset, Splits
from bnn_jax.data.errors import DataError

Parts = tuple[Int[np.ndarray, " train"], Int[np.ndarray, " validation"], Int[np.ndarray, " test"]]


def split(
    data: Dataset | Splits, *, validation: float = 0, test: float = 0, seed: int = 0
) -> Splits:
    """Splits off parts for validation and test at random.

    Args:
        data: the examples; of `Splits`, those of `train` are split.
        validation: the share (below 1) or the number of the examples; 0 leaves the part as it is.
        test: the same for the test part.
        seed: determines the choice.

    Raises:
        DataError: a share or number is out of range, a part would be empty, or it exists already.
    """
    parts = Splits(data) if isinstance(data, Dataset) else data
    own = [name for name in ("validation", "test") if getattr(parts, name) is not None]
    check_absent(own, {"validation": validation, "test": test}, parts.source)
    train, held_out, tested = split_rows(
        len(parts.train), validation=validation, test=test, seed=seed, source=parts.source
    )
    return dataclasses.replace(
        parts,
        train=parts.train.rows(train) if validation or test else parts.train,
        validation=parts.train.rows(held_out) if validation else parts.validation,
        test=parts.train.rows(tested) if test else parts.test,
    )


def check_absent(own: Collection[str], sizes: Mapping[str, float], source: str) -> None:
    """Raises DataError if a part is to be split off that the source has already."""
    for name, size in sizes.items():
        if size and name in own:
            raise DataError(
                f"{source} has its own {name} part: leave {name}={size} out, or remove the part "
                "from the source."
            )


def split_rows(
    count: int,
    *,
    validation: float = 0,
    test: float = 0,
    seed: int = 0,
    source: str = "the data",
) -> Parts:
    """Returns the rows of the training, validation and test part, each in rising order.

    Args:
        count: the number of examples.
        validation: as for `split`.
        test: as for `split`.
        seed: as for `split`.
        source: the data's name in messages.

    Raises:
        DataError: as for `split`.
    """
    held_out = _size("validation", validation, count, source)
    tested = _size("test", test, count, source)
    if held_out + tested >= count:
        raise DataError(
            f"validation={validation} and test={test} leave none of the {count} examples of "
            f"{source} to train on: lower them."
        )
    order = np.random.default_rng(seed).permutation(count)
    parts = np.split(order, [count - held_out - tested, count - tested])
    train, validation_rows, test_rows = (np.sort(part) for part in parts)
    return train, validation_rows, test_rows


def _size(name: str, value: float, count: int, source: str) -> int:
    """The number of examples of a part."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0 or (value >= 1 and value != int(value)):
        raise DataError(
            f"{name} must be a share from 0 to 1, 1 excluded, or a whole number of examples, got "
            f"{value!r}."
        )
    size = int(value) if value >= 1 else round(value * count)
    if value and not size:
        raise DataError(
            f"{name}={value} of the {count} examples of {source} is none: give a larger share, or "
            "a number of examples."
        )
    return size
