"""Kills within a save and within a fit, and damaged files: none is lost or taken for right.

A kill within a save is simulated in this process: an exception at the chosen call, without the
clean-up that a killed process does not do. Kills of a real process are few here; there are more
in `scripts/faults/kill_fits.py`.
"""

import os
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax.fitting import files, sealed
from bnn_jax.fitting.checkpoint import CheckpointError, CheckpointWarning, Folder

SCRIPT = Path(__file__).parents[2] / "scripts" / "faults" / "small_fit.py"
IDENTITY = {"data": "d"}
EVENTS = ("open", "fdopen", "fsync", "rename", "rmtree", "walk")


class KilledError(BaseException):
    pass


def state(step: int) -> dict[str, jax.Array]:
    return {"w": jnp.arange(6.0) + step, "step": jnp.asarray(step, jnp.int32)}


def killed_at(event: str, number: int, folder: Folder, step: int) -> bool:
    """Saves, and is killed at call `number` of a function; returns whether it was."""
    calls = 0

    def killing(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls >= number:
                raise KilledError
            return function(*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patched:
        owner = files.shutil if event == "rmtree" else files.os
        patched.setattr(owner, event, killing(getattr(owner, event)))
        remove = files.remove
        # A killed process does not clean up after itself.
        patched.setattr(files, "remove", lambda path: None if calls >= number else remove(path))
        patched.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        try:
            folder.save(step, state(step), {"step": step})
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("event", EVENTS)
def test_a_kill_within_a_save_leaves_the_old_or_the_new_state(event: str, tmp_path: Path) -> None:
    folder = Folder(tmp_path, IDENTITY, keep=2)
    for step in range(2):
        folder.save(step, state(step), {"step": step})
    step, kills = 2, 0
    for number in range(1, 7):
        kills += killed_at(event, number, Folder(tmp_path, IDENTITY, keep=2), step)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = Folder(tmp_path, IDENTITY).restore(state(0))
        assert found is not None
        now = int(found[0]["step"])
        assert now in (step - 1, step)
        assert found[1] == {"step": now}
        np.testing.assert_array_equal(found[0]["w"], state(now)["w"])
        step = now + 1
    assert kills >= 1
    folder.save(step, state(step), {"step": step})
    assert not list(tmp_path.glob(f"{files.PARTIAL}*"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved")
    folder = Folder(path, IDENTITY)
    for step in range(2):
        folder.save(step, state(step), {"step": step})
    return path


def damage(file: Path, kind: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if kind == "removed":
        file.unlink()
        return
    if kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "flipped":
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    else:
        data += b"\n"
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("kind", ["flipped", "cut", "removed", "longer"])
def test_every_damaged_file_is_noticed(kind: str, saved: Path, tmp_path: Path) -> None:
    rng = random.Random(0)
    newest = Folder(saved, IDENTITY).checkpoints()[-1]
    names = sealed._names(newest)
    assert len(names) >= 5
    for name in names * (3 if kind == "flipped" else 1):
        copy = tmp_path / "copy"
        shutil.copytree(newest, copy)
        damage(copy / name, kind, rng)
        with pytest.raises(sealed.BrokenError, match=Path(name).name):
            sealed.read(copy, state(0))
        shutil.rmtree(copy)


def test_bits_of_the_contents_count(saved: Path, tmp_path: Path) -> None:
    newest = Folder(saved, IDENTITY).checkpoints()[-1]
    copy = tmp_path / "copy"
    shutil.copytree(newest, copy)
    data = (copy / "contents.json").read_bytes()
    for position in range(0, len(data), 3):
        flipped = bytearray(data)
        flipped[position] ^= 1 << (position % 8)
        (copy / "contents.json").write_bytes(bytes(flipped))
        with pytest.raises(sealed.BrokenError):
            sealed.read_record(copy)


def test_with_all_damaged_there_is_an_error_and_with_one_a_warning(
    saved: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    first, second = Folder(copy, IDENTITY).checkpoints()
    damage(second / "arrays" / "_METADATA", "flipped", random.Random(1))
    with pytest.warns(CheckpointWarning, match="_METADATA is damaged.*000000-step-0 is used"):
        found = Folder(copy, IDENTITY).restore(state(0))
    assert found is not None
    assert found[1] == {"step": 0}
    damage(first / "arrays" / "_METADATA", "removed", random.Random(1))
    with pytest.raises(CheckpointError, match="_METADATA is missing"):
        Folder(copy, IDENTITY).restore(state(0))


def small_fit(folder: Path, *event: str) -> int:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(SCRIPT), str(folder / "fit"), str(folder / "result"), *event]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode


@pytest.mark.slow
def test_a_killed_fit_ends_bit_for_bit_where_the_whole_one_does(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    assert small_fit(tmp_path / "whole") == 0
    assert small_fit(tmp_path / "killed", "rename", "14") == -9
    assert small_fit(tmp_path / "killed", "fsync", "60") == -9
    assert small_fit(tmp_path / "killed", "step", "2") == -9
    assert (tmp_path / "killed" / "fit" / "lock").exists()
    assert small_fit(tmp_path / "killed") == 0
    whole, killed = (tmp_path / name / "result" for name in ("whole", "killed"))
    assert killed.read_text() == whole.read_text()
