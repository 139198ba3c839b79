"""Data sets in CSV and Parquet files: what is read, and one clear line for each mistake."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_jax.data import DataError, TableEncoder, read_new_table, read_table
from bnn_jax.data.dataset import check_task
from bnn_jax.data.split import split_rows

HOUSES = """area,city,year,price,kind
50.5,Bern,1990,300.5,flat
80,Basel,2001,410.25,flat
120.25,Bern,1975,700,house
65,Chur,2010,280,flat
"""


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    file = tmp_path / "houses.csv"
    file.write_text(HOUSES)
    return file


def test_a_regression_with_categories(houses: Path) -> None:
    inputs = ["area", "city", "year"]
    splits = read_table(houses, inputs=inputs, targets="price", categorical=["city"])
    train = splits.train
    assert (train.task, train.kind, train.num_outputs) == ("regression", "features", 1)
    assert train.input_names == ("area", "city=Basel", "city=Bern", "city=Chur", "year")
    assert train.target_names == ("price",)
    expected = [
        [50.5, 0, 1, 0, 1990],
        [80, 1, 0, 0, 2001],
        [120.25, 0, 1, 0, 1975],
        [65, 0, 0, 1, 2010],
    ]
    np.testing.assert_array_equal(train.inputs, np.array(expected, np.float32))
    np.testing.assert_array_equal(train.targets, np.float32([[300.5], [410.25], [700], [280]]))
    assert train.inputs.dtype == train.targets.dtype == np.float32
    assert splits.validation is None
    assert splits.test is None


def test_classes_from_text_and_from_integers(houses: Path) -> None:
    kinds = read_table(houses, inputs=["area"], targets="kind").train
    assert (kinds.task, kinds.class_names) == ("classification", ("flat", "house"))
    np.testing.assert_array_equal(kinds.targets, np.int32([0, 0, 1, 0]))
    years = read_table(houses, inputs=["area"], targets="year", task="classification").train
    assert years.class_names == ("1975", "1990", "2001", "2010")
    np.testing.assert_array_equal(years.targets, np.int32([1, 2, 0, 3]))
    binary = read_table(houses, inputs=["area"], targets="kind", task="binary").train
    np.testing.assert_array_equal(binary.targets, np.int32([[0], [0], [1], [0]]))
    turned = read_table(
        houses, inputs=["area"], targets="kind", class_names=["house", "flat", "hut"]
    ).train
    assert (turned.class_names, turned.num_outputs) == (("house", "flat", "hut"), 3)
    np.testing.assert_array_equal(turned.targets, np.int32([1, 1, 0, 1]))


def test_counts_and_several_outputs(houses: Path) -> None:
    counts = read_table(houses, inputs=["area"], targets=["year"], task="counts").train
    np.testing.assert_array_equal(counts.targets, np.int32([[1990], [2001], [1975], [2010]]))
    both = read_table(houses, inputs=["area"], targets=["price", "year"]).train
    assert (both.task, both.num_outputs, both.target_names) == ("regression", 2, ("price", "year"))
    np.testing.assert_array_equal(both.targets[0], np.float32([300.5, 1990]))


def test_parts_at_random_and_from_files(houses: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"targets": "price", "categorical": ["city", "kind"]}
    whole = read_table(houses, **options).train
    parts = read_table(houses, **options, validation=1, test=0.25, seed=3)
    assert parts.validation is not None
    assert parts.test is not None
    got = np.concatenate([p.inputs for p in (parts.train, parts.validation, parts.test)])
    assert [len(p) for p in (parts.train, parts.validation, parts.test)] == [2, 1, 1]
    np.testing.assert_array_equal(np.sort(got, axis=0), np.sort(whole.inputs, axis=0))
    again = read_table(houses, **options, validation=1, test=0.25, seed=3)
    np.testing.assert_array_equal(parts.train.inputs, again.train.inputs)
    other = tmp_path / "test.csv"
    other.write_text("kind,price,year,city,area,extra\nhouse,1.5,2000,Chur,2.5,text\n")
    test = read_table(houses, **options, test=other).test
    assert test is not None
    np.testing.assert_array_equal(test.inputs, np.float32([[2.5, 0, 0, 1, 2000, 0, 1]]))


def test_missing_values_are_filled_from_the_training_part(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    rows = ["1,a,0.5", "2,,0.5", "NA,b,1.5", "9,a,2.5", "2, n/a ,3.5"]
    file.write_text("\n".join(["x,c,y", *rows]))
    options: dict[str, Any] = {"targets": "y", "categorical": ["c"]}
    fills = {"mean": 14 / 4, "median": 2.0, "most_frequent": 2.0}
    for rule, expected in fills.items():
        missing = {"x": rule, "c": "most_frequent"}
        x = read_table(file, **options, missing=missing).train.inputs
        np.testing.assert_allclose(x[:, 0], np.float32([1, 2, expected, 9, 2]))
        np.testing.assert_array_equal(x[:, 1], np.float32([1, 1, 0, 1, 1]))
    # Held-out rows do not count.
    file.write_text("x,y\n" + "".join(f"{2**i},0.5\n" for i in range(10)) + ",0.5\n")
    encoder = read_table(file, targets="y", missing="mean", validation=0.5, seed=1).encoder
    train = [i for i in split_rows(11, validation=0.5, seed=1)[0] if i < 10]
    assert encoder.inputs[0].fill == np.mean([2.0**i for i in train])


def test_an_encoder_goes_through_json_and_encodes_new_files(houses: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"targets": "kind", "categorical": ["city"]}
    splits = read_table(houses, **options, missing="most_frequent")
    encoder = TableEncoder.from_json(json.loads(json.dumps(splits.encoder.to_json())))
    assert encoder == splits.encoder
    inputs, targets = read_new_table(houses, encoder)
    np.testing.assert_array_equal(inputs, splits.train.inputs)
    np.testing.assert_array_equal(targets, splits.train.targets)
    new = tmp_path / "new.csv"
    for header, row in (
        ("city,area,price,year", "Bern,,1,3"),
        ("year,kind,price,city,area", "3,,1,Bern,"),
    ):
        new.write_text(f"{header}\n{row}\n")
        inputs, targets = read_new_table(new, encoder)
        np.testing.assert_array_equal(inputs, np.float32([[50.5, 0, 1, 0, 3, 1]]))
        assert targets is None


def test_forms_of_csv(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    text = (
        '\ufeff"x ";flag;name\r\n1e1;true;"a;""b"""\r\n\r\n -2 ;False;"two\nlines"\r\n+3;TRUE;é\r\n'
    )
    file.write_bytes(text.encode())
    data = read_table(file, targets="name", delimiter=";").train
    np.testing.assert_array_equal(data.inputs, np.float32([[10, 1], [-2, 0], [3, 1]]))
    assert data.class_names == ('a;"b"', "two\nlines", "é")
    file.write_bytes(text[1:].encode("latin-1"))
    same = read_table(file, targets="name", delimiter=";", encoding="latin-1").train
    np.testing.assert_array_equal(data.targets, same.targets)


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = {
        "area": pyarrow.array([50.5, None, 120.25]),
        "floors": pyarrow.array([1, 2, 10]),
        "new": pyarrow.array([True, False, True]),
        "city": pyarrow.array(["Bern", "Chur", "Bern"]).dictionary_encode(),
        "label": pyarrow.array([3, 10, 3]),
        "day": pyarrow.array([1, 2, None], pyarrow.date32()),
        "tax": pyarrow.array([Decimal("1.5"), None, Decimal(2)], pyarrow.decimal128(9, 2)),
    }
    file = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table(columns), file)
    inputs = ["area", "floors", "new", "city"]
    options: dict[str, Any] = {
        "inputs": inputs,
        "categorical": ["city", "floors"],
        "missing": {"area": "median"},
    }
    data = read_table(file, targets="label", task="classification", **options).train
    assert data.input_names == (
        "area", "floors=1", "floors=10", "floors=2", "new", "city=Bern", "city=Chur",
    )  # fmt: skip
    np.testing.assert_array_equal(data.inputs[1], np.float32([85.375, 0, 0, 1, 0, 0, 1]))
    assert data.class_names == ("3", "10")
    np.testing.assert_array_equal(data.targets, np.int32([0, 1, 0]))
    tax = read_table(file, inputs=["tax"], targets="label", task="counts", missing="mean").train
    np.testing.assert_array_equal(tax.inputs, np.float32([[1.5], [1.75], [2]]))
    with pytest.raises(DataError, match="row 1, column 'area': the value is missing"):
        read_table(file, inputs=["area"], targets="label", task="classification")
    with pytest.raises(DataError, match="row 0, column 'day': .* number, got '1970-01-02'"):
        read_table(file, inputs=["day"], targets="label", task="counts")
    with pytest.raises(DataError, match="max_bytes"):
        read_table(file, targets="label", max_bytes=10)
    file.write_bytes(b"x,y\n1,2\n")
    with pytest.raises(DataError, match="is not a Parquet file"):
        read_table(file, targets="label")


# The content of a.csv; the arguments besides the target y; the message.
FILES: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "empty file": ("", {}, "a.csv is empty"),
    "blank file": ("\n\n", {}, "no line with the names"),
    "no rows": ("x,y\n", {}, "no rows below"),
    "no header": ("1,2\n3,4\n", {}, "line 1: the first line must name the columns, got 1, 2"),
    "a column without a name": ("x,,y\n1,2,3\n", {}, "column 2 has no name"),
    "equal names": ("x,y,x\n1,2,3\n", {}, "columns 1 and 3 have the same name 'x'"),
    "short row": ("x,z,y\n1,2,3.5\n1,2\n", {}, "line 3: 2 values, and .* 3 columns"),
    "long row": ("x,y\n1,2.5,3\n", {}, "line 2: 3 values"),
    "another delimiter": ("x;y\n1;2\n", {}, "set delimiter to ';'"),
    "tabs": ("x\ty\n1\t2\n", {}, r"set delimiter to '\\t'"),
    "text among numbers": (
        "x,y\n1,2.5\nabc,2.5\n", {}, "a.csv, line 3, column 'x': .* number, got 'abc'.*categorical",
    ),
    "decimal comma": ('x,y\n"1,5",2.5\n', {}, "got '1,5': write a decimal point"),
    "thousands": ('x,y\n"1,234,567",2.5\n', {}, "thousands separators"),
    "infinite input": ("x,y\n1,2.5\ninf,2.5\n", {}, "line 3, column 'x'.*finite.*'inf'"),
    "too large for float32": ("x,y\n1e39,2.5\n", {}, "line 2.*finite in float32.*'1e39'"),
    "missing input": ("x,y\n1,2.5\n,2.5\n", {}, "line 3, column 'x': .*missing.*mean or median"),
    "nan": ("x,y\nNaN,2.5\n2,2.5\n", {}, "line 2, column 'x': the value is missing"),
    "missing category": (
        "x,y\na,2.5\n,2.5\n", {"categorical": ["x"]}, "line 3.*missing.*most_frequent",
    ),
    "mean of categories": (
        "x,y\na,2.5\n,2.5\n", {"categorical": ["x"], "missing": "mean"}, "have no mean.*most_freq",
    ),
    "empty column": ("x,y\n,2.5\n,2.5\n", {"missing": "mean"}, "'x' has no values"),
    "missing target": ("x,y\n1,2.5\n1,\n", {"missing": "mean"}, "line 3, column 'y': the target"),
    "text among target numbers": ("x,y\n1,2.5\n1,abc\n", {}, "line 3.*'abc' after '2.5'"),
    "number among classes": ("x,y\n1,abc\n1,2.5\n", {}, "line 3.*'2.5' after 'abc'"),
    "text for a regression": (
        "x,y\n1,abc\n", {"task": "regression"}, "line 2, column 'y'.*number, got 'abc'.*set task",
    ),
    "infinite target": ("x,y\n1,2.5\n1,-inf\n", {}, "line 3, column 'y'.*finite"),
    "integers without task": ("x,y\n1,2\n1,3\n", {}, "holds integers, such as 2: set task"),
    "one class": ("x,y\n1,a\n2,a\n", {}, "only one class, a"),
    "three classes for binary": ("x,y\n1,a\n2,b\n3,c\n", {"task": "binary"}, "3 classes.*has 2"),
    "negative count": ("x,y\n1,2\n2,-1\n", {"task": "counts"}, "line 3.*count.*got -1"),
    "broken count": ("x,y\n1,2\n2,1.5\n", {"task": "counts"}, "line 3.*count.*got 1.5"),
    "unknown class": ("x,y\n1,a\n2,bb\n", {"class_names": ["a", "b"]}, "line 3.*'bb'.*'b'"),
    "equal class names": ("x,y\n1,a\n", {"class_names": ["a", "a"]}, "must differ, got 'a' twice"),
    "class names as text": ("x,y\n1,a\n", {"class_names": "ab"}, "must be a list of names"),
    "class names of numbers": ("x,y\n1,2.5\n", {"class_names": ["a", "b"]}, "task is regression"),
    "another encoding": ("x,y\né,2.5\n".encode("latin-1"), {}, "not text in utf-8.*set encoding"),
    "utf-16": ("x,y\n1,2.5\n".encode("utf-16"), {}, "not text in utf-8.*utf-16"),
    "unknown encoding": ("x,y\n1,2.5\n", {"encoding": "utf-99"}, "encoding.*got 'utf-99'"),
    "open quote": ('x,y\n1,2.5\n"1,2.5\n', {}, "a.csv, line 3: .*quotes"),
    "text after a quote": ('x,y\n"1"2,2.5\n', {}, "line 2: .*quotes"),
    "long delimiter": ("x,y\n1,2.5\n", {"delimiter": ", "}, "one character.*', '"),
    "too large": ("x,y\n1,2.5\n", {"max_bytes": 5}, "10 bytes, more than max_bytes=5"),
    "unknown target": ("x,z\n1,2.5\n", {}, "no column 'y'. It has the columns x, z"),
    "target as input": ("x,y\n1,2.5\n", {"inputs": ["x", "y"]}, "'y' is both an input and"),
    "unknown input": (
        "area,y\n1,2.5\n", {"inputs": ["aera"]}, "no column 'aera', did you mean 'area'",
    ),
    "input twice": ("x,y\n1,2.5\n", {"inputs": ["x", "x"]}, "inputs names the column 'x' twice"),
    "inputs as text": ("x,y\n1,2.5\n", {"inputs": "x"}, r"inputs must be a list.*\[x\]"),
    "no inputs": ("y\n2.5\n", {}, "no columns but the targets y"),
    "no targets": ("x,y\n1,2.5\n", {"targets": []}, "at least one column"),
    "two class columns": (
        "x,y,z\n1,a,b\n", {"targets": ["y", "z"], "task": "classification"}, "one target.*y, z",
    ),
    "unknown categorical": ("xx,y\n1,2.5\n", {"categorical": ["x"]}, "not among the inputs.*'xx'"),
    "unknown rule": ("x,y\n1,2.5\n", {"missing": "zero"}, "missing must be one of.*got 'zero'"),
    "rule of an unknown input": (
        "x,y\n1,2.5\n", {"missing": {"xx": "mean"}}, "missing names 'xx'.*'x'",
    ),
    "share of 1.5": ("x,y\n1,2.5\n", {"validation": 1.5}, "validation must be a share"),
    "negative share": ("x,y\n1,2.5\n", {"test": -0.1}, "test must be a share"),
    "nothing to train on": ("x,y\n1,2.5\n2,2.5\n", {"validation": 2}, "leave none of the 2"),
    "a share that is none": ("x,y\n1,2.5\n2,2.5\n", {"validation": 0.1}, "is none"),
    "no test file": ("x,y\n1,2.5\n", {"test": "b.csv"}, "b.csv does not exist"),
}  # fmt: skip


@pytest.mark.parametrize("case", FILES)
def test_a_broken_table_is_one_line(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, options, expected = FILES[case]
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        read_table("a.csv", **{"targets": "y", **options})
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert re.search(expected, message), message


# A later file for an encoder of area, city and kind -> price.
NEW = {
    "no column": ("city,kind\nBern,flat\n", "no column 'area'"),
    "nearest column": ("aera,city,kind\n1,Bern,flat\n", "no column 'area', did you mean 'aera'"),
    "unseen category": (
        "area,city,kind\n1,Bern,flat\n1,Bernn,flat\n",
        "line 3.*did you mean 'Bern'",
    ),
    "missing value": (
        "area,city,kind\n,Bern,flat\n",
        "line 2, column 'area': the value is missing",
    ),
    "text": ("area,city,kind\nbig,Bern,flat\n", "line 2, column 'area'.*got 'big'"),
    "a missing target": ("area,city,kind,price\n1,Bern,flat,1.5\n1,Bern,flat,\n", "line 3.*target"),
    "a text target": ("area,city,kind,price\n1,Bern,flat,high\n", "line 2, column 'price'.*'high'"),
}


@pytest.mark.parametrize("case", NEW)
def test_a_new_file_that_does_not_fit_is_one_line(case: str, houses: Path) -> None:
    content, expected = NEW[case]
    inputs = ["area", "city", "kind"]
    encoder = read_table(
        houses, inputs=inputs, targets="price", categorical=["city", "kind"]
    ).encoder
    houses.write_text(content)
    with pytest.raises(DataError) as caught:
        read_new_table(houses, encoder)
    assert re.search(expected, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)


def test_a_class_that_training_lacks_is_an_error_in_a_test_file(houses: Path) -> None:
    other = houses.parent / "test.csv"
    other.write_text(HOUSES + "1,Bern,2000,1,hut\n")
    with pytest.raises(DataError, match=r"test.csv, line 6, column 'kind': 'hut' is none of the"):
        read_table(houses, inputs=["area"], targets="kind", test=other)


def test_an_unknown_task_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="task must be one of classification.*got 'regresion'"):
        check_task("regresion")


def test_a_saved_encoder_must_be_one() -> None:
    with pytest.raises(DataError, match="no saved table encoder"):
        TableEncoder.from_json({"inputs": []})


@pytest.mark.parametrize("file", ["no.csv", "no/a.csv", "."])
def test_a_file_that_is_none(file: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist|is a folder"):
        read_table(tmp_path / file, targets="y")
