"""Sweeps over a grid of settings."""

import csv
from pathlib import Path
from typing import Any

import pytest
from table_runs import write

from bnn_jax import cli
from bnn_jax import config as configs
from bnn_jax.cli import errors
from bnn_jax.config.errors import ConfigError
from bnn_jax.experiment import seeds, sweep
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting.divergence import Diverged

RATES = "inference.learning_rate=[1e-3,1e-2]"


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process, which is here that of all tests."""
    monkeypatch.setattr(errors, "keep_compiled_code", lambda: None)


def test_a_sweep_ranks_its_runs_by_their_validation_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sweep", str(write(tmp_path)), RATES, "training.epochs=2", "--by", "rmse"]
    assert cli.main(arguments) == 0
    first = capsys.readouterr().out
    folder = tmp_path / "run"
    rows = list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))
    assert {row["inference.learning_rate"] for row in rows} == {"0.001", "0.01"}
    scores = [float(row["rmse"]) for row in rows]
    assert scores == sorted(scores)
    for row in rows:
        summary = seeds.RunFolder(folder / row["folder"]).read_summary()
        assert summary["evaluated_on"] == "validation"
        assert summary["rmse"] == float(row["rmse"])
    assert first.splitlines()[-1].endswith(rows[0]["folder"])
    assert (folder / "sweep.png").stat().st_size > 1000
    assert cli.main(arguments) == 0  # all are finished
    assert capsys.readouterr().out == first


def replace_training(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    done: list[str] = []

    def train(config: configs.Config) -> dict[str, Any]:
        done.append(config.output.dir.name)
        config.output.dir.mkdir(parents=True)
        rate = getattr(config.inference, "learning_rate", None)
        return {"nll": float(rate or 0), "accuracy": 0.5, "train_seconds": 1.0}

    monkeypatch.setattr(seeds, "train_or_skip", train)
    monkeypatch.setattr(sweep, "_check", lambda config: None)
    return done


def test_the_points_are_all_combinations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = replace_training(monkeypatch)
    overrides = [RATES, "model.hidden=[[4],[4,4]]", "training.epochs=3"]
    grid = sweep.read_grid(write(tmp_path), overrides)
    result = sweep.sweep(grid)
    assert done == [
        "learning_rate=0.001_hidden=4",
        "learning_rate=0.001_hidden=4,4",
        "learning_rate=0.01_hidden=4",
        "learning_rate=0.01_hidden=4,4",
    ]
    assert [row["scores"]["nll"] for row in result["table"]] == [0.001, 0.001, 0.01, 0.01]
    assert result["best"]["settings"] == {"inference.learning_rate": 1e-3, "model.hidden": [4]}


def test_a_run_that_diverges_comes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_training(monkeypatch)
    train = seeds.train_or_skip

    def diverging(config: configs.Config) -> dict[str, Any]:
        if "0.001" in config.output.dir.name:
            raise Diverged("The loss is infinite.", step=1, where="loss")
        return train(config)

    monkeypatch.setattr(seeds, "train_or_skip", diverging)
    result = sweep.sweep(sweep.read_grid(write(tmp_path), [RATES]))
    assert [row["folder"] for row in result["table"]] == [
        "learning_rate=0.01",
        "learning_rate=0.001",
    ]
    assert sweep.as_text(result).splitlines()[2].split() == ["0.001", "-", "-", "-"]


def test_sections_as_values_get_folders_of_their_own(tmp_path: Path) -> None:
    write(tmp_path)
    axis = "prior=[{name: normal, std: 1.0},{name: laplace, scale: 1.0}]"
    grid = sweep.read_grid(tmp_path / "house.yaml", [axis])
    names = [sweep._name(point) for point in grid.points]
    assert len(set(names)) == 2
    assert all(len(name) < 120 and "/" not in name for name in names)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["training.epochs=2"], "a list of values for at least one setting"),
        (["training.epochs=[]"], "a list of different values"),
        (["training.epochs=[1,1]"], "a list of different values"),
        (["training.epochs"], "must have the form"),
        (["seed=[1,2]"], "set 'seeds' in"),
        (["output.dir=[a,b]"], "cannot be chosen by a sweep"),
    ],
)
def test_a_wrong_grid_is_refused(overrides: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        sweep.read_grid(write(tmp_path), overrides)


@pytest.mark.parametrize(
    ("overrides", "by", "words"),
    [
        ([RATES, "data.validation=0"], "nll", "set data.validation to a share"),
        (["training.epochs=[1,0]"], "nll", "'training.epochs' must be a whole number >= 1, got 0"),
        ([RATES], "accuracy", "--by must be one of nll, rmse"),
        ([RATES, "training.batch_size=[10,1000]"], "nll", "lower it"),
        (
            [
                "seed=0",
                "training.epochs=[1,2]",
                "data={name: digits}",
                "likelihood={name: categorical}",
            ],
            "nll",
            "set data.validation to a number of training images",
        ),
        (
            ["training.epochs=[1,2]", "data={name: blundell_curve, train_examples: 20}"],
            "nll",
            "use own data with data.validation",
        ),
    ],
)
def test_a_sweep_that_cannot_choose_is_refused_first(
    overrides: list[str], by: str, words: str, tmp_path: Path
) -> None:
    grid = sweep.read_grid(write(tmp_path), overrides)
    with pytest.raises((ConfigError, RunError), match=words):
        sweep.sweep(grid, by=by)
    assert not (tmp_path / "run").exists()


def test_the_folder_of_a_run_is_not_overwritten(tmp_path: Path) -> None:
    grid = sweep.read_grid(write(tmp_path), [RATES])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        sweep.sweep(grid)
