"""Data sets from a function in a Python file of the user's.

    def load():
        return x, y                                  # arrays
        return {"train": (x, y), "test": (x2, y2)}   # parts; validation is optional too
        return source                                # len() and [index] -> (input, target)

A source may be one of grain's. Its elements are stacked to arrays, as a whole in memory; with
`stream`, those of the training part are read one by one during training.
"""

import dataclasses
import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from bnn_jax.data.dataset import Kind, Splits, Task
from bnn_jax.data.errors import DataError, Place, listed, nearest, one_line
from bnn_jax.data.files import MAX_BYTES
from bnn_jax.data.inputs import encode_inputs
from bnn_jax.data.loader import pair_of
from bnn_jax.data.names import PathLike
from bnn_jax.data.parts import PARTS, Pair, Places, splits_of
from bnn_jax.data.split import check_absent, split, split_rows
from bnn_jax.data.streamed import Streamed, sample_of
from bnn_jax.data.targets import TargetEncoder
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
    stream: bool = False,
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
        stream: leave the training part, which must be a source, where it is: `Splits.stream` reads
            its examples by index, and `Splits.train` has a random sample of at most 1,024, which
            sets the shapes and the classes.
        seed: of the split, and of the sample.
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
    source: _Source | None = None
    pairs: dict[str, Pair] = {}
    places: dict[str, Places] = {}
    for part, found in _parts(loaded, title).items():
        where = f"{title}[{part!r}]" if isinstance(loaded, Mapping) else title
        places[part] = (Place(where, "inputs"), Place(where, "targets"))
        if stream and part == "train":
            source = _Source.of(found, user, name, where, max_bytes)
        else:
            pairs[part] = _pair(found, user, name, where, max_bytes)
    options: Any = {"task": task, "kind": kind, "class_names": class_names}
    if source is None:
        splits = splits_of(pairs, places, source=title, **options)
        return split(splits, validation=validation, test=test, seed=seed)
    return _streamed(source, pairs, places, title, options, validation, test, seed)


def _streamed(
    source: "_Source",
    pairs: dict[str, Pair],
    places: dict[str, Places],
    title: str,
    options: Any,
    validation: float,
    test: float,
    seed: int,
) -> Splits:
    """Returns the parts of a data set whose training examples stay in their source."""
    sizes = {"validation": validation, "test": test}
    check_absent(pairs, sizes, title)
    rows, *held_out = split_rows(len(source), **sizes, seed=seed, source=title)
    pairs["train"] = source.read(sample_of(rows, seed))
    for (part, size), chosen in zip(sizes.items(), held_out, strict=True):
        if size:
            pairs[part], places[part] = source.read(chosen), places["train"]
    splits = splits_of(pairs, places, source=title, **options)
    inputs_at, targets_at = places["train"]
    encoder = TargetEncoder.fit(
        pairs["train"][1], targets_at, task=options["task"], class_names=options["class_names"]
    )

    def read(row: int) -> Pair:
        x, y = source.read(np.asarray([row]))
        inputs, _ = encode_inputs(x, inputs_at, kind=splits.train.kind)
        return inputs[0], np.asarray(encoder.encode(y, targets_at)[0])

    return dataclasses.replace(splits, stream=Streamed(read, rows))


def _parts(loaded: object, title: str) -> dict[str, object]:
    if not isinstance(loaded, Mapping):
        return {"train": loaded}
    found: dict[str, object] = {}
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
    source = _Source.of(found, user, name, where, max_bytes)
    return source.read(np.arange(len(source)))


@dataclasses.dataclass(frozen=True)
class _Source:
    """A source of the user's, with what messages about its elements name."""

    elements: Any
    count: int
    user: UserModule
    name: str
    where: str
    max_bytes: int

    @classmethod
    def of(cls, found: Any, user: UserModule, name: str, where: str, max_bytes: int) -> "_Source":
        """Returns the source that the user's function returned."""
        has_elements = hasattr(found, "__len__") and hasattr(found, "__getitem__")
        if not has_elements or isinstance(found, tuple | list) or _is_array(found):
            raise DataError(f"{where} returned {type(found).__name__}: it must return {_FORMS}.")
        count = user_code.call(user, name, lambda: len(found))
        if not count:
            raise DataError(f"{where} returned a source without elements.")
        return cls(found, count, user, name, where, max_bytes)

    def __len__(self) -> int:
        return self.count

    def element(self, row: int) -> Pair:
        found = user_code.call(self.user, self.name, lambda: self.elements[row])
        return _element(found, f"{self.where}[{row}]")

    def read(self, rows: Int[np.ndarray, " rows"]) -> Pair:
        """Returns inputs and targets of some elements as arrays."""
        inputs: list[np.ndarray] = []
        targets: list[np.ndarray] = []
        for index in map(int, rows):
            x, y = self.element(index)
            if not inputs and len(rows) * (x.nbytes + y.nbytes) > self.max_bytes:
                raise DataError(
                    f"{self.where} has {len(rows)} elements of {x.nbytes + y.nbytes} bytes, more "
                    f"than max_bytes={self.max_bytes}: read the training part during training "
                    "with stream=True (data.stream=true), or raise max_bytes."
                )
            if inputs and (x.shape != inputs[0].shape or y.shape != targets[0].shape):
                raise DataError(
                    f"{self.where}: element {index} has shapes {x.shape} and {y.shape}, and "
                    f"element {rows[0]} has {inputs[0].shape} and {targets[0].shape}: they must "
                    "agree."
                )
            inputs.append(x)
            targets.append(y)
        return np.stack(inputs), np.stack(targets)


def _element(element: object, where: str) -> tuple[np.ndarray, np.ndarray]:
    pair = pair_of(element)
    if pair is None:
        raise DataError(
            f"{where} must be (input, target) or {{'x': input, 'y': target}}, got "
            f"{type(element).__name__}."
        )
    return _array(pair[0], where, "the input"), _array(pair[1], where, "the target")


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
