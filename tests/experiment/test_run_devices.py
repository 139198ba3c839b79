"""Runs on several devices, and runs that continue on another number of devices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from experiment_helpers import CONFIGS, metrics_of, posterior_of

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.config.errors import ConfigError
from bnn_jax.experiment import build
from bnn_jax.experiment.folder import RunError
from bnn_jax.infer import ensemble, map

CURVE = CONFIGS / "blundell_curve.yaml"
SMALL = [
    "model.hidden=[8]",
    "data.train_examples=50",
    "data.test_examples=30",
    "training.epochs=4",
    "training.generator=hash",
    "training.checkpoint_every=1",
    "evaluation.num_samples=6",
    "evaluation.deterministic_baseline=false",
]

ON_8_DEVICES = """
import sys
import jax, pytest
from experiment_helpers import stop_after
from bnn_jax import config, experiment

assert len(jax.devices()) == 8
stop_after(pytest.MonkeyPatch(), 10)
try:
    experiment.train(config.load(sys.argv[1], sys.argv[2:]))
except KeyboardInterrupt:
    print("interrupted")
"""


def curve(path: Path, *overrides: str) -> configs.Config:
    return configs.load(CURVE, [*SMALL, f"output.dir={path}", *overrides])


def test_a_run_continues_on_another_number_of_devices(tmp_path: Path) -> None:
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    mesh = "training.mesh={data: 4, samples: 2}"
    done = subprocess.run(
        [sys.executable, "-c", ON_8_DEVICES, str(CURVE), *SMALL, mesh,
         f"output.dir={tmp_path / 'parts'}"],
        env={
            **os.environ,
            "XLA_FLAGS": flags,
            "PYTHONPATH": os.pathsep.join([os.environ.get("PYTHONPATH", ""), *sys.path]),
        },
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.stdout == "interrupted\n", done.stderr
    assert "Training on 8 devices (data 4, samples 2)." in done.stderr
    parts, whole = curve(tmp_path / "parts"), curve(tmp_path / "whole")
    expected = experiment.train(whole)
    summary = experiment.train(parts, resume=True)
    assert (summary["status"], summary["devices"]) == ("finished", "1 device")
    for name in ("nll", "rmse", "kl"):
        np.testing.assert_allclose(summary[name], expected[name], rtol=1e-4)
    for a, b in zip(posterior_of(parts), posterior_of(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    losses = [[line["loss"] for line in metrics_of(config)] for config in (parts, whole)]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=1e-5)


def test_devices_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'training.devices' must be .*all.* got 0"):
        curve(tmp_path, "training.devices=0")
    with pytest.raises(ConfigError, match="devices .4. and training.mesh exclude each other"):
        curve(tmp_path, "training.devices=4", "training.mesh={data: 4}")
    with pytest.raises(ConfigError, match="unknown key 'training.mesh.model'"):
        curve(tmp_path, "training.mesh={model: 4}")
    with pytest.raises(RunError, match=r"training.devices: .* needs 500 devices"):
        experiment.train(curve(tmp_path / "run", "training.devices=500"))
    with pytest.raises(RunError, match=r"training.mesh: .* needs 1000 devices"):
        experiment.train(curve(tmp_path / "run", "training.mesh={data: 500, samples: 2}"))
    assert not (tmp_path / "run").exists()


def test_a_trained_run_is_evaluated_on_the_devices_there_are(tmp_path: Path) -> None:
    config = curve(tmp_path, "training.mesh={data: 500, samples: 2}")
    here = build.on_these_devices(config)
    assert build.build_mesh(here.training, ensemble(map(), size=5)) is None
    own = curve(tmp_path, "training.devices=1")
    assert build.on_these_devices(own) is own
