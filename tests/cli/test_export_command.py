"""`bnn-jax export`: programs that run without bnn_jax and agree with `bnn-jax predict`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cli_helpers as helpers
import jax
import numpy as np
import pytest

from bnn_jax import cli
from bnn_jax.experiment import build

pytest.importorskip("flatbuffers")

# A process that cannot import bnn_jax or Flax runs every folder and saves what it computes.
ALONE = """
import sys
from pathlib import Path
for name in ("bnn_jax", "flax"):
    sys.modules[name] = None
import json
import numpy as np
from jax import export
for folder in map(Path, sys.argv[1:]):
    card = json.loads((folder / "card.json").read_text())
    run = export.deserialize(bytearray((folder / card["file"]).read_bytes())).call
    given = np.load(folder.parent / "inputs.npz")
    inputs = [given["key"], given["x"]] if card["kind"] == "sampled" else [given["x"]]
    np.savez(folder / "outputs.npz", **run(*inputs))
"""

# Of the table's inputs size and city, encoded by hand: size, city=A, city=B, city=C.
X = np.array([[80.5, 0, 1, 0], [31, 1, 0, 0], [140, 0, 0, 1]], np.float32)
KINDS = ("mean", "members", "sampled", "one_pass")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export")
    helpers.write_table(path / "houses.csv")
    np.savez(path / "inputs.npz", x=X, key=jax.random.key_data(build.named_key(0, "evaluation")))
    np.savez(path / "x.npz", x=X)
    return path


@pytest.fixture(scope="module")
def regression(folder: Path) -> Path:
    variational = {"name": "bayes_by_backprop", "learning_rate": 0.01}
    return helpers.train(folder, inference=variational)


def exported(run: Path, *words: str) -> Path:
    folder = run.parent / f"exported-{run.name}-{'-'.join(words)}".replace("--", "")
    assert cli.main(["export", str(run), "--output", str(folder), *words]) == 0
    return folder


def run_alone(*folders: Path) -> list[dict[str, np.ndarray]]:
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / "outputs.npz")) for folder in folders]


def predicted(run: Path) -> dict[str, np.ndarray]:
    output = run.parent / f"{run.name}.npz"
    words = ["--input", str(run.parent / "x.npz"), "--output", str(output), "--overwrite"]
    assert cli.main(["predict", str(run), *words]) == 0
    return dict(np.load(output))


def card_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "card.json").read_text())
    return found


def test_a_standardised_regression_takes_raw_inputs(regression: Path) -> None:
    folders = [exported(regression, "--kind", kind) for kind in KINDS]
    mean, members, sampled, one_pass = run_alone(*folders)
    wanted = predicted(regression)
    for outputs in (members, sampled):
        np.testing.assert_allclose(outputs["mean"][:, 0], wanted["mean"], rtol=1e-5)
        for name in ("aleatoric", "epistemic"):
            std = np.sqrt(outputs[f"{name}_variance"][:, 0])
            np.testing.assert_allclose(std, wanted[f"{name}_std"], rtol=1e-4)
    # In one pass and at the posterior mean: in the same units, within the epistemic uncertainty.
    for outputs in (mean, one_pass):
        distance = np.abs(outputs["mean"][:, 0] - wanted["mean"])
        assert (distance < 4 * wanted["epistemic_std"]).all()
        np.testing.assert_allclose(
            np.sqrt(outputs["aleatoric_variance"][:, 0]), wanted["aleatoric_std"], rtol=1e-4
        )
    ratio = np.sqrt(one_pass["epistemic_variance"][:, 0]) / wanted["epistemic_std"]
    assert ((ratio > 0.3) & (ratio < 3)).all()
    assert sorted(mean) == ["aleatoric_variance", "mean"]


def test_the_card_names_features_targets_and_units(regression: Path) -> None:
    words = ["--kind", "members", "--units", "m2 and 0 or 1", "--target-units", "EUR"]
    card = card_of(exported(regression, *words, "evaluation.num_samples=6"))
    assert card["features"] == ["size", "city=A", "city=B", "city=C"]
    assert card["targets"] == ["price"]
    assert card["inputs"][0]["units"] == "m2 and 0 or 1"
    assert {o["name"]: o["units"] for o in card["outputs"]}["aleatoric_variance"] == "(EUR)^2"
    assert card["num_samples"] == 6
    assert card["labels"] is None


def test_a_classifier(folder: Path) -> None:
    run = helpers.train(
        folder,
        data={**helpers.settings(folder)["data"], "targets": "kind", "task": "classification"},
        likelihood={"name": "categorical"},
        inference={"name": "ensemble", "method": {"name": "map"}, "size": 2},
        evaluation={"num_samples": 4, "temperature": 2.0},
        output={"dir": str(folder / "classes")},
    )
    written = exported(run)
    (outputs,) = run_alone(written)
    wanted = predicted(run)
    np.testing.assert_allclose(outputs["probabilities"][:, 1], wanted["p_dear"], rtol=1e-5)
    for name in ("expected_entropy", "mutual_information"):
        np.testing.assert_allclose(outputs[name], wanted[name], rtol=1e-4, atol=1e-6)
    card = card_of(written)
    assert card["labels"] == ["cheap", "dear"]
    assert card["temperature"] == 2.0
    assert card["num_samples"] == 2  # the networks of the ensemble
    assert card["kind"] == "members"


def test_wrong_calls_are_refused_and_write_nothing(
    regression: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new"
    start = ["export", str(regression), "--output", str(output)]
    full = ["export", str(regression), "--output", str(regression)]
    cases = {
        "not empty": full,
        "--format stablehlo": [*start, "--format", "onnx", "--kind", "sampled"],
        "no effect on an export of kind mean": [
            *start,
            "--kind",
            "mean",
            "evaluation.num_samples=4",
        ],
        "not a run folder": ["export", str(tmp_path), "--output", str(output)],
        "only evaluation": [*start, "seed=1"],
        "'best' is not one of": [*start, "--kind", "best"],
        "--output": ["export", str(regression)],
    }
    for message, words in cases.items():
        assert message in helpers.refused(words, capsys)
    assert not list(tmp_path.iterdir())


def test_the_mean_of_an_ensemble_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = helpers.train(
        folder,
        inference={"name": "ensemble", "method": {"name": "map"}, "size": 2},
        output={"dir": str(folder / "ensemble")},
    )
    words = ["export", str(run), "--output", str(tmp_path / "new"), "--kind", "mean"]
    assert "not a trained network" in helpers.refused(words, capsys)
    assert not list(tmp_path.iterdir())
