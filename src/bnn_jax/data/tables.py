"""Data sets in tables, CSV or Parquet: named inputs and targets, whole or in parts.

splits = read_table("houses.csv", targets="price", categorical=["city"], validation=0.1)
splits.encoder.to_json()
inputs, targets = read_new_table("new.csv", splits.encoder)   # targets are None without them
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from bnn_jax.data.csv_file import read_csv_table
from bnn_jax.data.dataset import Dataset, Splits, Task
from bnn_jax.data.errors import DataError
from bnn_jax.data.files import MAX_BYTES, MAX_TEXT_BYTES
from bnn_jax.data.names import PathLike
from bnn_jax.data.parquet_file import read_parquet_table
from bnn_jax.data.split import split_rows
from bnn_jax.data.table import Table
from bnn_jax.data.table_encoder import TableEncoder
from bnn_jax.data.targets import Values

PARQUET = (".parquet", ".pq")


def read_table(
    file: PathLike,
    *,
    targets: str | Sequence[str],
    inputs: Sequence[str] | None = None,
    categorical: Sequence[str] = (),
    missing: str | Mapping[str, str] = "error",
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    validation: float | PathLike = 0,
    test: float | PathLike = 0,
    seed: int = 0,
    delimiter: str = ",",
    encoding: str = "utf-8",
    max_bytes: int | None = None,
) -> Splits:
    """Reads a data set from a table, a CSV file or a Parquet file by the end of its name.

    Categories and class names are those of the training file. The values that take the place of
    missing ones come from the training part alone.

    Args:
        file: the training table; .parquet and .pq are Parquet files, all others CSV.
        targets: the name of the target's column, or names.
        inputs: the names of the inputs' columns; by default all but the targets.
        categorical: the inputs whose values are categories, each a feature of 0 or 1.
        missing: error, mean, median or most_frequent; one for all inputs, or {input: rule}.
        task: what the targets are; by default classes for text, a regression for numbers with
            decimals. Integers need it.
        class_names: the classes in their order; by default all in the file, sorted.
        validation: another file, or the share or number of rows to hold out; see `data.split`.
        test: the same for the test part.
        seed: of the split.
        delimiter: the character between the values of a CSV file.
        encoding: of a CSV file.
        max_bytes: the largest size of a file; by default 1 GiB of CSV and 4 GiB of Parquet.

    Raises:
        DataError: a file cannot be read, or a column or value is not what it must be; the message
            names the file, the line, the column and the value.
        MissingExtra: pyarrow is not installed, for a Parquet file.
    """
    options = {"delimiter": delimiter, "encoding": encoding}
    table = _read(file, max_bytes, **options)
    train, held_out, tested = split_rows(
        len(table),
        validation=0 if isinstance(validation, str | os.PathLike) else validation,
        test=0 if isinstance(test, str | os.PathLike) else test,
        seed=seed,
        source=table.file,
    )
    encoder = TableEncoder.fit(
        table,
        targets=targets,
        inputs=inputs,
        categorical=categorical,
        missing=missing,
        task=task,
        class_names=class_names,
        rows=train,
    )
    whole = encoder.dataset(table)
    parts: dict[str, Dataset | None] = {}
    for name, part, rows in (("validation", validation, held_out), ("test", test, tested)):
        if isinstance(part, str | os.PathLike):
            parts[name] = encoder.dataset(_read(part, max_bytes, **options))
        else:
            parts[name] = whole.rows(rows) if len(rows) else None
    return Splits(
        whole.rows(train), parts["validation"], parts["test"], encoder=encoder, source=table.file
    )


def read_new_table(
    file: PathLike,
    encoder: TableEncoder,
    *,
    targets: bool = True,
    delimiter: str = ",",
    encoding: str = "utf-8",
    max_bytes: int | None = None,
) -> tuple[Float[np.ndarray, "rows features"], Values | None]:
    """Returns the inputs of a new table, and its targets, or None where it has none.

    Args:
        file: the table, with the columns of the inputs; others are ignored.
        encoder: of the training data.
        targets: whether to read targets; False ignores their columns.
        delimiter: as for `read_table`.
        encoding: as for `read_table`.
        max_bytes: as for `read_table`.

    Raises:
        DataError: as for `read_table`; a category that the training file lacks is an error.
        MissingExtra: pyarrow is not installed, for a Parquet file.
    """
    table = _read(file, max_bytes, delimiter=delimiter, encoding=encoding)
    inputs = encoder.encode_inputs(table)
    with_targets = targets and encoder.has_targets(table)
    return inputs, encoder.encode_targets(table) if with_targets else None


def _read(file: PathLike, max_bytes: int | None, *, delimiter: str, encoding: str) -> Table:
    if not isinstance(file, str | os.PathLike):
        raise DataError(f"The name of a table must be text, got {file!r}.")
    if Path(file).suffix.lower() in PARQUET:
        return read_parquet_table(file, max_bytes=max_bytes or MAX_BYTES)
    return read_csv_table(
        file, delimiter=delimiter, encoding=encoding, max_bytes=max_bytes or MAX_TEXT_BYTES
    )
