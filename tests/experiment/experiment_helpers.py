"""Small runs for the tests of runs, and comparisons of their results."""

import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.experiment import build
from bnn_jax.experiment.run import set_up
from bnn_jax.fitting import loop as loops
from bnn_jax.fitting.batch_metrics import batch_metrics
from bnn_jax.fitting.standardize import Standardizer
from bnn_jax.infer.method import State
from bnn_jax.infer.problem import Problem

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


def posterior_of(config: configs.Config) -> list[np.ndarray]:
    """Returns every array of the saved posterior."""
    posterior = experiment.load(config.output.dir).fit.posterior
    return [np.asarray(x) for x in jax.tree.leaves(posterior)]


def loop_of(config: configs.Config, steps_per_call: int) -> tuple[loops.Loop, State]:
    """Returns the loop of a run, and the state before its first step."""
    run, training = set_up(config), config.training
    keys = build.keys_of(config.seed)
    steps = training.epochs * (run.examples.num_train // training.batch_size)
    problem = Problem(
        run.model,
        run.model.forward(),
        run.likelihood,
        run.examples.num_train,
        steps,
        metric_fn=batch_metrics(run.likelihood, Standardizer()),
    )
    method = run.method.build(problem)
    loop = loops.Loop(
        method.step,
        run.examples.train,
        None,
        keys.noise,
        keys.order,
        training.batch_size,
        training.epochs,
        steps_per_call,
    )
    return loop, method.init(keys.init)


def assert_equal(a: list[np.ndarray], b: list[np.ndarray]) -> None:
    assert len(a) == len(b) >= 8
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
