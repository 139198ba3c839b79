"""predict for runs on classes and on several targets: columns by name that add up."""

import csv
from pathlib import Path

import cli_helpers as helpers
import numpy as np
import pytest

from bnn_jax import cli, experiment

KINDS = {"task": "classification", "targets": "kind"}


def data_section(folder: Path, **changes: object) -> dict[str, object]:
    return {**helpers.settings(folder)["data"], **changes}


def new_table(folder: Path) -> Path:
    file = folder / "new.csv"
    file.write_text("size,city\n20,A\n150,C\n80,B\n")
    return file


def predicted(run: Path, source: Path, output: Path) -> dict[str, np.ndarray]:
    words = ["predict", str(run), "--input", str(source), "--output", str(output)]
    assert cli.main(words) == 0
    return {name: np.array(values) for name, values in helpers.read_csv(output).items()}


def train(folder: Path, **changes: object) -> Path:
    helpers.write_table(folder / "houses.csv")
    return helpers.train(folder, **changes)


def test_classes_are_named_and_entropies_add_up(tmp_path: Path) -> None:
    run = train(
        tmp_path,
        data=data_section(tmp_path, **KINDS),
        likelihood={"name": "categorical"},
        inference={"name": "ivon", "learning_rate": 0.1},
    )
    found = predicted(run, new_table(tmp_path), tmp_path / "out.csv")
    names = ["class", "probability", "p_cheap", "p_dear"]
    assert list(found) == [*names, "entropy", "expected_entropy", "mutual_information"]
    p = np.stack([found["p_cheap"], found["p_dear"]], axis=1).astype(np.float32)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert found["class"].tolist() == [("cheap", "dear")[i] for i in p.argmax(axis=1)]
    np.testing.assert_array_equal(found["probability"].astype(np.float32), p.max(axis=1))
    entropy = found["entropy"].astype(float)
    np.testing.assert_allclose(entropy, -(p * np.log(p)).sum(axis=1), rtol=1e-5)
    parts = found["expected_entropy"].astype(float), found["mutual_information"].astype(float)
    np.testing.assert_allclose(entropy, sum(parts), rtol=1e-5)
    assert (parts[1] > 0).all()


def test_a_binary_target_has_two_classes(tmp_path: Path) -> None:
    run = train(
        tmp_path,
        data=data_section(tmp_path, **{**KINDS, "task": "binary"}),
        likelihood={"name": "bernoulli"},
    )
    found = predicted(run, new_table(tmp_path), tmp_path / "out.csv")
    dear = found["p_dear"].astype(np.float32)
    np.testing.assert_allclose(found["p_cheap"].astype(np.float32), 1 - dear, rtol=1e-6)
    assert found["class"].tolist() == ["dear" if value > 0.5 else "cheap" for value in dear]
    loaded = experiment.load(run)
    x = np.array([[20, 1, 0, 0], [150, 0, 0, 1], [80, 0, 1, 0]], np.float32)
    expected = loaded.predict(loaded.fit.posterior, x).probabilities
    np.testing.assert_array_equal(dear, expected[:, 0])


def test_each_of_several_targets_has_its_columns(tmp_path: Path) -> None:
    with (tmp_path / "houses.csv").open("w", newline="") as text:
        rows = csv.writer(text)
        rows.writerow(["x", "a", "a.mean"])
        rows.writerows([[i, 2 * i + 0.5, -i - 0.5] for i in range(40)])
    section = {"format": "table", "path": str(tmp_path / "houses.csv"), "test": 8}
    run = helpers.train(tmp_path, data={**section, "targets": ["a", "a.mean"]})
    (tmp_path / "new.csv").write_text("x\n3\n20\n")
    found = predicted(run, tmp_path / "new.csv", tmp_path / "out.csv")
    assert list(found)[:2] == ["a.mean", "a.std"]
    assert list(found)[6:8] == ["a.mean.mean", "a.mean.std"]
    loaded = experiment.load(run)
    p = loaded.predict(loaded.fit.posterior, np.array([[3.0], [20.0]], np.float32))
    np.testing.assert_array_equal(found["a.mean"].astype(np.float32), p.mean[:, 0])
    np.testing.assert_array_equal(found["a.mean.mean"].astype(np.float32), p.mean[:, 1])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on dark and light pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    x = np.random.default_rng(0).integers(0, 100, (40, 6, 6, 1), dtype=np.uint8)
    y = np.arange(40) % 2
    x[y == 1] += 150
    np.savez(folder / "all.npz", x=x, y=y, class_names=np.array(["dark", "light"]))
    section = {"format": "npz", "path": str(folder / "all.npz"), "test": 8}
    return helpers.train(
        folder,
        data=section,
        likelihood={"name": "categorical"},
        training={"epochs": 20, "batch_size": 16},
    )


def test_a_folder_of_images_gives_a_row_for_each_file(pictures: Path, tmp_path: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    Image.new("L", (6, 6), 220).save(images / "b.png")
    Image.new("L", (6, 6), 40).save(images / "a.png")
    found = predicted(pictures, images, tmp_path / "out.csv")
    assert found["file"].tolist() == ["a.png", "b.png"]
    assert found["class"].tolist() == ["dark", "light"]
    x = np.stack([np.full((6, 6, 1), value, np.uint8) for value in (40, 220)])
    np.savez(tmp_path / "x.npz", x=x)
    same = predicted(pictures, tmp_path / "x.npz", tmp_path / "same.csv")
    assert same["p_light"].tolist() == found["p_light"].tolist()


BROKEN = {
    "floats": (np.ones((2, 6, 6, 1), np.float32), ["bytes (uint8)", "float32"]),
    "size": (np.ones((2, 7, 6, 1), np.uint8), ["(examples, 6, 6, 1)", "(2, 7, 6, 1)"]),
    "one": (np.ones((6, 6), np.uint8), ["must hold images", "(6, 6)"]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_other_arrays_than_images_are_refused(
    name: str, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    x, words = BROKEN[name]
    np.savez(tmp_path / "x.npz", x=x)
    output = tmp_path / "out.csv"
    call = ["predict", str(pictures), "--input", str(tmp_path / "x.npz"), "--output", str(output)]
    message = helpers.refused(call, capsys)
    for word in words:
        assert word in message
    assert not output.exists()


def test_a_table_or_an_empty_folder_is_refused_for_images(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    for source, word in ((tmp_path / "empty", "no images"), (new_table(tmp_path), "trained on im")):
        call = ["predict", str(pictures), "--input", str(source), "--output"]
        assert word in helpers.refused([*call, str(tmp_path / "out.csv")], capsys)
