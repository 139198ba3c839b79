"""Data sets of Hugging Face `datasets`, from folders that these tests write."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.data import DataError, read_huggingface

datasets = pytest.importorskip("datasets")

AREAS = [50.5, 80.0, 120.25, 65.0]
KINDS = ["flat", "house"]
PIXELS = np.arange(4 * 6 * 6, dtype=np.uint8).reshape(4, 6, 6)


def houses() -> Any:
    features = datasets.Features(
        {
            "area": datasets.Value("float64"),
            "city": datasets.Value("string"),
            "kind": datasets.ClassLabel(names=KINDS),
            "price": datasets.Value("float64"),
        }
    )
    columns = {
        "area": AREAS,
        "city": ["Ulm", "Bern", "Ulm", "Bern"],
        "kind": [0, 1, 1, 0],
        "price": [300.5, 410.25, 700.0, 280.0],
    }
    return datasets.Dataset.from_dict(columns, features=features)


def photos(mode: str = "L", labels: Any = (0, 1, 1, 0)) -> Any:
    from PIL import Image

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["zero", "one"])}
    )
    images = [Image.fromarray(pixels).convert(mode) for pixels in PIXELS]
    return datasets.Dataset.from_dict({"image": images, "label": list(labels)}, features=features)


def test_class_labels_are_classes_and_categories(tmp_path: Path) -> None:
    houses().save_to_disk(tmp_path / "houses")
    data = read_huggingface(
        tmp_path / "houses", targets="kind", inputs=["area", "city"], categorical=["city"]
    ).train
    assert data.class_names == ("flat", "house")
    np.testing.assert_array_equal(data.targets, [0, 1, 1, 0])
    assert data.input_names == ("area", "city=Bern", "city=Ulm")
    np.testing.assert_array_equal(data.inputs[:, 0], np.float32(AREAS))
    regression = read_huggingface(
        tmp_path / "houses", targets="price", inputs=["area", "kind"], test=1
    )
    assert regression.train.input_names == ("area", "kind=flat", "kind=house")
    assert regression.train.task == "regression"
    assert regression.test is not None
    assert (len(regression.train), len(regression.test)) == (3, 1)


def test_the_splits_are_the_parts(tmp_path: Path) -> None:
    whole = houses().select_columns(["area", "price"])
    splits = datasets.DatasetDict({"learn": whole.select([0, 1, 2]), "test": whole.select([3])})
    splits.save_to_disk(tmp_path / "parts")
    found = read_huggingface(tmp_path / "parts", targets="price", train_split="learn")
    np.testing.assert_array_equal(found.train.targets[:, 0], np.float32([300.5, 410.25, 700]))
    assert found.test is not None
    np.testing.assert_array_equal(found.test.inputs, [[65]])


def test_files_are_read_by_load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "train.csv").write_text("area,price\n50.5,300.5\n80,410.25\n")
    found = read_huggingface(tmp_path / "files", targets="price").train
    np.testing.assert_array_equal(found.targets[:, 0], np.float32([300.5, 410.25]))


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_images_are_bytes(mode: str, channels: int, tmp_path: Path) -> None:
    photos(mode).save_to_disk(tmp_path / "photos")
    data = read_huggingface(tmp_path / "photos", targets="label").train
    assert (data.kind, data.task, data.class_names) == ("images", "classification", ("zero", "one"))
    np.testing.assert_array_equal(data.inputs, np.repeat(PIXELS[..., None], channels, -1))
    np.testing.assert_array_equal(data.targets, [0, 1, 1, 0])
    small = read_huggingface(tmp_path / "photos", targets="label", image_size=3, channels=1)
    assert small.train.inputs.shape == (4, 3, 3, 1)


def test_a_run_from_yaml(tmp_path: Path) -> None:
    photos().save_to_disk(tmp_path / "photos")
    file = tmp_path / "config.yaml"
    file.write_text(
        f"""
data: {{format: huggingface, path: {tmp_path / "photos"}, targets: label, test: 2}}
model: {{name: mlp, hidden: [4]}}
prior: {{name: normal, std: 1.0}}
inference: {{name: map, learning_rate: 1.0e-2}}
training: {{epochs: 1, batch_size: 2}}
output: {{dir: {tmp_path / "run"}}}
"""
    )
    summary = experiment.train(configs.load(file))
    assert (summary["num_train"], summary["num_held_out"]) == (2, 2)


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "column": (houses, {"targets": "prize"}, "has no column 'prize', did you mean 'price'"),
    "input": (houses, {"targets": "price", "inputs": ["aera"]}, "did you mean 'area'"),
    "split": (
        lambda: datasets.DatasetDict({"learn": houses()}),
        {"targets": "price"},
        "has no split 'train'.* It has learn: set train_split",
    ),
    "text": (houses, {"targets": "price"}, "column 'city'.*must be a number, got 'Ulm'"),
    "image option": (
        houses,
        {"targets": "price", "inputs": ["area"], "image_size": 8},
        "image_size has no effect",
    ),
    "table option": (photos, {"targets": "label", "missing": "mean"}, "missing has no effect"),
    "subset": (houses, {"targets": "price", "subset": "en"}, "subset and revision have no effect"),
    "own part": (
        lambda: datasets.DatasetDict({"train": houses(), "test": houses()}),
        {"targets": "price", "inputs": ["area"], "test": 0.5},
        "has its own test part",
    ),
    "missing label": (
        lambda: photos(labels=[0, 1, None, 0]),
        {"targets": "label"},
        "the target is missing",
    ),
    "too large": (photos, {"targets": "label", "max_bytes": 100}, "more than max_bytes=100"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_clear_line(case: str, tmp_path: Path) -> None:
    make, options, message = WRONG[case]
    make().save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=message) as raised:
        read_huggingface(tmp_path / "saved", **options)
    assert "\n" not in str(raised.value)


def test_a_folder_without_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be loaded"):
        read_huggingface(tmp_path, targets="price")
