"""The error of a data set that cannot be loaded, and the place in a file that it names."""

import dataclasses
import difflib
from collections.abc import Iterable

import numpy as np


class DataError(ValueError):
    """A data set cannot be loaded; the message says why and what to do, in one line."""


def one_line(error: BaseException) -> str:
    """Returns an error's message without line breaks."""
    return " ".join(str(error).split())


@dataclasses.dataclass(frozen=True)
class Place:
    """A part of a file with one value for each example, as messages name it.

    Attributes:
        file: the file.
        part: such as "column 'age'".
        unit: what an example is called: "example", "line" or "row".
        numbers: the number of each example in the file; None counts from 0.
    """

    file: str
    part: str
    unit: str = "example"
    numbers: np.ndarray | None = None

    def __str__(self) -> str:
        return f"{self.file}, {self.part}" if self.part else self.file

    def at(self, index: int) -> str:
        """Returns the name of the place of one example, by its index."""
        number = index if self.numbers is None else int(self.numbers[index])
        where = f"{self.file}, {self.unit} {number}"
        return f"{where}, {self.part}" if self.part else where


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `, did you mean 'x'?`, or a full stop if no known word is similar."""
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), list(lower), n=1)
    return f", did you mean {lower[found[0]]!r}?" if found else "."


def listed(names: Iterable[str], *, most: int = 20) -> str:
    """Returns the names with commas between them, the first ones of many."""
    names = list(names)
    more = f", ... ({len(names)} in all)" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def shown(value: object) -> str:
    """Returns a value as Python writes it, shortened if it is long."""
    text = repr(value.item() if isinstance(value, np.generic) else value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
