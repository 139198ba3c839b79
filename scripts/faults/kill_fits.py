"""Kills a small fit at random times and at chosen events, and resumes it until it is done.

    python scripts/faults/kill_fits.py [--cases 140] [--seed 0]

Each case is one fit (see `small_fit`), killed once to three times by SIGKILL, half of the cases
after a random time and half before a random open, write, fsync, rename, unlink or step. The result
must be that of the fit that was never killed, bit for bit. Exits with 1 if one is not.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAM = Path(__file__).with_name("small_fit.py")
# Upper ends of the event numbers: about as many as a run has.
EVENTS = {"open": 300, "write": 25, "fsync": 300, "rename": 45, "unlink": 250, "step": 18}


def run(folder: Path, *event: str, seconds: float | None = None) -> int:
    """Runs the fit; kills it after `seconds` if given. Returns the exit status."""
    # Signs of life come within the time that importing JAX takes, so times count from the first
    # file in the folder.
    command = [sys.executable, str(PROGRAM), str(folder / "fit"), str(folder / "result"), *event]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) as process:
        while seconds is not None and process.poll() is None:
            if (folder / "fit" / "lock").exists():
                try:
                    process.wait(seconds)
                except subprocess.TimeoutExpired:
                    process.kill()
                break
            try:
                process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
        _, errors = process.communicate()
    if process.returncode not in (0, -9):
        sys.stderr.write(errors.decode())
    return process.returncode


def one_case(folder: Path, rng: random.Random, *, timed: bool, duration: float) -> tuple[str, int]:
    """Returns what the fit wrote in the end, and how often it was killed."""
    kills = 0
    for _ in range(rng.randint(1, 3)):
        if timed:
            status = run(folder, seconds=rng.uniform(0.0, duration))
        else:
            event = rng.choice(sorted(EVENTS))
            status = run(folder, event, str(rng.randint(1, EVENTS[event])))
        kills += status == -9
        if status != -9:
            break
    status = run(folder)
    result = folder / "result"
    return (result.read_text() if status == 0 and result.is_file() else f"exit {status}"), kills


def main() -> None:
    """Runs all cases and prints how many were killed and how many differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=140)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--duration", type=float, default=4.0, help="seconds from lock to result")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    killed = different = 0
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        whole.mkdir()
        if run(whole) != 0:
            raise SystemExit("the fit that is not killed failed")
        expected = (whole / "result").read_text()
        for case in range(options.cases):
            folder = Path(root) / str(case)
            folder.mkdir()
            found, kills = one_case(folder, rng, timed=case % 2 == 0, duration=options.duration)
            killed += kills
            if found != expected:
                different += 1
                print(f"case {case}: {found[:80]!r}")
    print(f"{options.cases} cases, {killed} kills, {different} results differ")
    raise SystemExit(different > 0)


if __name__ == "__main__":
    main()
