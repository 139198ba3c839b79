"""The exit codes of the command line, one for each kind of error."""

import errno
import json
from pathlib import Path

import cli_helpers as helpers
import pytest
import yaml

from bnn_jax import cli, experiment
from bnn_jax.data import DataError
from bnn_jax.experiment import BaselineIncomplete, RunError, commands
from bnn_jax.fitting import Interrupted
from bnn_jax.fitting.checkpoint import CheckpointError
from bnn_jax.fitting.divergence import Diverged
from bnn_jax.fitting.lock import LockedError
from bnn_jax.models.names import NetworkError
from bnn_jax.networks.user_code import UserCodeError

FULL = OSError(errno.ENOSPC, "No space left on device", "runs/x/state")


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ERRORS = [
    (RunError("a rule:\nwhat to do"), 2),
    (DataError("x"), 2),
    (UserCodeError("x"), 2),
    (NetworkError("x"), 2),
    (CheckpointError("x"), 2),
    (LockedError("x"), 2),
    (Diverged("x", step=3, where="loss"), 3),
    (FULL, 4),
    (PermissionError(errno.EACCES, "Permission denied"), 4),
    (ValueError("RESOURCE_EXHAUSTED: write: No space left on device [x]"), 4),
    (caused(RunError("The posterior cannot be written"), FULL), 4),
    (BaselineIncomplete("x"), 5),
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(helpers.settings(tmp_path)))
    return file


@pytest.mark.parametrize(("error", "code"), ERRORS)
def test_each_error_has_its_code_and_one_line(
    error: Exception,
    code: int,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(experiment, "train", fail)
    message = helpers.refused(["train", str(config)], capsys, code=code)
    assert " ".join(str(error).split()) in message


@pytest.mark.parametrize("error", [OSError(errno.ENOENT, "gone"), ValueError("x"), KeyError("x")])
def test_a_bug_keeps_its_traceback(
    error: Exception, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(experiment, "train", fail)
    with pytest.raises(type(error)):
        cli.main(["train", str(config)])


def test_a_run_that_diverges_exits_with_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    helpers.write_table(tmp_path / "houses.csv")
    found = helpers.settings(tmp_path, inference={"name": "map", "learning_rate": 1e36})
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(found))
    assert cli.main(["train", str(tmp_path / "config.yaml")]) == 3
    assert "error: " in capsys.readouterr().err
    # The run cannot be predicted with.
    call = ["predict", str(tmp_path / "run"), "--input", str(tmp_path / "houses.csv")]
    message = helpers.refused([*call, "--output", str(tmp_path / "out.csv")], capsys)
    assert "not finished" in message


BASELINE = {
    "inference": None,
    "estimator": "reparam",
    "objective": {"num_data": "train"},
    "optimizer": {"name": "adam", "learning_rate": 0.01},
}


@pytest.mark.parametrize(
    ("error", "code"), [(Diverged("x", step=1, where="loss"), 5), (Interrupted(3), 130)]
)
def test_a_run_without_its_baseline_is_kept(
    error: BaseException,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(commands, "_train_baseline", fail)
    helpers.write_table(tmp_path / "houses.csv")
    found = helpers.settings(tmp_path, **BASELINE)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(found))
    assert cli.main(["train", str(tmp_path / "config.yaml")]) == code
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "baseline incomplete"
    assert (tmp_path / "run" / "posterior").is_dir()
    if code == 5:
        assert "deterministic baseline is not: x" in capsys.readouterr().err


def test_train_and_evaluate_print_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    helpers.write_table(tmp_path / "houses.csv")
    run = helpers.train(tmp_path, "--json")
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads(capsys.readouterr().out) == summary
    assert cli.main(["evaluate", str(run), "--no-report", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == summary
