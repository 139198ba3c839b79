"""Fits and predictions on meshes of 8 virtual devices equal those on one device."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh

from bnn_jax import likelihoods, predict
from bnn_jax.devices import mesh_of
from bnn_jax.devices.collectives import collective_bytes
from bnn_jax.devices.meshes import described
from bnn_jax.predictive import running_sums


def run_on_8_devices(program: str, *arguments: str) -> str:
    """Returns what a program of this folder prints, in a process that sees 8 devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name(program)), *arguments],
        env={**os.environ, "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_fits_and_predictions_on_a_mesh_are_those_of_one_device(tmp_path: Path) -> None:
    printed = run_on_8_devices("mesh_program.py", str(tmp_path), "quick").splitlines()
    parts = ("predictions", "flipout", "ensemble", "resumed")
    assert printed == [*(f"{part}: equal" for part in parts), "errors: clear"]


@pytest.mark.slow
def test_every_method_on_every_mesh(tmp_path: Path) -> None:
    printed = run_on_8_devices("mesh_program.py", str(tmp_path)).splitlines()
    methods = ("reparam", "local_reparam", "flipout", "ensemble", "swag", "sghmc")
    parts = ("predictions", *methods, "resumed")
    assert printed == [*(f"{part}: equal" for part in parts), "errors: clear"]


@pytest.mark.parametrize(
    ("mesh", "words"),
    [
        ({"model": 2}, "must have the axes 'data', 'samples' or both, got .'model',."),
        ({}, "must have the axes"),
        ({"data": 0}, "at least 1 devices along 'data', got 0"),
        ({"data": True}, "at least 1 devices along 'data', got True"),
        ({"data": 500, "samples": 2}, "data 500, samples 2 needs 1000 devices, and JAX sees"),
        (500, "data 500 needs 500 devices"),
        (Mesh(np.asarray(jax.devices()[:1]), ("x",)), "must have the axes"),
    ],
)
def test_meshes_that_cannot_be_are_refused(mesh: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mesh_of(mesh)


@pytest.mark.parametrize("mesh", [1.5, True, "both", ("data", 2)])
def test_other_things_are_no_mesh(mesh: Any) -> None:
    with pytest.raises(TypeError, match="mesh must be"):
        mesh_of(mesh)


@pytest.mark.parametrize("mesh", [None, 1, {"data": 1, "samples": 1}])
def test_one_device_is_no_mesh(mesh: Any) -> None:
    assert mesh_of(mesh) is None
    assert described(mesh_of(mesh)) == "1 device"


@pytest.mark.parametrize("likelihood", [likelihoods.Normal(std=0.5), likelihoods.Categorical()])
def test_merged_sums_are_those_of_all_samples(likelihood: Any) -> None:
    outputs = jax.random.normal(jax.random.key(0), (7, 5, 3))
    targets: Any = jnp.zeros((5, 3)) if isinstance(likelihood, likelihoods.Normal) else None
    targets = jnp.arange(5) % 3 if targets is None else targets
    sums = running_sums.of(likelihood)

    def over(part: Any) -> Any:
        total = sums.zero(jax.eval_shape(lambda: outputs[0]), targets)
        for s, each in enumerate(part):
            total = sums.add(total, jnp.asarray(s), each, targets)
        return total

    parts = [over(outputs[:3]), over(outputs[3:7]), over(outputs[7:])]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *parts)
    merged = sums.merged(stacked, jnp.asarray([3, 4, 0]))
    count = jnp.asarray(7)
    for name, value in sums.summary(over(outputs), count).items():
        np.testing.assert_allclose(sums.summary(merged, count)[name], value, rtol=2e-6, atol=1e-6)


def test_a_prediction_on_a_mesh_of_one_device() -> None:
    """A mesh of the type Explicit, on the only device, is as no mesh."""
    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Explicit,))
    x = np.ones((3, 2), np.float32)
    found = [
        predict(
            jax.random.key(0),
            lambda params, x: x @ params,
            x,
            likelihood=likelihoods.Normal(std=1.0),
            posterior=jnp.ones((2, 1)),
            mesh=m,
        )
        for m in (None, mesh)
    ]
    np.testing.assert_array_equal(found[0].mean, found[1].mean)


def test_what_the_devices_send_each_other_does_not_grow_with_the_samples_of_a_prediction() -> None:
    found = json.loads(run_on_8_devices("collectives_program.py"))
    assert found["predict, 4 samples"] == found["predict, 64 samples"]
    assert 0 < sum(found["predict, 4 samples"].values()) < 1000
    weights = 4 * (32 * 64 + 64 * 4)
    # The gradient of the weights of each sample is summed over the devices.
    assert sum(found["step, 1 sample"].values()) < 1.01 * weights
    assert sum(found["step, 4 samples"].values()) < 4 * 1.01 * weights
    assert found["step, 1 sample, divided weights"]["all-gather"] >= 2 * weights


def test_the_bytes_of_collectives() -> None:
    hlo = """HloModule step, is_scheduled=true

%body.1 (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %sum = f32[4]{0} all-reduce(%x), channel_id=1, to_apply=%add
}

ENTRY %main.2 (p: f32[4], /*index=1*/q: bf16[8,2]) -> f32[4] {
  %pair = (f32[4]{0}, u8[3]{0}) all-reduce(%a, %b), to_apply=%add
  %start = (bf16[2]{0}, bf16[16]{0}) all-gather-start(%c), dimensions={0}
  ROOT %loop = (s32[], f32[4]) while(%t), condition=%c, body=%body.1, TRIPS
}
"""
    known = hlo.replace("TRIPS", 'backend_config={"known_trip_count":{"n":"5"}}')
    assert collective_bytes(known) == {"all-gather": 32, "all-reduce": 19 + 5 * 16}
    with pytest.raises(ValueError, match="body.1 has collectives .all-reduce. and runs an unknown"):
        collective_bytes(hlo.replace("TRIPS", "backend_config={}"))
    with pytest.raises(ValueError, match="has no ENTRY"):
        collective_bytes("module @jit_f {}")
