"""predict: columns that agree with the run's own predictions, and broken inputs in one line."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cli_helpers as helpers
import numpy as np
import pytest

from bnn_jax import cli, experiment

SUFFIXES = ["csv", "npz"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predict")
    helpers.write_table(folder / "houses.csv")
    return helpers.train(folder)


@pytest.fixture(scope="module")
def loaded(run: Path) -> experiment.Run:
    return experiment.load(run)


@pytest.fixture
def new(run: Path, tmp_path: Path) -> Path:
    """A new table without targets."""
    file = tmp_path / "new.csv"
    file.write_text("city,size\nB,80.5\nA,31\nC,140\n")
    return file


def predict(run: Path, source: Path, output: Path, *words: str) -> list[str]:
    return ["predict", str(run), "--input", str(source), "--output", str(output), *words]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_table_gives_the_predictions_of_the_run(
    suffix: str, run: Path, loaded: experiment.Run, new: Path, tmp_path: Path
) -> None:
    file = tmp_path / f"out.{suffix}"
    assert cli.main(predict(run, new, file)) == 0
    if suffix == "csv":
        found = {k: np.array(v, np.float32) for k, v in helpers.read_csv(file).items()}
    else:
        found = dict(np.load(file, allow_pickle=False))
    # Encoded by hand: the columns are size, city=A, city=B, city=C.
    x = np.array([[80.5, 0, 1, 0], [31, 1, 0, 0], [140, 0, 0, 1]], np.float32)
    p = loaded.predict(loaded.fit.posterior, x, levels=(0.05, 0.95))
    assert list(found) == ["mean", "std", "aleatoric_std", "epistemic_std", "q05", "q95"]
    np.testing.assert_array_equal(found["mean"], p.mean[:, 0])
    np.testing.assert_array_equal(found["std"], np.sqrt(p.variance)[:, 0])
    np.testing.assert_array_equal(found["q05"], p.quantiles[0.05][:, 0])
    np.testing.assert_array_equal(found["q95"], p.quantiles[0.95][:, 0])
    # One network has no epistemic uncertainty.
    np.testing.assert_array_equal(found["epistemic_std"], 0)
    np.testing.assert_allclose(found["aleatoric_std"], found["std"], rtol=1e-6)
    assert 10_000 < found["mean"].min() < found["mean"].max() < 1_000_000


def test_an_npz_file_gives_the_same_as_a_table(run: Path, new: Path, tmp_path: Path) -> None:
    x = np.array([[80.5, 0, 1, 0], [31, 1, 0, 0], [140, 0, 0, 1]])
    np.savez(tmp_path / "x.npz", x=x)
    for source in (new, tmp_path / "x.npz"):
        assert cli.main(predict(run, source, tmp_path / f"{source.stem}-out.csv")) == 0
    assert (tmp_path / "new-out.csv").read_bytes() == (tmp_path / "x-out.csv").read_bytes()


def test_targets_in_the_table_are_ignored(run: Path, new: Path, tmp_path: Path) -> None:
    more = tmp_path / "more.csv"
    more.write_text("city,note,size,price\nB,x,80.5,1\nA,y,31,\nC,z,140,3\n")
    for source in (new, more):
        assert cli.main(predict(run, source, tmp_path / f"{source.stem}-out.csv")) == 0
    assert (tmp_path / "new-out.csv").read_bytes() == (tmp_path / "more-out.csv").read_bytes()


def test_a_file_is_replaced_only_when_asked(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.csv"
    file.write_text("precious")
    message = helpers.refused(predict(run, new, file), capsys)
    assert "exists" in message
    assert "--overwrite" in message
    assert file.read_text() == "precious"
    assert cli.main(predict(run, new, file, "--overwrite")) == 0
    assert file.read_text().startswith("mean,std,")


# What the message of each broken table must say; {} is the folder.
BROKEN_TABLES = {
    "": ["is empty"],
    "size,city\n": ["no rows"],
    "city\nA\n": ["no column 'size'", "city"],
    "Size,city\n1,A\n": ["no column 'size'", "did you mean 'Size'"],
    "size,city\n1,D\n": ["line 2", "'city'", "'D'"],
    "size,city\n1,a\n": ["line 2", "'city'", "'a'"],
    "size,city\n1,\n": ["line 2", "'city'"],
    "size,city\n1,A\nbig,A\n": ["line 3", "'size'", "'big'"],
    "size,city\n1.234,A\n1.234,5,A\n": ["line 3"],
    "size,city\n,A\n": ["line 2", "'size'"],
    "size,city\ninf,A\n": ["line 2", "'size'", "finite"],
    "size,city\n1e60,A\n": ["line 2", "'size'", "finite in float32"],
    "size,city\nnan,A\n": ["line 2", "'size'"],
    "size,size,city\n1,2,A\n": ["'size'", "rename"],
    "size;city\n1;A\n": ["delimiter"],
    "1,A\n2,B\n": ["no column 'size'"],
    "size,city\n3e38,A\n": ["example 0", "not finite"],
}


@pytest.mark.parametrize("text", BROKEN_TABLES)
def test_a_broken_table_is_refused(
    text: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "new.csv"
    source.write_text(text)
    message = helpers.refused(predict(run, source, tmp_path / "out.csv"), capsys)
    for words in BROKEN_TABLES[text]:
        assert words in message
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


BROKEN_ARRAYS = {
    "width": ({"x": np.ones((3, 5))}, ["(examples, 4)", "(3, 5)"]),
    "one axis": ({"x": np.ones(4)}, ["(examples, 4)", "(4,)"]),
    "name": ({"z": np.ones((3, 4))}, ["no array 'x'", "z"]),
    "none": ({}, ["is empty"]),
    "empty": ({"x": np.ones((0, 4))}, ["no examples"]),
    "text": ({"x": np.full((3, 4), "a")}, ["must hold numbers"]),
    "complex": ({"x": np.ones((3, 4), complex)}, ["must hold numbers"]),
    "nan": ({"x": np.array([[1, 0, 0, 1], [1, np.nan, 0, 1]])}, ["example 1", "finite"]),
    "objects": ({"x": np.array([[1, None]])}, ["cannot be read"]),
}


@pytest.mark.parametrize("name", BROKEN_ARRAYS)
def test_a_broken_npz_file_is_refused(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays, words = BROKEN_ARRAYS[name]
    np.savez(tmp_path / "new.npz", **arrays)
    message = helpers.refused(predict(run, tmp_path / "new.npz", tmp_path / "out.csv"), capsys)
    for word in words:
        assert word in message
    assert [path.name for path in tmp_path.iterdir()] == ["new.npz"]


def _cut(folder: Path) -> Path:
    (folder / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    return folder / "cut.npz"


def _pickle(folder: Path) -> Path:
    (folder / "x.pkl").write_bytes(b"x")
    return folder / "x.pkl"


def _binary(folder: Path) -> Path:
    (folder / "x.csv").write_bytes(bytes(range(256)))
    return folder / "x.csv"


BROKEN_SOURCES: dict[str, tuple[Callable[[Path], Path], list[str]]] = {
    "missing": (lambda folder: folder / "no.csv", ["no.csv", "does not exist"]),
    "missing npz": (lambda folder: folder / "no.npz", ["no.npz", "does not exist"]),
    "missing folder": (lambda folder: folder / "no" / "x.csv", ["there is no folder"]),
    "a folder": (lambda folder: folder, ["is a folder", "a table"]),
    "cut npz": (_cut, ["not an npz file"]),
    "pickle": (_pickle, ["must be a table", "npz"]),
    "binary": (_binary, ["x.csv"]),
}


@pytest.mark.parametrize("name", BROKEN_SOURCES)
def test_a_broken_source_is_refused(
    name: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, words = BROKEN_SOURCES[name]
    source = make(tmp_path)
    message = helpers.refused(predict(run, source, tmp_path / "out.csv"), capsys)
    for word in words:
        assert word in message
    assert not (tmp_path / "out.csv").exists()


BROKEN_OUTPUTS = {
    "out.txt": [".csv or .npz"],
    "out": [".csv or .npz"],
    "no/out.csv": ["needs the folder"],
    "new.csv": ["is the input"],
    "folder.csv": ["is a folder"],
}


@pytest.mark.parametrize("name", BROKEN_OUTPUTS)
def test_a_broken_output_is_refused_before_the_run_is_loaded(
    name: str, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder.csv").mkdir()
    before = new.read_bytes()
    message = helpers.refused(
        predict(tmp_path / "no-run", new, tmp_path / name, "--overwrite"), capsys
    )
    for word in BROKEN_OUTPUTS[name]:
        assert word in message
    assert new.read_bytes() == before


def test_a_broken_run_is_refused(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "out.csv"
    assert "not a run folder" in helpers.refused(predict(tmp_path, new, file), capsys)
    assert "not a run folder" in helpers.refused(predict(tmp_path / "no", new, file), capsys)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "config.yaml", unfinished)
    assert "--resume" in helpers.refused(predict(unfinished, new, file), capsys)
    damaged = tmp_path / "damaged"
    shutil.copytree(run, damaged)
    contents = next((damaged / "posterior").rglob("contents.json"))
    contents.write_bytes(contents.read_bytes()[:-40])
    assert "damaged" in helpers.refused(predict(damaged, new, file), capsys)
    assert "only evaluation" in helpers.refused(predict(run, new, file, "seed=1"), capsys)
    assert "--input" in helpers.refused(["predict", str(run), "--output", "x.csv"], capsys)
    assert not file.exists()


def test_changed_training_data_are_refused(
    run: Path, new: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = run.parent / "houses.csv"
    before = table.read_text()
    try:
        table.write_text(before.replace(",A,", ",D,", 1))
        message = helpers.refused(predict(run, new, tmp_path / "out.csv"), capsys)
    finally:
        table.write_text(before)
    assert "have changed since" in message
