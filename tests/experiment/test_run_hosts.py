"""Runs of the command line in several processes; one of them is killed, and the run continues."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from experiment_helpers import CONFIGS, metrics_of, posterior_of

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.config.errors import ConfigError

CURVE = CONFIGS / "blundell_curve.yaml"
SMALL = [
    "model.hidden=[8]",
    "data.train_examples=50",
    "data.test_examples=30",
    "training.epochs=40",
    "training.generator=hash",
    "training.checkpoint_every=1",
    "evaluation.num_samples=6",
    "evaluation.deterministic_baseline=false",
]


def curve(path: Path, *overrides: str) -> configs.Config:
    return configs.load(CURVE, [*SMALL, f"output.dir={path}", *overrides])


def started(port: int, process: int, folder: Path, *options: str) -> subprocess.Popen[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    distributed = f"{{coordinator: '127.0.0.1:{port}', num_processes: 2, process_id: {process}}}"
    settings = [*SMALL, f"output.dir={folder}", f"distributed={distributed}", *options]
    return subprocess.Popen(
        [sys.executable, "-m", "bnn_jax.cli", "train", str(CURVE), *settings],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture
def running() -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that are ended with the test."""
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        process.kill()
        process.communicate()


def wait_for_epochs(folder: Path, count: int, running: list[subprocess.Popen[str]]) -> None:
    file, until = folder / "metrics.jsonl", time.monotonic() + 400
    while not file.is_file() or len(file.read_text().splitlines()) < count:
        assert time.monotonic() < until
        ended = [process for process in running if process.poll() is not None]
        assert not ended, ended[0].communicate()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_run_continues_in_one_process_after_one_of_two_was_killed(
    killed: int, tmp_path: Path, running: list[subprocess.Popen[str]]
) -> None:
    parts, port = tmp_path / "parts", free_port()
    running += [started(port, i, parts) for i in range(2)]
    wait_for_epochs(parts, 5, running)
    running[killed].send_signal(signal.SIGKILL)
    _, error = running[1 - killed].communicate(timeout=300)
    running[killed].communicate()
    # The collective fails, or the coordination service misses the heartbeat of the other process.
    assert running[1 - killed].returncode in (6, -signal.SIGABRT), error
    words = (f"error: Process {1 - killed} of 2 cannot reach the others", "another task died")
    assert any(word in error for word in words), error

    config = curve(parts, "training.devices=1")
    experiment.train(config, resume=True)
    whole = curve(tmp_path / "whole", "training.devices=1")
    experiment.train(whole)
    losses = [[line["loss"] for line in metrics_of(each)] for each in (config, whole)]
    assert len(losses[0]) == 40
    np.testing.assert_allclose(*losses, rtol=1e-5, atol=1e-5)
    for a, b in zip(posterior_of(config), posterior_of(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_a_whole_run_in_two_processes(tmp_path: Path, running: list[subprocess.Popen[str]]) -> None:
    folder, port = tmp_path / "run", free_port()
    baseline = ("evaluation.deterministic_baseline=true", "evaluation.baseline_epochs=2")
    options = (
        "training.epochs=4",
        *baseline,
        "output.metrics=[csv]",
        "training.mesh={data: 4, samples: 2}",
    )
    running += [started(port, i, folder, *options) for i in range(2)]
    printed = [process.communicate(timeout=500) for process in running]
    assert [process.returncode for process in running] == [0, 0], printed
    assert "Training on 8 devices of 2 processes (data 4, samples 2)." in printed[0][1]
    assert printed[1][0] == ""
    assert "epoch" not in printed[1][1]
    one = curve(tmp_path / "one", "training.epochs=4", "training.devices=1", *baseline)
    expected = experiment.train(one)
    assert len((folder / "metrics.csv").read_text().splitlines()) == 5
    found = experiment.evaluate(folder)  # in one process
    for name in ("nll", "rmse", "kl"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)
    np.testing.assert_allclose(
        found["deterministic"]["rmse"], expected["deterministic"]["rmse"], rtol=1e-4
    )


def test_settings_of_processes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    four = "coordinator: 'host:1234', num_processes: 4"
    with pytest.raises(ConfigError, match=r"process_id \(4\) must be below .*num_processes \(4\)"):
        curve(tmp_path, f"distributed={{{four}, process_id: 4}}")
    with pytest.raises(ConfigError, match="distributed.process_id is missing: set coordinator"):
        curve(tmp_path, f"distributed={{{four}}}")
    with pytest.raises(ConfigError, match="must be host:port, such as 10.0.0.1:1234, or null"):
        curve(tmp_path, "distributed={coordinator: host, num_processes: 2, process_id: 0}")
    with pytest.raises(ConfigError, match="'distributed' must be a section with the keys"):
        curve(tmp_path, "distributed=manual")
    with pytest.raises(ConfigError, match="'distributed' and several seeds exclude each other"):
        curve(tmp_path, "distributed=auto", "seeds=[0, 1]")


def test_a_cluster_must_be_in_the_environment_for_auto(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "bnn_jax.cli",
            "train",
            str(CURVE),
            *SMALL,
            f"output.dir={tmp_path / 'run'}",
            "distributed=auto",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: distributed: auto finds no cluster in the environment")
    assert not (tmp_path / "run").exists()
