"""Data sets in npz files: what is read, and one clear line for each mistake."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_jax.data import DataError, Dataset, read_npz, split

X = np.arange(12.0).reshape(6, 2)
CLASSES = np.array([0, 1, 2, 0, 1, 2])


def written(folder: Path, **arrays: Any) -> Path:
    file = folder / "a.npz"
    np.savez(file, **arrays)
    return file


@pytest.mark.parametrize("names", [("x", "y"), ("inputs", "targets"), ("images", "labels")])
def test_classes(names: tuple[str, str], tmp_path: Path) -> None:
    splits = read_npz(written(tmp_path, **{names[0]: X, names[1]: CLASSES}))
    data = splits.train
    assert (data.task, data.kind, data.num_outputs) == ("classification", "features", 3)
    assert data.class_names == ("0", "1", "2")
    assert (data.inputs.dtype, data.targets.dtype) == (np.float32, np.int32)
    np.testing.assert_array_equal(data.inputs, X.astype(np.float32))
    np.testing.assert_array_equal(data.targets, CLASSES)
    assert (splits.validation, splits.test) == (None, None)


FORMS: dict[str, tuple[np.ndarray, dict[str, Any], str, np.ndarray]] = {
    "float": (X[:, 0], {}, "regression", np.float32(X[:, :1])),
    "float outputs": (X, {}, "regression", np.float32(X)),
    "float classes": (
        np.float32(CLASSES), {"task": "classification"}, "classification", CLASSES,
    ),
    "column of classes": (CLASSES[:, None], {}, "classification", CLASSES),
    "integers": (CLASSES, {"task": "regression"}, "regression", np.float32(CLASSES)[:, None]),
    "counts": (9 * CLASSES, {"task": "counts"}, "counts", 9 * CLASSES[:, None]),
    "truth": (CLASSES > 0, {}, "classification", CLASSES > 0),
    "binary": (CLASSES > 0, {"task": "binary"}, "binary", (CLASSES > 0)[:, None]),
    "text": (np.array(list("babcab")), {}, "classification", [1, 0, 1, 2, 0, 1]),
    "bytes": (np.array([b"b", b"a"] * 3), {}, "classification", [1, 0] * 3),
    "names": (CLASSES, {"class_names": list("abcd")}, "classification", CLASSES),
}  # fmt: skip


@pytest.mark.parametrize("case", FORMS)
def test_forms_of_targets(case: str, tmp_path: Path) -> None:
    values, options, task, expected = FORMS[case]
    data = read_npz(written(tmp_path, x=X, y=values), **options).train
    assert data.task == task
    np.testing.assert_array_equal(data.targets, expected)
    integers = task != "regression"
    assert data.targets.dtype == (np.int32 if integers else np.float32)
    assert (data.class_names is None) == (task in ("regression", "counts"))


KINDS: dict[str, tuple[np.ndarray, dict[str, Any], str, tuple[int, ...], Any]] = {
    "grey images": (np.zeros((6, 4, 5), np.uint8), {}, "images", (6, 4, 5, 1), np.uint8),
    "images": (np.zeros((6, 4, 5, 3), np.uint8), {}, "images", (6, 4, 5, 3), np.uint8),
    "float images": (np.zeros((6, 4, 5, 3)), {}, "images", (6, 4, 5, 3), np.float32),
    "series": (np.zeros((6, 4, 5)), {}, "features", (6, 4, 5), np.float32),
    "integers": (np.zeros((6, 4), int), {}, "features", (6, 4), np.float32),
    "one feature": (np.zeros(6), {}, "features", (6, 1), np.float32),
    "tokens": (np.zeros((6, 4), int), {"kind": "tokens"}, "tokens", (6, 4), np.int32),
    "bytes": (np.zeros((6, 4, 5), np.uint8), {"kind": "features"}, "features", (6, 4, 5), "f4"),
}


@pytest.mark.parametrize("case", KINDS)
def test_kinds_of_inputs(case: str, tmp_path: Path) -> None:
    values, options, kind, shape, dtype = KINDS[case]
    data = read_npz(written(tmp_path, x=values, y=CLASSES), **options).train
    assert (data.kind, data.inputs.shape, data.inputs.dtype) == (kind, shape, np.dtype(dtype))


def test_parts_of_the_file_and_at_random(tmp_path: Path) -> None:
    file = written(
        tmp_path, x_train=X, y_train=CLASSES, val_x=X[:2], val_y=[2, 2], x_test=X[:1], y_test=[0]
    )
    splits = read_npz(file)
    assert splits.validation is not None
    assert splits.test is not None
    assert [len(p) for p in (splits.train, splits.validation, splits.test)] == [6, 2, 1]
    np.testing.assert_array_equal(splits.validation.targets, [2, 2])
    assert splits.validation.class_names == splits.train.class_names
    random = read_npz(written(tmp_path, x=X, y=CLASSES), validation=2, test=1, seed=4)
    parts = [random.train, random.validation, random.test]
    rows = np.concatenate([np.c_[p.inputs, p.targets] for p in parts if p is not None])
    assert [len(p) for p in parts if p is not None] == [3, 2, 1]
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], np.c_[X, CLASSES])


def test_a_split_is_drawn_by_the_seed() -> None:
    data = Dataset(np.float32(X), np.int32(CLASSES), "classification", class_names=tuple("abc"))
    first, same, other = (split(data, validation=0.5, seed=seed).train for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.inputs, same.inputs)
    assert np.any(first.inputs != other.inputs)
    # The permutation is NumPy's PCG64, the same everywhere.
    expected = np.sort(np.random.default_rng(0).permutation(6)[:3])
    np.testing.assert_array_equal(first.inputs, data.inputs[expected])


def test_named_arrays_and_class_names(tmp_path: Path) -> None:
    file = written(tmp_path, a=X, b=CLASSES, a_test=X, b_test=CLASSES, class_names=list("abc"))
    splits = read_npz(file, inputs="a", targets="b")
    assert splits.train.class_names == ("a", "b", "c")
    assert splits.test is not None


def _with(values: Any, index: Any, value: Any) -> np.ndarray:
    changed = np.array(values)
    changed[index] = value
    return changed


# The arrays; the options; the message.
BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no x": ({"y": CLASSES}, {}, "array 'y' and no inputs"),
    "no y": ({"x": X}, {}, "array 'x' and no targets"),
    "other names": ({"a": X, "b": X}, {}, "needs arrays x and y.*it has a, b"),
    "two names": ({"x": X, "inputs": X, "y": CLASSES}, {}, "has x, inputs, which could"),
    "whole and part": (
        {"x": X, "y": CLASSES, "x_train": X, "y_train": CLASSES}, {}, "both 'x' and 'x_train'",
    ),
    "half a part": ({"x": X, "y": CLASSES, "x_test": X}, {}, "'x_test' and no targets"),
    "only test": ({"x_test": X, "y_test": CLASSES}, {}, "needs arrays x and y"),
    "unknown name": (
        {"pixels": X, "y": CLASSES}, {"inputs": "pixel"}, "no array 'pixel'.*did you mean 'pixels'",
    ),
    "lengths": ({"x": X, "y": CLASSES[:3]}, {}, r"same number.*\(6, 2\) and \(3,\)"),
    "scalar": ({"x": X, "y": 3}, {}, r"same number"),
    "no examples": ({"x": X[:0], "y": CLASSES[:0]}, {}, "at least 1"),
    "no features": ({"x": X[:, :0], "y": CLASSES}, {}, "holds no examples"),
    "text inputs": ({"x": np.array(["a"] * 6), "y": CLASSES}, {}, "array 'x' must hold numbers"),
    "complex": ({"x": X + 1j, "y": CLASSES}, {}, "must hold numbers, got complex128"),
    "objects": ({"x": X, "y": np.array([0, "a", None] * 2, object)}, {}, "'y' cannot be read"),
    "nan": ({"x": _with(X, (4, 1), np.nan), "y": CLASSES}, {}, r"example 4.*got nan at \(1,\)"),
    "infinite": ({"x": _with(X, (0, 1), -np.inf), "y": CLASSES}, {}, "example 0.*got -inf"),
    "too large": ({"x": _with(X, (5, 0), 1e39), "y": CLASSES}, {}, "example 5.*got 1e\\+39"),
    "nan target": ({"x": X, "y": _with(X[:, 0], 2, np.nan)}, {}, "example 2, array 'y'.*got nan"),
    "broken labels": (
        {"x": X, "y": _with(X[:, 0] % 2, 3, 0.5)}, {"task": "classification"},
        "example 3.*whole number.*got 0.5",
    ),
    "negative label": ({"x": X, "y": CLASSES - 1}, {}, "example 0.*class number.*got -1"),
    "labels from 1": ({"x": X, "y": CLASSES + 1}, {}, "class 3 but not 0: number the classes"),
    "gap": ({"x": X, "y": 2 * CLASSES}, {}, "class 4 but not 1"),
    "values as labels": ({"x": X, "y": CLASSES + 1_000_000}, {}, "example 2.*1000002 is not a cl"),
    "out of range": ({"x": X, "y": CLASSES}, {"class_names": ["a", "b"]}, "example 2.* 0 to 1"),
    "label of a part": (
        {"x": X, "y": CLASSES, "x_test": X[:2], "y_test": [0, 3]}, {}, "example 1, array 'y_test'",
    ),
    "type of a part": (
        {"x": X, "y": CLASSES, "x_test": X[:2], "y_test": ["a", "b"]}, {}, "class numbers as in",
    ),
    "one class": ({"x": X, "y": 0 * CLASSES}, {}, "only one class, 0"),
    "binary with three": ({"x": X, "y": CLASSES}, {"task": "binary"}, "3 classes.*binary"),
    "one-hot": ({"x": X, "y": np.eye(3, dtype=int)[CLASSES]}, {}, r"argmax\(axis=1\)"),
    "empty label": ({"x": X, "y": np.array([*"abcab", ""])}, {}, "example 5.*label is empty"),
    "text as numbers": ({"x": X, "y": np.array(list("abcabc"))}, {"task": "counts"}, "got 'a'"),
    "negative count": ({"x": X, "y": CLASSES - 1}, {"task": "counts"}, "example 0.*count.*got -1"),
    "three axes": ({"x": X, "y": X[None].repeat(6, 0)}, {}, r"\(examples, 6\), got \(6, 6, 2\)"),
    "shape of a part": (
        {"x": X, "y": CLASSES, "x_test": X[:2, :1], "y_test": [0, 1]}, {}, r"\(1,\).*\(2,\)",
    ),
    "float tokens": ({"x": X, "y": CLASSES}, {"kind": "tokens"}, "must hold tokens.*float64"),
    "negative token": (
        {"x": np.array([[1, 2], [3, -4]]), "y": [0, 1]}, {"kind": "tokens"},
        "example 1.*token.*got -4 at position 1",
    ),
    "flat images": ({"x": X, "y": CLASSES}, {"kind": "images"}, r"images.*got shape \(6, 2\)"),
    "test twice": (
        {"x": X, "y": CLASSES, "x_test": X[:2], "y_test": [0, 1]}, {"test": 0.5}, "own test part",
    ),
    "too many": ({"x": X, "y": CLASSES}, {"validation": 4, "test": 2}, "leave none of the 6"),
    "half an example": ({"x": X, "y": CLASSES}, {"validation": 1.5}, "validation must be a share"),
    "size": ({"x": X, "y": CLASSES}, {"max_bytes": 100}, "more than max_bytes=100"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_broken_arrays_are_one_line(case: str, tmp_path: Path) -> None:
    arrays, options, expected = BROKEN[case]
    with pytest.raises(DataError) as caught:
        read_npz(written(tmp_path, **arrays), **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert re.search(expected, message), message


def test_files_that_are_no_npz(tmp_path: Path) -> None:
    file = written(tmp_path, x=X, y=CLASSES)
    content = file.read_bytes()
    for broken in (b"x,y\n1,2\n", content[: len(content) // 2]):
        file.write_bytes(broken)
        with pytest.raises(DataError, match="is not an npz file, or it is damaged"):
            read_npz(file)
    file.write_bytes(content.replace(b"\x26\x40", b"\x27\x40", 1))  # 11.0, not by its checksum
    with pytest.raises(DataError, match="array 'x' cannot be read"):
        read_npz(file)
    file.write_bytes(content.replace(b"PK\x01\x02", b"PK\x01\x03", 1))
    with pytest.raises(DataError, match="is not an npz file, or it is damaged"):
        read_npz(file)
    flags = content.index(b"PK\x01\x02") + 8
    file.write_bytes(content[:flags] + b"\x01" + content[flags + 1 :])  # marked as encrypted
    with pytest.raises(DataError, match="array 'x' cannot be read .*encrypted"):
        read_npz(file)
    np.save(tmp_path / "a.npy", X)
    with pytest.raises(DataError, match="is not an npz file"):
        read_npz(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"b.npz does not exist, did you mean 'a.npz'"):
        read_npz(tmp_path / "b.npz")
