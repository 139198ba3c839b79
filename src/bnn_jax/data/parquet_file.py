"""Tables in Parquet files, read by pyarrow."""

from typing import Any

import numpy as np

from bnn_jax._extras import optional_import
from bnn_jax.data.errors import DataError, Place, one_line
from bnn_jax.data.files import MAX_BYTES, check_size, checked_file
from bnn_jax.data.names import PathLike
from bnn_jax.data.table import Column, Table, check_header


def read_parquet_table(file: PathLike, *, max_bytes: int = MAX_BYTES) -> Table:
    """Returns the table of a Parquet file.

    Columns of numbers stay numbers; text, truth values and categories become text. A column of
    another type, such as a date or a list, becomes text of Python's form; it is refused where it
    is used as a number.

    Args:
        file: the file.
        max_bytes: the largest size of its uncompressed columns.

    Raises:
        DataError: the file cannot be read as a table.
        MissingExtra: pyarrow is not installed.
    """
    path = checked_file(file, kind="a Parquet file")
    with optional_import("Reading a Parquet file"):
        import pyarrow
        from pyarrow import parquet
    try:
        metadata = parquet.read_metadata(path)
        groups = range(metadata.num_row_groups)
        check_size(path, sum(metadata.row_group(i).total_byte_size for i in groups) or 1, max_bytes)
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{path} is not a Parquet file, or it is damaged: {one_line(error)}."
        ) from error
    names = [str(name) for name in table.column_names]
    if not names:
        raise DataError(f"{path} has no columns.")
    check_header(str(path), names)
    if not table.num_rows:
        raise DataError(f"{path} has no rows.")
    columns = {name: column_of(str(path), name, table.column(name)) for name in names}
    return Table(str(path), columns)


def column_of(file: str, name: str, values: Any) -> Column:
    """Returns a column of an Arrow table, as `read_parquet_table` describes it."""
    from pyarrow import float64, types

    place = Place(file, f"column {name!r}", "row")
    if types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    integer = types.is_integer(values.type)
    if integer or types.is_floating(values.type) or types.is_decimal(values.type):
        numbers = values.cast(float64(), safe=False).to_numpy()  # NaN for missing values
        return Column(name, place, numbers, integer)
    words = np.empty(len(values), object)
    words[:] = ["" if v is None else str(v) for v in values.to_pylist()]
    return Column(name, place, words)
