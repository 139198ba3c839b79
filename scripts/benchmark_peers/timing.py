"""Timing of all libraries in turns; bnn_jax runs in a child process."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TypedDict

import torch
from torch import Tensor

from networks import PEERS, WORKLOADS, prediction, train_step

FOLDER = Path(__file__).resolve().parent
KINDS = ("train", "predict")
# For each kind, the labels of bnn_jax and the cases that its process runs.
OURS = {
    "train": {"bnn_jax": "train"},
    "predict": {"bnn_jax": "predict", "bnn_jax, pairs": "predict in pairs"},
}
WARMUP = 2  # rounds that are not timed
UNTIMED_STEPS, TIMED_STEPS = 5, 20  # of a turn of training
PAUSE = 0.05  # seconds; OpenMP's threads spin for some milliseconds before they sleep


class Result(TypedDict):
    """The time of one library for one workload and kind."""

    workload: str
    kind: str
    library: str
    median_ms: float
    ratio_to_bnn_jax: float
    rounds: int
    kl_every: int
    fused_adam: bool
    threads: int
    cpu: str
    versions: dict[str, str]


class BnnJax:
    """A child process that runs one case of bnn_jax; a context manager that ends it."""

    def __init__(self, python: Path, workload: str, kind: str, kl_every: int) -> None:
        self._process = subprocess.Popen(
            [python, FOLDER / "child.py", workload, kind, "--kl-every", str(kl_every)],
            env={**os.environ, "JAX_PLATFORMS": "cpu"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "BnnJax":
        """Waits until the case is compiled."""
        self.versions: dict[str, str] = json.loads(self._line())
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the process."""
        self._process.communicate()

    def seconds(self, runs: int) -> float:
        """Returns the time of this number of consecutive runs."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{runs}\n")
        self._process.stdin.flush()
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("error: bnn_jax's process stopped; its message is above")
        return line


def seconds_of(name: str, call: Callable[[], Tensor], runs: int) -> float:
    """Returns the time of this number of consecutive calls; the result must be finite."""
    started = time.perf_counter()
    for _ in range(runs):
        result = call()
    seconds = time.perf_counter() - started
    if not torch.isfinite(result).all():
        sys.exit(f"error: {name}: the result is not finite")
    return seconds


def in_turns(
    timers: dict[str, Callable[[int], float]], rounds: int, kind: str
) -> dict[str, list[float]]:
    """Returns the seconds per run of each library, in successive rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in timers}
    untimed, runs = (UNTIMED_STEPS, TIMED_STEPS) if kind == "train" else (0, 1)
    for turn in range(WARMUP + rounds):
        for name, timer in timers.items():
            time.sleep(PAUSE)
            if untimed:
                timer(untimed)
            measured = timer(runs) / runs
            if turn >= WARMUP:
                seconds[name].append(measured)
    return seconds


def results(
    names: Sequence[str],
    kinds: Sequence[str],
    rounds: int,
    python: Path,
    kl_every: int,
    fused_adam: bool,
) -> Iterator[Result]:
    """Times the workloads in order; yields a result for each library."""
    for name in names:
        for kind in kinds:
            with ExitStack() as children:
                timers: dict[str, Callable[[int], float]] = {}
                for label, child_kind in OURS[kind].items():
                    child = children.enter_context(BnnJax(python, name, child_kind, kl_every))
                    versions = dict(child.versions)
                    timers[label] = child.seconds
                for label, peer in PEERS.items():
                    versions[peer.package] = version(peer.package)
                    if kind == "train":
                        call = train_step(WORKLOADS[name], peer, fused_adam)
                    else:
                        call = prediction(WORKLOADS[name], peer)
                    timers[label] = partial(seconds_of, label, call)
                times = in_turns(timers, rounds, kind)
            for label, seconds in times.items():
                ratios = [a / b for a, b in zip(seconds, times["bnn_jax"], strict=True)]
                median, ratio = 1e3 * statistics.median(seconds), statistics.median(ratios)
                yield {
                    "workload": name,
                    "kind": kind,
                    "library": label,
                    "median_ms": median,
                    "ratio_to_bnn_jax": ratio,
                    "rounds": rounds,
                    "kl_every": kl_every,
                    "fused_adam": fused_adam,
                    "threads": torch.get_num_threads(),
                    "cpu": cpu_name(),
                    "versions": versions,
                }


def cpu_name() -> str:
    """Returns the name of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
