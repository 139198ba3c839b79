"""Interrupted and resumed runs."""

import json
import signal
import threading
from pathlib import Path

import pytest
from experiment_helpers import assert_equal, metrics_of, posterior_of, small, stop_after

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.experiment.folder import Record, RunError, RunFolder
from bnn_jax.fitting import loop as loops


@pytest.mark.parametrize("steps", [5, 16], ids=["within an epoch", "at an epoch's end"])
def test_interrupted_and_resumed_is_bit_for_bit_the_same(
    trained: tuple[configs.Config, Record],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    steps: int,
) -> None:
    (whole, expected), parts = trained, small(tmp_path / "parts")
    with monkeypatch.context() as patch:
        stop_after(patch, steps)
        with pytest.raises(KeyboardInterrupt):
            experiment.train(parts)
    status = json.loads((tmp_path / "parts" / "summary.json").read_text())
    assert status == {"status": "interrupted", "steps": steps}
    summary = experiment.train(parts, resume=True)
    assert_equal(posterior_of(whole), posterior_of(parts))
    assert metrics_of(whole) == metrics_of(parts)
    for name in ("accuracy", "nll", "ece", "kl"):
        assert summary[name] == expected[name]


def test_a_resumed_run_repeats_the_epochs_after_its_checkpoint(
    trained: tuple[configs.Config, Record], tmp_path: Path
) -> None:
    """After a crash, the file of metrics has later epochs than the checkpoint, or a torn line."""
    whole, again = trained[0], small(tmp_path / "older")
    older = RunFolder(tmp_path / "older")
    older.create(again)
    written = (whole.output.dir / "metrics.jsonl").read_text()
    (older.path / "metrics.jsonl").write_text(written + '{"epoch": 4, "torn')
    experiment.train(again, resume=True)
    assert_equal(posterior_of(again), posterior_of(whole))
    assert metrics_of(again) == metrics_of(whole)


def test_resume_needs_the_same_run(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create(small(tmp_path / "run"))
    with pytest.raises(RunError, match="training.epochs"):
        experiment.train(small(tmp_path / "run", "training.epochs=4"), resume=True)
    with pytest.raises(RunError, match="seed"):
        experiment.train(small(tmp_path / "run", "seed=3"), resume=True)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["config.yaml"]


def test_resume_starts_a_run_that_has_nothing_yet(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "training.epochs=1")
    summary = experiment.train(config, resume=True)
    again = experiment.train(config, resume=True)
    assert again["status"] == "finished"
    assert again["nll"] == summary["nll"]


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    before = signal.getsignal(signal.SIGINT)
    with loops.interruptible() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGINT)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_interruptible_works_outside_the_main_thread() -> None:
    answers = []

    def work() -> None:
        with loops.interruptible() as interrupted:
            answers.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [False]
