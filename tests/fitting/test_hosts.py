"""Several processes: their fits and predictions are those of one device."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("hosts_program.py")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def started(*arguments: object) -> subprocess.Popen[str]:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"
    return subprocess.Popen(
        [sys.executable, str(PROGRAM), *map(str, arguments)],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *options: str) -> None:
    """Runs the program in one process with one device, and in two with four devices each."""
    port = free_port()
    numbers = [(0, 1), (0, 2), (1, 2)]
    running = [started(port, i, n, folder, *options) for i, n in numbers]
    for process in running:
        printed, _ = process.communicate()
        assert process.returncode == 0, printed
        assert printed.endswith("done\n"), printed


def assert_equal_results(folder: Path, names: list[str]) -> None:
    for name in names:
        alone, together = (np.load(folder / n / f"{name}.npz") for n in "12")
        assert len(alone.files) == len(together.files) > 5
        for array in alone.files:
            np.testing.assert_allclose(
                together[array], alone[array], rtol=1e-5, atol=1e-5, err_msg=f"{name} {array}"
            )


def test_a_fit_of_two_processes_is_that_of_one_device(tmp_path: Path) -> None:
    """It is interrupted in one process and continued."""
    run(tmp_path, "quick")
    assert_equal_results(tmp_path, ["flipout"])


@pytest.mark.slow
def test_every_method_in_two_processes(tmp_path: Path) -> None:
    run(tmp_path)
    methods = ["reparam", "local_reparam", "flipout", "ensemble", "swag", "sghmc"]
    assert_equal_results(tmp_path, methods)
