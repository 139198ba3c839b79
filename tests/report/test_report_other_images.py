"""Images of other data sets, in the shape of the run's own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnn_jax import data
from bnn_jax.data.resize import resize
from bnn_jax.experiment.folder import RunError
from bnn_jax.report import other_images
from bnn_jax.report.other_images import Source
from bnn_jax.report.turned import turned


def shaped(*shape: int) -> data.ImageDataset:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, *shape), np.uint8)
    labels = np.arange(20) % 4
    return data.from_arrays(images, labels, images[::-1].copy(), labels, label_names=list("abcd"))


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the next data set by name is; the arguments it was asked for with."""
    asked: dict[str, Any] = {"is": shaped(6, 6, 1)}

    def load(name: str, **arguments: Any) -> data.ImageDataset:
        asked.update(arguments, name=name)
        return asked["is"]

    monkeypatch.setattr(data, "load", load)
    return asked


def fitted(*shape: int, most: int = 100) -> other_images.OtherImages:
    return other_images.load(
        Source("mnist", Path("files")), None, shape=(shape[0], shape[1], shape[2]), most=most
    )


def test_images_of_the_same_shape_are_unchanged(found: dict[str, Any]) -> None:
    other = fitted(6, 6, 1, most=7)
    np.testing.assert_array_equal(other.images, found["is"].test.images[:7])
    np.testing.assert_array_equal(other.labels, found["is"].test.labels[:7])
    assert other.label_names == ("a", "b", "c", "d")
    assert other.changes == ""
    assert found["name"] == "mnist"
    assert found["manual_dir"] == Path("files")
    assert found["image_size"] is None


def test_other_sizes_are_resized_like_the_runs_own(found: dict[str, Any]) -> None:
    other = fitted(9, 9, 1)
    np.testing.assert_array_equal(other.images, resize(found["is"].test.images, 9))
    assert other.changes == "resized from 6x6 to 9x9"


def test_colors_are_converted_to_gray_as_in_pillow(found: dict[str, Any]) -> None:
    found["is"] = shaped(6, 6, 3)
    other = fitted(6, 6, 1)
    for ours, theirs in zip(other.images, found["is"].test.images, strict=True):
        exact = np.asarray(Image.fromarray(theirs).convert("L"), np.int32)
        assert np.abs(ours[..., 0].astype(np.int32) - exact).max() <= 1
    assert other.changes == "converted to gray"


def test_gray_is_repeated_over_colors(found: dict[str, Any]) -> None:
    other = fitted(3, 3, 3)
    assert other.images.shape == (20, 3, 3, 3)
    np.testing.assert_array_equal(other.images[..., 0], other.images[..., 2])
    assert other.changes == "gray repeated over 3 channels, resized from 6x6 to 3x3"


@pytest.mark.parametrize(
    ("given", "wanted", "message"),
    [
        ((6, 6, 2), (6, 6, 1), "have 2 channels and the run's have 1"),
        ((6, 6, 1), (6, 8, 1), "are 6x6 and the run's are 6x8"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(
    found: dict[str, Any], given: tuple[int, ...], wanted: tuple[int, ...], message: str
) -> None:
    found["is"] = shaped(*given)
    with pytest.raises(RunError, match=message):
        fitted(*wanted)


def test_names_with_and_without_a_folder() -> None:
    sources = other_images.parse(["mnist", "kmnist=some/files"], trained_on="digits")
    assert sources == [Source("mnist"), Source("kmnist", Path("some/files"))]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["=files"], "NAME or NAME=FOLDER"),
        (["mnist="], "NAME or NAME=FOLDER"),
        (["mnist", "mnist=files"], "has mnist more than once"),
        (["digits"], "the network was trained on"),
    ],
)
def test_invalid_names_are_errors(texts: list[str], message: str) -> None:
    with pytest.raises(RunError, match=message) as error:
        other_images.parse(texts, trained_on="digits")
    assert "\n" not in str(error.value)


def test_rotation_by_right_angles_is_exact() -> None:
    image = np.random.default_rng(1).integers(0, 256, (7, 7, 3), np.uint8)
    images = turned(image, np.asarray([0.0, 90.0, 180.0, 270.0, 45.0]))
    for quarter in range(4):
        np.testing.assert_array_equal(images[quarter], np.rot90(image, quarter))
    assert images.shape == (5, 7, 7, 3)
    assert not images[4, 0, 0].any()  # black where there was no image
