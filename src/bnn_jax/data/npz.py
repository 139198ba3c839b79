"""Data sets in NumPy's `npz` files: arrays `x` and `y`, whole or in parts.

    np.savez("mine.npz", x=x, y=y)
    np.savez("mine.npz", x_train=..., y_train=..., x_test=..., y_test=...)

Inputs may also be called inputs, images or features, and targets targets or labels; a part may
stand before or after the name (train_x), and validation may be val or valid. `class_names` is an
optional array of text. Other arrays are not read.
"""

import contextlib
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from bnn_jax.data.dataset import Kind, Splits, Task
from bnn_jax.data.errors import DataError, Place, listed, nearest, one_line
from bnn_jax.data.files import MAX_BYTES, check_size, checked_file
from bnn_jax.data.inputs import encode_inputs
from bnn_jax.data.names import PathLike
from bnn_jax.data.parts import PARTS, Pair, Places, splits_of
from bnn_jax.data.split import split

INPUT_NAMES = ("x", "inputs", "images", "features")
TARGET_NAMES = ("y", "targets", "labels")
_PART_NAMES = {"train": ("train",), "validation": ("validation", "val", "valid"), "test": ("test",)}


def read_npz(
    file: PathLike,
    *,
    inputs: str | None = None,
    targets: str | None = None,
    task: Task | None = None,
    kind: Kind | None = None,
    class_names: Sequence[str] | None = None,
    validation: float = 0,
    test: float = 0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Splits:
    """Reads a data set from an npz file.

    Args:
        file: the file.
        inputs: the name of the array of inputs, if it is none of `INPUT_NAMES`.
        targets: the name of the array of targets, if it is none of `TARGET_NAMES`.
        task: what the targets are; by default classes for integers, truth values and text, else a
            regression.
        kind: what the inputs are; by default images for uint8 arrays with 3 or 4 axes and for other
            arrays with 4, else features. Integer tokens (examples, length) must be asked for.
        class_names: a name for each class; by default the file's `class_names`, else the numbers.
        validation: the share or number of training examples to hold out; see `data.split`.
        test: the same for the test part.
        seed: of the split.
        max_bytes: the largest size of all arrays in memory.

    Raises:
        DataError: the file cannot be read, or an array is missing or has a wrong shape, type or
            value; the message names the file, the array, the example and the value.
    """
    path = checked_file(file, kind="an npz file")
    with _opened(path, max_bytes) as arrays:
        chosen = _choose(path, arrays.files, inputs, targets)
        pairs: dict[str, Pair] = {}
        places: dict[str, Places] = {}
        for part, (x, y) in chosen.items():
            pairs[part] = (_array(path, arrays, x), _array(path, arrays, y))
            places[part] = (Place(str(path), f"array {x!r}"), Place(str(path), f"array {y!r}"))
        if class_names is None and "class_names" in arrays.files:
            class_names = [str(name) for name in _array(path, arrays, "class_names").ravel()]
    splits = splits_of(
        pairs, places, source=str(path), task=task, kind=kind, class_names=class_names
    )
    return split(splits, validation=validation, test=test, seed=seed)


def read_new_npz(
    file: PathLike,
    *,
    kind: Kind,
    shape: tuple[int, ...],
    is_bytes: bool = False,
    inputs: str | None = None,
    max_bytes: int = MAX_BYTES,
) -> np.ndarray:
    """Returns the inputs of new examples from an npz file.

    Args:
        file: the file, with an array `x`; other arrays are ignored.
        kind: of the training inputs.
        shape: of one training input.
        is_bytes: whether the training inputs were images of bytes.
        inputs: the name of the array, if it is none of `INPUT_NAMES`.
        max_bytes: the largest size of all arrays in memory.

    Raises:
        DataError: the file cannot be read, or the array is missing or is not like the training
            inputs.
    """
    path = checked_file(file, kind="an npz file")
    known = INPUT_NAMES if inputs is None else (inputs, *INPUT_NAMES)
    with _opened(path, max_bytes) as arrays:
        found = [name for name in dict.fromkeys(known) if name in arrays.files]
        if not found:
            raise DataError(
                f"{path} has no array {known[0]!r}; it has {listed(arrays.files) or 'none'}: "
                f"write it with np.savez(file, {known[0]}=x)."
            )
        values = _array(path, arrays, found[0])
    place = Place(str(path), f"array {found[0]!r}")
    if is_bytes and values.dtype != np.uint8:
        raise DataError(f"{place} must hold bytes (uint8) as in training, got {values.dtype}.")
    encoded, _ = encode_inputs(values, place, kind=kind)
    if encoded.shape[1:] != shape:
        raise DataError(
            f"{place} must have shape (examples, {', '.join(map(str, shape))}) as in training, got "
            f"{values.shape}."
        )
    return encoded if is_bytes or kind == "tokens" else encoded.astype(np.float32)


@contextlib.contextmanager
def _opened(path: Path, max_bytes: int) -> Iterator[np.lib.npyio.NpzFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(info.file_size for info in archive.infolist())
        arrays = np.load(path, allow_pickle=False)
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(
            f"{path} is not an npz file, or it is damaged ({one_line(error)}): write it with "
            "np.savez(file, x=x, y=y)."
        ) from error
    with arrays:
        check_size(path, size, max_bytes)
        yield arrays


def _array(path: Path, arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        array = arrays[name]
    except _UNREADABLE as error:
        raise DataError(
            f"{path}, array {name!r} cannot be read ({one_line(error)}): save it as an array of "
            "numbers or text, all of one type."
        ) from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}, {name!r} is no array: write it with np.savez(file, x=x, y=y).")
    return array


# What zipfile and NumPy raise for content that is damaged, encrypted or of objects.
_UNREADABLE = (
    ValueError,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def _choose(
    path: Path, names: list[str], inputs: str | None, targets: str | None
) -> dict[str, tuple[str, str]]:
    """The names of the arrays of each part: {part: (inputs, targets)}."""
    for role, given in (("inputs", inputs), ("targets", targets)):
        if given is not None and not any(
            found in names for part in (None, *PARTS) for found in _spellings(given, part)
        ):
            raise DataError(
                f"{path} has no array {given!r} for {role}{nearest(given, names)} It has "
                f"{listed(names)}."
            )
    wanted: dict[str, tuple[str, ...]] = {
        "x": INPUT_NAMES if inputs is None else (inputs,),
        "y": TARGET_NAMES if targets is None else (targets,),
    }
    found = {part: _pair(path, names, wanted, part) for part in PARTS}
    chosen = {part: pair for part, pair in found.items() if pair is not None}
    whole = _pair(path, names, wanted, None)
    if whole is not None and "train" in chosen:
        raise DataError(
            f"{path} has both {whole[0]!r} and {chosen['train'][0]!r}: keep one of them as the "
            "training inputs, or name the arrays by inputs and targets."
        )
    if whole is not None:
        chosen = {"train": whole, **chosen}
    if "train" not in chosen:
        raise DataError(
            f"{path} needs arrays x and y, or x_train and y_train; it has {listed(names)}: name "
            "them so, or by inputs and targets."
        )
    return chosen


def _pair(
    path: Path, names: list[str], wanted: dict[str, tuple[str, ...]], part: str | None
) -> tuple[str, str] | None:
    found: dict[str, str] = {}
    for role, known in wanted.items():
        spellings = [s for name in known for s in _spellings(name, part) if s in names]
        if len(spellings) > 1:
            raise DataError(
                f"{path} has {listed(spellings)}, which could all be the same: keep one of them, "
                "or name the arrays by inputs and targets."
            )
        if spellings:
            found[role] = spellings[0]
    if len(found) == 1:
        ((role, name),) = found.items()
        other, keyword = ("targets", "targets") if role == "x" else ("inputs", "inputs")
        raise DataError(
            f"{path} has the array {name!r} and no {other} for it; it has {listed(names)}: add "
            f"them, or name them by {keyword}."
        )
    return (found["x"], found["y"]) if found else None


def _spellings(name: str, part: str | None) -> list[str]:
    if part is None:
        return [name]
    return [s for p in _PART_NAMES[part] for s in (f"{name}_{p}", f"{p}_{name}")]
