"""Runs for several seeds, and for the standard splits of a UCI set."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from table_runs import write

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.experiment import commands, seeds
from bnn_jax.experiment.folder import RunError


def test_the_mean_and_its_standard_error_are_those_of_scipy() -> None:
    values = np.random.default_rng(0).normal(size=(5, 2))
    runs = {
        f"seed-{i}": {"nll": float(a), "of": {"x": float(b)}} for i, (a, b) in enumerate(values)
    }
    found = seeds.summarise(runs)
    assert found["mean"] == pytest.approx({"nll": values[:, 0].mean(), "of.x": values[:, 1].mean()})
    errors = stats.sem(values)
    assert found["standard_error"] == pytest.approx({"nll": errors[0], "of.x": errors[1]})


def test_one_run_has_no_standard_error() -> None:
    found = seeds.summarise({"seed-3": {"nll": 1.5, "num_train": 3}})
    assert found["mean"] == {"nll": 1.5}
    assert found["standard_error"] == {"nll": None}


def test_scores_that_a_run_lacks_are_left_out() -> None:
    found = seeds.summarise({"a": {"nll": 1.0, "ece": 0.1}, "b": {"nll": 2.0}})
    assert found["mean"] == {"nll": 1.5}


def calls_of_train(monkeypatch: pytest.MonkeyPatch, fail_at: int | None = None) -> list[str]:
    """Replaces the training of one run by its record; the call of this number is interrupted."""
    done: list[str] = []

    def train(config: configs.Config, *, resume: bool = False) -> dict[str, Any]:
        done.append(config.output.dir.name + ("+" if resume else ""))
        folder = seeds.RunFolder(config.output.dir)
        folder.create(config)
        if len(done) == fail_at:
            raise KeyboardInterrupt
        summary = {"status": "finished", "nll": float(config.seed), "train_seconds": 1.0}
        folder.write_summary(summary)
        return summary

    monkeypatch.setattr(commands, "train", train)
    monkeypatch.setattr(seeds, "set_up", lambda config: None)
    return done


def test_an_interrupted_seed_is_resumed_and_finished_ones_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = configs.load(write(tmp_path), ["seeds=[0,1,2]"])
    done = calls_of_train(monkeypatch, fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        experiment.train(settings)
    assert done == ["seed-0", "seed-1"]
    summary = experiment.train(settings, resume=True)
    assert done[2:] == ["seed-1+", "seed-2"]
    assert summary["mean"]["nll"] == 1.0
    assert summary["standard_error"]["nll"] == pytest.approx(1 / 3**0.5)


def test_other_settings_are_not_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    calls_of_train(monkeypatch)
    experiment.train(configs.load(path, ["seeds=[0,1]"]))
    with pytest.raises(RunError, match=r"other settings \(seeds\)"):
        experiment.train(configs.load(path, ["seeds=[0,2]"]), resume=True)
    with pytest.raises(RunError, match="name the folder of one, such as .*seed-0"):
        experiment.load(tmp_path / "run")


def test_each_seed_is_the_run_of_this_seed(tmp_path: Path) -> None:
    path = write(tmp_path)
    summary = experiment.train(configs.load(path, ["seeds=[0,1]"]))
    alone = experiment.train(configs.load(path, ["seed=1", f"output.dir={tmp_path}/alone"]))
    assert summary["runs"]["seed-1"]["nll"] == alone["nll"]
    assert summary["runs"]["seed-0"]["nll"] != alone["nll"]
    rows = list(csv.DictReader((tmp_path / "run" / "seeds.csv").read_text().splitlines()))
    assert [row["run"] for row in rows] == ["seed-0", "seed-1", "mean", "standard error"]
    assert float(rows[1]["rmse"]) == alone["rmse"]
    assert json.loads((tmp_path / "run" / "seeds.json").read_text()) == summary
    table = experiment.table(summary)
    assert "nll" in table
    assert "2 runs in" in table
    assert experiment.load(tmp_path / "run" / "seed-1").config.seed == 1


def write_uci(folder: Path, count: int) -> None:
    files = folder / "yacht" / "data"
    files.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savetxt(files / "data.txt", rng.normal(size=(30, 3)))
    np.savetxt(files / "index_features.txt", [0, 1], fmt="%d")
    np.savetxt(files / "index_target.txt", [2], fmt="%d")
    np.savetxt(files / "n_splits.txt", [count], fmt="%d")
    for i in range(count):
        order = rng.permutation(30)
        np.savetxt(files / f"index_train_{i}.txt", order[:25], fmt="%d")
        np.savetxt(files / f"index_test_{i}.txt", order[25:], fmt="%d")


def test_all_splits_of_a_uci_set_are_run_by_one_call(tmp_path: Path) -> None:
    write_uci(tmp_path, 2)
    data = f"data={{format: uci, name: yacht, folder: {tmp_path}, split: all}}"
    summary = experiment.train(configs.load(write(tmp_path), [data]))
    assert list(summary["runs"]) == ["split-0", "split-1"]
    assert (tmp_path / "run" / "splits.csv").is_file()
    alone = data.replace("split: all", "split: 1")
    one = experiment.train(
        configs.load(tmp_path / "house.yaml", [alone, f"output.dir={tmp_path}/alone"])
    )
    assert summary["runs"]["split-1"]["rmse"] == one["rmse"]
    assert summary["mean"]["rmse"] == pytest.approx(
        np.mean([run["rmse"] for run in summary["runs"].values()])
    )


def test_seeds_are_kept_in_a_dumped_config(tmp_path: Path) -> None:
    path = write(tmp_path)
    settings = configs.load(path, ["seeds=[3,1]"])
    copy = tmp_path / "copy.yaml"
    copy.write_text(configs.dump(settings))
    assert configs.load(copy) == settings
    assert configs.load(copy, ["seed=4"]).seeds is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["seeds=[]"], "a list of different whole numbers"),
        (["seeds=[1, 1]"], "a list of different whole numbers"),
        (["seeds=3"], "a list of different whole numbers"),
        (
            ["seeds=[1,2]", "data={format: uci, name: yacht, folder: x, split: all}"],
            "exclude each other",
        ),
    ],
)
def test_wrong_seeds_are_refused(changes: list[str], words: str, tmp_path: Path) -> None:
    with pytest.raises(configs.ConfigError, match=words):
        configs.load(write(tmp_path), changes)


def test_seed_and_seeds_exclude_each_other_in_a_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text("seed: 0\nseeds: [1, 2]\n" + path.read_text())
    with pytest.raises(configs.ConfigError, match="'seed' and 'seeds' exclude each other"):
        configs.load(path)
