"""Configs that are written for own data."""

from pathlib import Path

import numpy as np
import pytest
from table_runs import write

from bnn_jax import cli
from bnn_jax import config as configs
from bnn_jax.cli import errors
from bnn_jax.config import own
from bnn_jax.config.data import Normal
from bnn_jax.experiment import RunError, starter

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process, which is here that of all tests."""
    monkeypatch.setattr(errors, "keep_compiled_code", lambda: None)


def table(folder: Path, targets: list[object], delimiter: str = ",") -> Path:
    rows = [
        delimiter.join(
            [
                str(i),
                f"user-{i}",
                f"{RNG.normal():.3f}",
                "" if i == 3 else f"{i % 7}.5",
                str(RNG.choice(["red", "blue"])),
                str(y),
            ]
        )
        for i, y in enumerate(targets)
    ]
    file = folder / "mine.csv"
    file.write_text(
        "\n".join([delimiter.join(["id", "name", "width", "height", "colour", "y"]), *rows])
    )
    return file


@pytest.mark.parametrize(
    ("targets", "task", "likelihood"),
    [
        ([0.5 * i for i in range(40)], "regression", "normal"),
        ([10 * i for i in range(40)], "regression", "normal"),
        ([i % 3 for i in range(40)], "classification", "categorical"),
        (["yes" if i % 2 else "no" for i in range(40)], "classification", "categorical"),
    ],
)
def test_a_table_is_looked_at(
    targets: list[object], task: str, likelihood: str, tmp_path: Path
) -> None:
    output = tmp_path / "config.yaml"
    text = starter.write(table(tmp_path, targets, ";"), output)
    config = configs.load(output)
    assert isinstance(config.data, own.TableData)
    assert config.data.inputs == ("width", "height", "colour")
    assert config.data.categorical == ("colour",)
    assert config.data.missing == {"height": "median"}
    assert (config.data.targets, config.data.delimiter) == ("y", ";")
    assert (config.data.task, config.likelihood.name) == (task, likelihood)
    assert "Left out: id, which numbers the rows" in text
    assert f"bnn-jax train {output}" in text


@pytest.mark.slow
def test_the_written_config_trains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path)
    output = str(tmp_path / "new.yaml")
    assert cli.main(["new", str(tmp_path / "house.csv"), "--output", output]) == 0
    run = f"output.dir={tmp_path}/first"
    assert cli.main(["train", output, "training.epochs=2", "inference.size=2", run]) == 0
    assert "rmse" in capsys.readouterr().out
    assert isinstance(configs.load(output).likelihood, Normal)


def test_an_existing_config_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path)
    before = path.read_text()
    assert cli.main(["new", str(tmp_path / "house.csv"), "--output", str(path)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert path.read_text() == before


def test_an_npz_file_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    np.savez(file, x=RNG.normal(size=(40, 200)).astype(np.float32), label=np.arange(40) % 2)
    output = tmp_path / "config.yaml"
    starter.write(file, output, target="label")
    config = configs.load(output)
    assert isinstance(config.data, own.NpzData)
    assert (config.data.targets, config.data.task) == ("label", "classification")
    assert config.likelihood.name == "categorical"


def test_images_of_several_sizes_are_resized(tmp_path: Path) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            pixels = RNG.integers(0, 255, (12 + i, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    output = tmp_path / "config.yaml"
    starter.write(tmp_path / "photos", output)
    config = configs.load(output)
    assert isinstance(config.data, own.ImageFolder)
    assert config.data.image_size == 64


def test_a_wrong_target_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    with pytest.raises(
        ValueError, match="has no column 'prize', did you mean|Did you mean 'price'"
    ):
        starter.write(tmp_path / "house.csv", tmp_path / "new.yaml", target="prize")
    with pytest.raises(RunError, match="--target is for tables"):
        starter.write(path.parent, tmp_path / "new.yaml", target="price")
    assert not (tmp_path / "new.yaml").exists()
