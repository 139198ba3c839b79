"""Data sets of Hugging Face `datasets`: a saved folder, local files, the cache, or the hub.

Columns are inputs and targets as in a table, or one column of images is the input. The names of
class labels become class names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from bnn_jax._extras import optional_import
from bnn_jax.data.dataset import Splits, Task
from bnn_jax.data.errors import DataError, Place, listed, nearest, one_line
from bnn_jax.data.files import MAX_BYTES
from bnn_jax.data.names import PathLike
from bnn_jax.data.parquet_file import column_of
from bnn_jax.data.parts import splits_of
from bnn_jax.data.resize import check_size, resize_one
from bnn_jax.data.split import check_absent, split, split_rows
from bnn_jax.data.table import Column, Table
from bnn_jax.data.table_encoder import TableEncoder, check_present

Rows = Any  # a `datasets.Dataset`, of an optional package

HELD_OUT = ("validation", "test")
_SAVED = ("dataset_info.json", "dataset_dict.json")  # files that `save_to_disk` writes


def read_huggingface(
    path: PathLike,
    *,
    targets: str | Sequence[str],
    inputs: Sequence[str] | None = None,
    subset: str | None = None,
    revision: str | None = None,
    train_split: str = "train",
    categorical: Sequence[str] = (),
    missing: str | Mapping[str, str] = "error",
    task: Task | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    validation: float = 0,
    test: float = 0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Splits:
    """Reads a data set by `datasets.load_from_disk` or `datasets.load_dataset`.

    Its splits called validation and test become these parts.

    Args:
        path: a folder that `save_to_disk` wrote; or what `load_dataset` takes, such as a folder of
            files or a name on the hub.
        targets: the name of the target's column, or names.
        inputs: the names of the inputs' columns; by default all but the targets. A column of images
            must be the only input.
        subset: the name of a configuration of the data set.
        revision: the version of a data set on the hub: a tag, a branch or a commit.
        train_split: the split of the training examples.
        categorical: as for `read_table`; class labels are always categorical.
        missing: as for `read_table`.
        task: as for `read_table`; class labels are a classification.
        class_names: as for `read_table`; by default those of the class labels.
        image_size: resize images to image_size x image_size, bilinear; by default all must have the
            same size.
        channels: of images, 1 for grey, 3 for colour; by default grey if all are.
        validation: the share or number of training examples to hold out; see `data.split`.
        test: the same for the test part.
        seed: of the split.
        max_bytes: the largest size of all images of a part in memory.

    Raises:
        DataError: the data set cannot be loaded, a column does not exist, or a value is not what it
            must be.
        MissingExtra: the package `datasets` is not installed.
    """
    check_size(image_size)
    if channels not in (None, 1, 3):
        raise DataError(f"channels must be 1 (grey) or 3 (colour), got {channels!r}.")
    title = str(path)
    found = _parts(_loaded(path, subset, revision), title, train_split)
    sizes = {"validation": validation, "test": test}
    check_absent(set(found), sizes, title)
    names = [targets] if isinstance(targets, str) else list(targets)
    known = found["train"].column_names
    chosen = [n for n in known if n not in names] if inputs is None else list(inputs)
    images = [name for name in chosen if _kind(found["train"], name) == "Image"]
    if images and (len(chosen) > 1 or len(names) > 1):
        raise DataError(
            f"{title} has the column {images[0]!r} of images, which must be the only input, with "
            f"one target; got the inputs {listed(chosen)} and the targets {listed(names)}."
        )
    labels = _label_names(found["train"], names[0]) if len(names) == 1 else None
    if labels is not None and task in (None, "classification", "binary"):
        task, class_names = task or "classification", class_names or labels
    of_targets: dict[str, Any] = {"task": task, "class_names": class_names}
    given: dict[str, object] = {"image_size": image_size, "channels": channels}
    if images:
        given = {"categorical": categorical or None, "missing": missing}
    for name, value in given.items():
        if value not in (None, "error"):
            raise DataError(f"{name} has no effect on the inputs {listed(chosen)}: remove it.")
    if not images:
        names_of_labels = {n for n in chosen if _kind(found["train"], n) == "ClassLabel"}
        options = of_targets | {"targets": targets, "inputs": inputs, "missing": missing}
        options["categorical"] = [*dict.fromkeys([*categorical, *sorted(names_of_labels)])]
        tables = {part: _table(rows, title) for part, rows in found.items()}
        return _split_tables(tables, options, sizes, seed, title)
    splits = _images(found, images[0], names[0], channels, image_size, max_bytes, of_targets, title)
    return split(splits, **sizes, seed=seed)


def _images(
    parts: Mapping[str, Rows],
    column: str,
    target: str,
    channels: int | None,
    image_size: int | None,
    max_bytes: int,
    of_targets: Mapping[str, Any],
    title: str,
) -> Splits:
    """Returns the parts of a data set whose inputs are a column of images."""
    grey = channels == 1 or (channels is None and _all_grey(parts, column))
    pairs: dict[str, Any] = {}
    places: dict[str, tuple[Place, Place]] = {}
    for part, rows in parts.items():
        labels = _table(rows.select_columns([target]), title).column(target)
        check_present([labels])
        places[part] = (Place(title, f"{part}, column {column!r}"), labels.place)
        form = (1 if grey else 3, image_size, max_bytes)
        pairs[part] = (_pixels(rows, column, places[part][0], *form), _values(labels))
    return splits_of(pairs, places, source=title, kind="images", **of_targets)


def _loaded(path: PathLike, subset: str | None, revision: str | None) -> Rows | Mapping[str, Rows]:
    """Returns the Dataset or DatasetDict."""
    with optional_import("Reading a Hugging Face data set"):
        import datasets
    folder = Path(path).expanduser()
    try:
        if any((folder / name).is_file() for name in _SAVED):
            if subset is not None or revision is not None:
                raise DataError(
                    f"subset and revision have no effect on {folder}, which holds one saved data "
                    "set: remove them."
                )
            return datasets.load_from_disk(str(folder))
        source = str(folder) if folder.exists() else str(path)
        return datasets.load_dataset(source, subset, revision=revision)
    except DataError:
        raise
    except Exception as error:  # of many kinds: of files, of the network, of the hub
        raise DataError(
            f"The Hugging Face data set {path} cannot be loaded: {one_line(error)[:300]}"
        ) from error


def _parts(loaded: Rows | Mapping[str, Rows], title: str, train_split: str) -> dict[str, Rows]:
    """Returns the rows of each part."""
    if not isinstance(loaded, Mapping):
        return {"train": loaded}
    if train_split not in loaded:
        raise DataError(
            f"{title} has no split {train_split!r}{nearest(train_split, loaded)} It has "
            f"{listed(loaded)}: set train_split."
        )
    parts = {"train": loaded[train_split]}
    return parts | {name: loaded[name] for name in HELD_OUT if name in loaded}


def _kind(rows: Rows, name: str) -> str:
    """Returns the name of the type of a column; empty if there is no such column."""
    return type(rows.features[name]).__name__ if name in rows.features else ""


def _label_names(rows: Rows, name: str) -> tuple[str, ...] | None:
    return tuple(rows.features[name].names) if _kind(rows, name) == "ClassLabel" else None


def _table(rows: Rows, title: str) -> Table:
    """Returns the columns of a part, with the names of class labels as text."""
    if not len(rows):
        raise DataError(f"{title} has a part without rows.")
    arrow = rows.with_format("arrow")[:]
    columns: dict[str, Column] = {}
    for name in rows.column_names:
        columns[name] = column_of(title, name, arrow.column(name))
        labels = _label_names(rows, name)
        if labels is not None:
            words = np.array(["", *labels], object)  # -1 is a missing label
            index = np.nan_to_num(columns[name].values, nan=-1).astype(int) + 1
            columns[name] = Column(name, columns[name].place, words[index])
    return Table(title, columns)


def _split_tables(
    tables: Mapping[str, Table],
    options: Mapping[str, Any],
    sizes: Mapping[str, float],
    seed: int,
    title: str,
) -> Splits:
    """Returns the parts of tables, encoded as the training part says."""
    train, *held_out = split_rows(len(tables["train"]), **sizes, seed=seed, source=title)
    encoder = TableEncoder.fit(tables["train"], **options, rows=train)
    whole = encoder.dataset(tables["train"])
    parts = {name: encoder.dataset(tables[name]) for name in HELD_OUT if name in tables}
    for name, rows in zip(HELD_OUT, held_out, strict=True):
        if len(rows):
            parts[name] = whole.rows(rows)
    return Splits(
        whole.rows(train),
        parts.get("validation"),
        parts.get("test"),
        encoder=encoder,
        source=title,
    )


def _values(column: Column) -> np.ndarray:
    """Returns the values of a column of targets, integers as such."""
    whole = column.integer and not column.missing.any()
    return column.values.astype(np.int64) if whole else column.values


def _all_grey(parts: Mapping[str, Rows], column: str) -> bool:
    return all(image.mode in ("1", "L", "LA") for rows in parts.values() for image in rows[column])


def _pixels(
    rows: Rows, column: str, place: Place, channels: int, size: int | None, max_bytes: int
) -> UInt8[np.ndarray, "examples height width channels"]:
    """Returns the images of a column as bytes."""
    images: list[np.ndarray] = []
    for index, image in enumerate(rows[column]):
        if image is None or image.mode.startswith(("I", "F")):
            what = (
                "is missing" if image is None else f"has more than 8 bits a channel ({image.mode})"
            )
            raise DataError(f"{place.at(index)}: the image {what}: replace or remove it.")
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
        images.append(resize_one(pixels.reshape(*pixels.shape[:2], channels), size))
        if images[-1].shape != images[0].shape:
            raise DataError(
                f"{place.at(index)}: the image has {images[-1].shape[:2]} pixels, and the first "
                f"has {images[0].shape[:2]}: set image_size."
            )
        if not index and len(rows) * images[0].nbytes > max_bytes:
            raise DataError(
                f"{place} has {len(rows)} images of {images[0].nbytes} bytes, more than "
                f"max_bytes={max_bytes}: lower image_size, or use fewer examples."
            )
    return np.stack(images)
