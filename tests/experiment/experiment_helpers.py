"""Small runs for the tests of runs, and comparisons of their results."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax.experiment.folder import RunFolder
from bnn_jax.experiment.run import set_up
from bnn_jax.fitting import loop as loops

CONFIGS = Path(__file__).parents[2] / "configs"
LENET = CONFIGS / "lenet5.yaml"
SMALL = [
    "objective.kl_schedule={name: constant}",
    "posterior.rho_mean=-5.0",
    "model={name: mlp, hidden: [16]}",
    "data.image_size=null",
    "data.train_examples=256",
    "data.test_examples=100",
    "training.batch_size=32",
    "training.epochs=3",
    "optimizer.learning_rate=1.0e-2",
    "training.evaluate_every=1",
    "training.checkpoint_every=1",
    "evaluation.num_samples=4",
    "evaluation.baseline_epochs=2",
]


def small(path: Path, *overrides: str) -> configs.Config:
    return configs.load(LENET, [*SMALL, f"output.dir={path}", *overrides])


def checkpoint_of(config: configs.Config) -> list[np.ndarray]:
    """Returns every array of the saved state, totals and prior."""
    run = set_up(config)
    like = run.checkpoint(run.state, run.loop.no_totals(run.state))
    saved = RunFolder(config.output.dir).restore(like)
    return [np.asarray(x) for x in jax.tree.leaves(saved)]


def assert_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b) > 10
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


def metrics_of(config: configs.Config) -> list[dict[str, object]]:
    lines = (config.output.dir / "metrics.jsonl").read_text().splitlines()
    times = ("seconds", "examples_per_second")
    return [{k: v for k, v in json.loads(line).items() if k not in times} for line in lines]


def stop_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """Presses Ctrl-C once, while that step runs."""
    progress = loops.Progress.advance
    seen = 0

    def advance(self: loops.Progress, count: int, numbers: object) -> None:
        nonlocal seen
        seen += count
        if seen == steps:
            os.kill(os.getpid(), signal.SIGINT)
        progress(self, count, None)

    monkeypatch.setattr(loops.Progress, "advance", advance)
