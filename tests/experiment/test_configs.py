"""Every config of the repository is valid, has its command in its header, and trains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import data, experiment
from bnn_jax.config import own
from bnn_jax.config.data import CurveData

FOLDER = Path(__file__).parents[2] / "configs"
FILES = sorted(FOLDER.glob("*.yaml"))
NAMES = [file.stem for file in FILES]
QUICK = {"blundell_curve", "heteroscedastic_curve", "counts_poisson"}
SHAPES = {"cifar10": (32, 32, 3), "digits": (32, 32, 1)}  # others: (28, 28, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_valid_and_its_header_has_the_command_and_the_result(name: str) -> None:
    file = FOLDER / f"{name}.yaml"
    settings = configs.load(file)
    assert settings.output.dir == Path("runs") / name
    header = "".join(line for line in file.read_text().splitlines(True) if line.startswith("#"))
    assert f"scripts/train configs/{name}.yaml" in header
    for word in ("Time:", "Expect"):
        assert word in header


def shorter(name: str, output: Path) -> list[str]:
    """Returns the overrides that make a config train for one epoch on few examples."""
    settings = configs.load(FOLDER / f"{name}.yaml")
    changes = [
        "training.epochs=1",
        "training.batch_size=8",
        "training.evaluate_every=1",
        "evaluation.num_samples=2",
        f"output.dir={output}",
    ]
    if settings.optimizer is not None:
        changes += ["optimizer.warmup_epochs=0", "objective.kl_schedule={name: constant}"]
        changes += ["evaluation.deterministic_baseline=false"]
        changes += ["evaluation.baseline_epochs=null"]
    if settings.inference is not None and settings.inference.name == "swag":
        changes += ["inference.start=0.1"]
    if isinstance(settings.data, CurveData):
        changes += ["data.train_examples=32", "data.test_examples=10"]
    elif isinstance(settings.data, own.PythonData):
        changes += ["data.args={examples: 48}", "data.test=16"]
    elif not isinstance(settings.data, own.UciData):
        changes += ["data.train_examples=null", "data.test_examples=null", "data.validation=0"]
    return changes


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_a_config_trains(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """On a few images of noise in place of a data set by name."""

    def noise(dataset: str, *, image_size: int | None = None, **_: Any) -> data.ImageDataset:
        shape = SHAPES.get(dataset, (28, 28, 1))
        side = shape[:2] if image_size is None else (image_size, image_size)
        images = np.random.default_rng(0).integers(0, 256, (40, *side, shape[2]), np.uint8)
        labels = np.arange(40) % 10
        return data.from_arrays(images[:32], labels[:32], images[32:], labels[32:], name=dataset)

    monkeypatch.setattr(data, "load", noise)
    monkeypatch.chdir(FOLDER.parent)
    changes = shorter(name, tmp_path / "run")
    if isinstance(configs.load(FOLDER / f"{name}.yaml").data, own.UciData):
        shared = request.getfixturevalue("shared")
        changes += [f"data.folder={shared / 'data' / 'uci'}", "data.split=0"]
    summary = experiment.train(configs.load(FOLDER / f"{name}.yaml", changes))
    assert summary["status"] == "finished"
    assert np.isfinite(summary["nll"])
    assert (tmp_path / "run" / "summary.json").is_file()
