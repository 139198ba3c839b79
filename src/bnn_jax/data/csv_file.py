"""Tables in text files with separated values (CSV), read by Python's `csv`.

The first line names the columns. Values may be quoted, as spreadsheets write them.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bnn_jax.data.errors import DataError, Place, one_line
from bnn_jax.data.files import MAX_TEXT_BYTES, checked_file
from bnn_jax.data.names import PathLike
from bnn_jax.data.table import Column, Table, check_header


def read_csv_table(
    file: PathLike,
    *,
    delimiter: str = ",",
    encoding: str = "utf-8",
    max_bytes: int = MAX_TEXT_BYTES,
) -> Table:
    """Returns the table of a CSV file, all columns as text.

    Args:
        file: the file.
        delimiter: the character between values.
        encoding: of the text; a byte order mark is skipped.
        max_bytes: the largest size of the file. In memory it takes several times as much.

    Raises:
        DataError: the file cannot be read as a table; the message names the line.
    """
    if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '\r\n"':
        raise DataError(f"delimiter must be one character such as ',', got {delimiter!r}.")
    path = checked_file(file, kind="a CSV file", max_bytes=max_bytes)
    names, rows, lines = _rows(path, delimiter, encoding)
    if not rows:
        raise DataError(f"{path} has no rows below the line of names.")
    numbers = np.asarray(lines)
    columns = {
        name: Column(
            name, Place(str(path), f"column {name!r}", "line", numbers), _objects(list(words))
        )
        for name, words in zip(names, zip(*rows, strict=True), strict=True)
    }
    return Table(str(path), columns)


def _rows(
    path: Path, delimiter: str, encoding: str
) -> tuple[list[str], list[list[str]], list[int]]:
    """The names of the columns, the rows, and their line numbers."""
    names: list[str] = []
    rows: list[list[str]] = []
    lines: list[int] = []
    for line, row in _lines(path, delimiter, encoding):
        if not names:
            names = [word.strip() for word in row]
            check_header(str(path), names, delimiter=delimiter)
        elif len(row) != len(names):
            raise DataError(
                f"{path}, line {line}: {len(row)} values, and the first line names {len(names)} "
                "columns: add or remove values, or quote those that hold the delimiter."
            )
        else:
            rows.append(row)
            lines.append(line)
    if not names:
        raise DataError(f"{path} has no line with the names of the columns.")
    return names, rows, lines


def _lines(path: Path, delimiter: str, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """The lines with values, each with its number."""
    line = 1
    skipping = "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding
    try:
        with path.open(newline="", encoding=skipping) as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for row in reader:
                if "".join(row).strip() or len(row) > 1:
                    yield line, row
                line = reader.line_num + 1
    except UnicodeError as error:
        raise DataError(
            f"{path} is not text in {encoding} ({one_line(error)}): save it as UTF-8, or set "
            "encoding, for example to latin-1 or utf-16."
        ) from error
    except LookupError as error:
        raise DataError(f"encoding must be one that Python knows, got {encoding!r}.") from error
    except csv.Error as error:
        raise DataError(
            f"{path}, line {line}: {one_line(error)}: check the quotes of the values."
        ) from error


def _objects(words: list[str]) -> np.ndarray:
    values = np.empty(len(words), object)
    values[:] = words
    return values
