"""Data sets from a function in a Python file of the user's.

    def load():
        return x, y                                  # arrays
        return {"train": (x, y), "test": (x2, y2)}   # parts; validation is optional too
        return source                                # len() and [index] -> (input, target)

A source may be one of grain's. Its elements are stacked to arrays, as a whole in memory.
"""

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bnn_jax.data.dataset import Kind, Splits, Task
from bnn_jax.data.errors import DataError, Place, listed, nearest, one_line
from bnn_jax.data.files import MAX_BYTES
from bnn_jax.data.names import PathLike
from bnn_jax.data.parts import PARTS, Pair, Places, splits_of
from bnn_jax.data.split import split
from bnn_jax.networks import user_code
from bnn_jax.networks.user_code import UserModule

_PARTS = {**{part: part for part in PARTS}, "val": "validation", "valid": "validation"}
_FORMS = (
    "(x, y), {'train': (x, y), 'validation': (x, y), 'test': (x, y)}, or a source with len() and "
    "[index] -> (input, target)"
)


def read_python(
    file: PathLike,
    *,
    name: str = "load",
    args: Mapping[str, Any] | None = None,
    task: Task | None = None,
    kind: Kind | None = None,
    class_names: Sequence[str] | None = None,
    validation: float = 0,
    test: float = 0,
    seed: int = 0,
    max_bytes: int = MAX_BYTES,
) -> Splits:
    """Reads a data set by calling a function in a Python file.

    Args:
        file: the Python file.
        name: the function's name.
        args: its keyword arguments.
        task: as for `read_npz`.
        kind: as for `read_npz`.
        class_names: as for `read_npz`.
        validation: as for `read_npz`.
        test: as for `read_npz`.
        seed: of the split.
        max_bytes: the largest size of a source's elements in memory.

    Raises:
        UserCodeError: the file or the function does not exist, or its code raises an exception; the
            message names the file and the line.
        DataError: what it returns is not of a form above, or an array has a wrong shape, type or
            value.
    """
    user = user_code.import_file(file)
    function = user_code.attribute(
        user, name, kind="function", known=user_code.defined(user, inspect.isfunction)
    )
    if not callable(function):
        raise DataError(
            f"{name} of {user.title} must be a function, got {type(function).__name__}."
        )
    loaded: object = user_code.call(user, name, functools.partial(function, **(args or {})))
    title = f"{user.title}, {name}()"
    pairs: dict[str, Pair] = {}
    places: dict[str, Places] = {}
    for part, found in _parts(loaded, title).items():
        where = f"{title}[{part!r}]" if isinstance(loaded, Mapping) else title
        pairs[part] = _pair(found, user, name, where, max_bytes)
        places[part] = (Place(where, "inputs"), Place(where, "targets"))
    splits = splits_of(pairs, places, source=title, task=task, kind=kind, class_names=class_names)
    return split(splits, validation=validation, test=test, seed=seed)


def _parts(loaded: object, title: str) -> dict[str, Any]:
    if not isinstance(loaded, Mapping):
        return {"train": loaded}
    found: dict[str, Any] = {}
    for key, value in loaded.items():
        if key not in _PARTS or _PARTS[key] in found:
            raise DataError(
                f"{title} returned a mapping with the key {key!r}{nearest(str(key), _PARTS)} It "
                f"must return {_FORMS}."
            )
        if value is not None:
            found[_PARTS[key]] = value
    if "train" not in found:
        raise DataError(f"{title} returned no part 'train', only {listed(found) or 'none'}.")
    return found


def _pair(found: object, user: UserModule, name: str, where: str, max_bytes: int) -> Pair:
    """Inputs and targets as arrays."""
    if isinstance(found, tuple | list):
        if len(found) != 2:
            raise DataError(f"{where} returned {len(found)} values: it must return {_FORMS}.")
        return _array(found[0], where, "inputs"), _array(found[1], where, "targets")
    if not hasattr(found, "__len__") or not hasattr(found, "__getitem__") or _is_array(found):
        raise DataError(f"{where} returned {type(found).__name__}: it must return {_FORMS}.")
    count = user_code.call(user, name, lambda: len(found))
    if not count:
        raise DataError(f"{where} returned a source without elements.")
    inputs: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    for index in range(count):
        element = user_code.call(user, name, lambda index=index: found[index])  # type: ignore[misc]
        x, y = _element(element, f"{where}[{index}]")
        if not index and count * (x.nbytes + y.nbytes) > max_bytes:
            raise DataError(
                f"{where} has {count} elements of {x.nbytes + y.nbytes} bytes, more than "
                f"max_bytes={max_bytes}: raise max_bytes, or read it in batches with data.stream."
            )
        if index and (x.shape != inputs[0].shape or y.shape != targets[0].shape):
            raise DataError(
                f"{where}: element {index} has shapes {x.shape} and {y.shape}, and element 0 has "
                f"{inputs[0].shape} and {targets[0].shape}: they must agree."
            )
        inputs.append(x)
        targets.append(y)
    return np.stack(inputs), np.stack(targets)


def _element(element: object, where: str) -> tuple[np.ndarray, np.ndarray]:
    if isinstance(element, Mapping):
        for pair in (("x", "y"), ("inputs", "targets"), ("image", "label")):
            if set(pair) <= set(element):
                element = (element[pair[0]], element[pair[1]])
                break
    if not isinstance(element, tuple | list) or len(element) != 2:
        raise DataError(
            f"{where} must be (input, target) or {{'x': input, 'y': target}}, got "
            f"{type(element).__name__}."
        )
    return _array(element[0], where, "the input"), _array(element[1], where, "the target")


def _is_array(value: object) -> bool:
    return isinstance(value, np.ndarray) or hasattr(value, "__array__") or isinstance(value, str)


def _array(value: object, where: str, part: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except Exception as error:
        raise DataError(f"{where}, {part} cannot become an array: {one_line(error)}.") from error
    if array.dtype == object:
        raise DataError(
            f"{where}, {part} must be an array of numbers or text, all of one type and length, got "
            f"{type(value).__name__}."
        )
    return array
