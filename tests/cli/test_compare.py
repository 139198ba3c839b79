"""compare: the scores of runs side by side, and only of runs on the same data."""

import json
import shutil
from pathlib import Path
from typing import Any

import cli_helpers as helpers
import pytest

from bnn_jax import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    helpers.write_table(folder / "houses.csv")
    return helpers.train(folder)


def changed(run: Path, folder: Path, old: str, new: str, **scores: Any) -> Path:
    """Returns a copy of a run with other settings or scores."""
    shutil.copytree(run, folder)
    config = folder / "config.yaml"
    text = config.read_text()
    assert old in text
    config.write_text(text.replace(old, new))
    summary = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps(summary | scores))
    return folder


def test_the_rows_are_the_scores_of_the_summaries(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(run, tmp_path / "other", "epochs: 2", "epochs: 3", rmse=1.5, method="swag")
    assert cli.main(["compare", str(run), str(other), "--json"]) == 0
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    summary = json.loads((run / "summary.json").read_text())
    assert (first["rmse"], second["rmse"]) == (summary["rmse"], 1.5)
    assert (first["epochs"], second["epochs"]) == (2, 3)
    assert (first["method"], second["method"]) == ("map", "swag")
    assert first["nll"] == summary["nll"]
    assert first["seconds"] == summary["train_seconds"]
    assert err == ""
    assert cli.main(["compare", str(run), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    header = next(line.split() for line in lines if "rmse" in line)
    row = next(line.split() for line in lines if line.split()[:1] == [str(other)])
    assert row[header.index("rmse")] == "1.5"
    assert "accuracy" not in header


def test_other_seeds_are_noted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(run, tmp_path / "other", "seed: 0", "seed: 1")
    assert cli.main(["compare", str(run), str(other)]) == 0
    assert "held-out examples differ" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("old", "new", "scores", "word"),
    [
        ("houses.csv", "flats.csv", {}, "data.path"),
        ("test: 8", "test: 9", {}, "data.test"),
        ("seed: 0", "seed: 0", {"num_held_out": 9}, "num_held_out is 8 and 9"),
    ],
)
def test_other_data_are_refused(
    old: str,
    new: str,
    scores: dict[str, Any],
    word: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = changed(run, tmp_path / "other", old, new, **scores)
    message = helpers.refused(["compare", str(run), str(other)], capsys)
    assert "different data" in message
    assert word in message


def test_a_file_that_changed_between_the_runs_is_noticed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = changed(run, tmp_path / "other", "seed: 0", "seed: 0")
    origin = json.loads((other / "origin.json").read_text())
    (other / "origin.json").write_text(json.dumps(origin | {"data": "0" * 64}))
    message = helpers.refused(["compare", str(run), str(other)], capsys)
    assert "files have changed" in message


def test_broken_calls_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "at least two" in helpers.refused(["compare", str(run)], capsys)
    assert "named twice" in helpers.refused(["compare", str(run), str(run)], capsys)
    assert "not a run" in helpers.refused(["compare", str(run), str(tmp_path)], capsys)
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    shutil.copy(run / "config.yaml", unfinished)
    assert "--resume" in helpers.refused(["compare", str(run), str(unfinished)], capsys)
    other = changed(run, tmp_path / "other", "seed: 0", "seed: 0")
    call = ["compare", str(run), str(other), "--output"]
    assert ".png" in helpers.refused([*call, str(tmp_path / "x.pdf")], capsys)
    (other / "metrics.jsonl").unlink()
    assert "metrics.jsonl" in helpers.refused([*call, str(tmp_path / "x.png")], capsys)
    assert not (tmp_path / "x.png").exists()


def test_the_figure_is_a_png(run: Path, tmp_path: Path) -> None:
    other = changed(run, tmp_path / "other", "seed: 0", "seed: 0")
    file = tmp_path / "curves.png"
    assert cli.main(["compare", str(run), str(other), "--output", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    from bnn_jax.experiment.comparison import histories
    from bnn_jax.report.figures.comparison import comparison

    figure = comparison(histories([run, other]), ["one", "two"], held_out="test")
    lines = [axes.get_lines() for axes in figure.axes]
    assert [len(found) for found in lines] == [2, 2]
    last = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])
    assert lines[0][0].get_ydata()[-1] == last["nll"]
    assert lines[1][0].get_ydata()[-1] == last["test"]["nll"]
