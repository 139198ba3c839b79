"""The lock of a folder, and signals as a question."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from bnn_jax.fitting import lock
from bnn_jax.fitting.interrupts import SIGNALS, interruptible
from bnn_jax.fitting.lock import LockedError, locked


def owner(**changed: Any) -> str:
    return json.dumps({"host": socket.gethostname(), "pid": 1, "since": "noon", **changed})


def test_a_live_process_is_named(tmp_path: Path) -> None:
    program = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX)\n"
        "file.write(sys.argv[2]); file.flush()\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    command = [sys.executable, "-S", "-c", program, str(tmp_path / "lock"), owner(pid=4321)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"ready\n"
        message = f"in use by process 4321 on {socket.gethostname()} since noon"
        with pytest.raises(LockedError, match=message), locked(tmp_path):
            pass
        other.kill()
        other.wait()
    with locked(tmp_path):  # the process is gone, the file is not
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
    assert not (tmp_path / "lock").exists()


def test_the_same_process_holds_it_once(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        with pytest.raises(LockedError, match=f"process {os.getpid()} "), locked(tmp_path / "new"):
            pass
        assert (tmp_path / "new" / "lock").exists()
    with locked(tmp_path / "new"):
        pass


def test_the_lock_of_another_host_is_respected(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text(owner(host="elsewhere", pid=99))
    with pytest.raises(LockedError, match="process 99 on elsewhere .*if it is gone, delete"):
        lock._acquired(tmp_path / "lock")


@pytest.mark.parametrize("text", ["", "{", "[1]", owner(pid="x"), owner(pid=-1)])
def test_a_damaged_lock_of_nobody_is_taken_over(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    with locked(tmp_path):
        assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("is_alive", [True, False])
def test_without_flock_the_process_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_alive: bool
) -> None:
    monkeypatch.setattr(lock, "_flock", lambda descriptor: None)
    start = lock._started(os.getpid())
    file = tmp_path / "lock"
    file.write_text(owner(pid=os.getpid(), process_start=start if is_alive else -5))
    if is_alive:
        with pytest.raises(LockedError, match="in use by process"), locked(tmp_path):
            pass
    else:
        with locked(tmp_path):
            pass


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_question(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interruptible() as asked:
        assert not asked()
        signal.raise_signal(number)
        assert asked()
        assert asked.signal == number
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert signal.getsignal(number) == before


def test_a_second_signal_waits_for_the_write() -> None:
    written = []

    def save() -> None:
        with asked.saving():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            written.append("all")

    with interruptible() as asked:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            save()
    assert written == ["all"]


def test_ignored_signals_stay_ignored_and_threads_handle_none() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
    finally:
        signal.signal(signal.SIGHUP, before)

    def elsewhere() -> None:
        with interruptible() as asked:
            assert not asked()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
