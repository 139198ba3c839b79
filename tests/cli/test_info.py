"""info: all that a run folder holds, without loading data or running code."""

import json
import shutil
from pathlib import Path

import cli_helpers as helpers
import pytest

from bnn_jax import cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("info")
    helpers.write_table(folder / "houses.csv")
    run = helpers.train(folder)
    (folder / "houses.csv").unlink()  # nothing here needs the data
    return run


def test_the_json_agrees_with_the_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((run / "summary.json").read_text())
    assert (found["status"], found["method"]) == ("finished", "map")
    # 4 inputs, 8 hidden units, 1 output, with biases.
    assert found["model"] == {
        "name": "mlp",
        "num_weights": 4 * 8 + 8 + 8 + 1,
        "num_random_weights": summary["num_random_weights"],
    }
    assert found["data"]["num_train"] == 32
    assert found["data"]["num_held_out"] == 8
    assert found["scores"]["rmse"] == summary["rmse"]
    assert found["scores"]["nll"] == summary["nll"]
    assert found["settings"]["training"]["epochs"] == found["training"]["epochs"] == 2
    assert found["files"]["config.yaml"] == (run / "config.yaml").stat().st_size
    inner = [p for p in (run / "posterior").rglob("*") if p.is_file()]
    assert found["files"]["posterior/"] == sum(p.stat().st_size for p in inner)


def test_the_table_has_a_line_for_each_value(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["info", str(run)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["status", "finished"] in lines
    assert ["method", "map"] in lines
    assert ["num_weights", "49"] in lines
    assert ["batch_size", "16"] in lines


def test_an_unfinished_run_is_described(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(run / "config.yaml", tmp_path)
    assert cli.main(["info", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["status"], found["scores"]) == ("not finished", {})
    assert cli.main(["info", str(tmp_path)]) == 0
    assert "not finished" in capsys.readouterr().out


def test_a_broken_folder_is_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "not a run folder" in helpers.refused(["info", str(tmp_path)], capsys)
    shutil.copy(run / "config.yaml", tmp_path)
    (tmp_path / "summary.json").write_text("{")
    assert "summary.json is damaged" in helpers.refused(["info", str(tmp_path)], capsys)
    (tmp_path / "config.yaml").write_text("seed: [")
    assert "config.yaml" in helpers.refused(["info", str(tmp_path)], capsys)
