"""Runs of several seeds as one program: each folder is that of its own run."""

from pathlib import Path
from typing import Any

import pytest
from experiment_helpers import small, stop_after
from table_runs import write

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.config.errors import ConfigError
from bnn_jax.experiment import comparison
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting import together

FEW = ["training.epochs=2", "evaluation.baseline_epochs=1", "training.evaluate_every=2"]


def settings(folder: Path, *overrides: str) -> configs.Config:
    return small(folder, *FEW, "seeds=[0,1]", "seeds_together=true", *overrides)


def test_each_run_is_the_run_of_its_seed(tmp_path: Path) -> None:
    summary = experiment.train(settings(tmp_path / "run"))
    alone = experiment.train(small(tmp_path / "alone", *FEW, "seed=1"))
    own = summary["runs"]["seed-1"]
    assert own["nll"] == pytest.approx(alone["nll"], rel=1e-3)
    assert own["deterministic.nll"] == pytest.approx(alone["deterministic"]["nll"], rel=1e-3)
    assert summary["runs"]["seed-0"]["nll"] != summary["runs"]["seed-1"]["nll"]
    folders = [tmp_path / "run" / f"seed-{seed}" for seed in (0, 1)]
    for folder in folders:
        evaluated = experiment.evaluate(folder)
        assert evaluated["nll"] == summary["runs"][folder.name]["nll"]
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
    assert [row["nll"] for row in comparison.compare(folders)] == [
        summary["runs"][folder.name]["nll"] for folder in folders
    ]


@pytest.mark.slow
def test_interrupted_runs_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = experiment.train(settings(tmp_path / "whole"))
    stop_after(monkeypatch, 11)
    with pytest.raises(KeyboardInterrupt):
        experiment.train(settings(tmp_path / "run"))
    again = experiment.train(settings(tmp_path / "run"), resume=True)
    assert again["runs"]["seed-1"]["nll"] == whole["runs"]["seed-1"]["nll"]


@pytest.mark.parametrize("faster", [pytest.param(True, marks=pytest.mark.slow), False])
def test_auto_keeps_what_was_measured(
    faster: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(together, "_measured", lambda *_: (1.0, 2.0 if faster else 0.5))
    auto = settings(
        tmp_path, "seeds_together=auto", "evaluation.deterministic_baseline=false",
        "evaluation.baseline_epochs=null",
    )  # fmt: skip
    summary = experiment.train(auto)
    assert set(summary["runs"]) == {"seed-0", "seed-1"}
    assert (tmp_path / "together.json").read_text() == f'{{"together": {str(faster).lower()}}}\n'
    shown = capsys.readouterr().err
    assert ("trained as one program: a step of all takes 1e+03 ms" in shown) == faster
    assert ("seed-0: run 1 of 2" in shown) != faster


WRONG = {
    "random parts": ([], "the seed determines their training examples"),
    "nuts": (
        ["inference={name: nuts, warmup: 20}", "training.epochs=30"],
        "a step of nuts takes all examples",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_one_program_is_one_clear_error(case: str, tmp_path: Path) -> None:
    overrides, message = WRONG[case]
    config = configs.load(write(tmp_path), ["seeds=[0,1]", "seeds_together=true", *overrides])
    with pytest.raises(RunError, match=message):
        experiment.train(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_auto_trains_such_runs_one_after_the_other(tmp_path: Path, capsys: Any) -> None:
    config = configs.load(write(tmp_path), ["seeds=[0,1]", "seeds_together=auto"])
    assert len(experiment.train(config)["runs"]) == 2
    assert "one after the other: their training examples differ" in capsys.readouterr().err


def test_it_has_no_effect_on_one_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seeds_together has no effect without seeds"):
        configs.load(write(tmp_path), ["seeds_together=true"])
