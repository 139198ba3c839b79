"""Images in a folder for each class: what is read, and one clear line for each mistake."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bnn_jax.data import DataError, read_image_folder, read_new_images
from bnn_jax.data.resize import resize_one

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (5, 4, 6), np.uint8)


def save(file: Path, pixels: np.ndarray, **options: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three cats and two dogs, grey, 4x6 pixels."""
    root = tmp_path / "photos"
    for i, name in enumerate(("cat/a.png", "cat/b.PNG", "cat/c.bmp", "dog/a.png", "dog/b.png")):
        save(root / name, GREY[i])
    (root / "cat" / ".hidden").write_text("")
    (root / "dog" / "Thumbs.db").write_text("")
    return root


def test_grey_images(photos: Path) -> None:
    splits = read_image_folder(photos)
    data = splits.train
    np.testing.assert_array_equal(data.inputs, GREY[..., None])
    np.testing.assert_array_equal(data.targets, np.int32([0, 0, 0, 1, 1]))
    assert (data.task, data.kind, data.class_names) == ("classification", "images", ("cat", "dog"))
    assert (data.inputs.dtype, data.targets.dtype) == (np.uint8, np.int32)
    turned = read_image_folder(photos, class_names=["dog", "cat", "cow"]).train
    np.testing.assert_array_equal(turned.targets, np.int32([1, 1, 1, 0, 0]))
    assert turned.num_outputs == 3


def test_one_coloured_image_makes_all_coloured(photos: Path) -> None:
    colour = RNG.integers(0, 256, (4, 6, 3), np.uint8)
    save(photos / "dog" / "c.png", colour)
    data = read_image_folder(photos).train
    np.testing.assert_array_equal(data.inputs[-1], colour)
    np.testing.assert_array_equal(data.inputs[0], GREY[0][..., None].repeat(3, -1))
    grey = read_image_folder(photos, channels=1).train
    expected = np.asarray(Image.fromarray(colour).convert("L"))
    np.testing.assert_array_equal(grey.inputs[-1, ..., 0], expected)


def test_alpha_is_dropped(photos: Path) -> None:
    pixels = RNG.integers(0, 256, (4, 6, 4), np.uint8)
    save(photos / "dog" / "c.png", pixels)
    np.testing.assert_array_equal(read_image_folder(photos).train.inputs[-1], pixels[..., :3])


def test_images_of_several_sizes_are_resized(photos: Path) -> None:
    larger = RNG.integers(0, 256, (9, 8), np.uint8)
    save(photos / "dog" / "c.png", larger)
    data = read_image_folder(photos, image_size=7).train
    assert data.inputs.shape == (6, 7, 7, 1)
    np.testing.assert_array_equal(data.inputs[-1], resize_one(larger[..., None], 7))


def test_a_turned_picture_is_turned_back(photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(photos / "dog" / "c.png", np.rot90(GREY[0]), exif=exif)
    np.testing.assert_array_equal(read_image_folder(photos).train.inputs[-1, ..., 0], GREY[0])


def test_parts(photos: Path) -> None:
    root = photos.parent / "parts"
    shutil.copytree(photos, root / "train")
    save(root / "test" / "dog" / "z.png", GREY[2])
    save(root / "val" / "cat" / "z.png", GREY[3])
    splits = read_image_folder(root)
    assert splits.test is not None
    assert splits.validation is not None
    assert (splits.test.targets.tolist(), splits.validation.targets.tolist()) == ([1], [0])
    assert splits.test.class_names == ("cat", "dog")
    random = read_image_folder(photos, validation=2, seed=1)
    assert random.validation is not None
    assert (len(random.train), len(random.validation)) == (3, 2)


def test_new_images(photos: Path) -> None:
    images, names = read_new_images(photos / "cat", shape=(4, 6, 1))
    np.testing.assert_array_equal(images, GREY[:3, ..., None])
    assert names == ("a.png", "b.PNG", "c.bmp")
    assert read_new_images(photos / "cat", shape=(5, 5, 3))[0].shape == (3, 5, 5, 3)
    with pytest.raises(DataError, match=r"a.png has 4x6 pixels, and the training images have 3x6"):
        read_new_images(photos / "cat", shape=(3, 6, 1))
    (photos / "none").mkdir()
    with pytest.raises(DataError, match="has no images"):
        read_new_images(photos / "none", shape=(3, 6, 1))


def _broken_png(root: Path) -> None:
    content = (root / "cat" / "a.png").read_bytes()
    (root / "cat" / "a.png").write_bytes(content[:-30])


# What is done to the folder; the options; the message.
BROKEN: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "none": (shutil.rmtree, {}, "photos does not exist"),
    "a file": (
        lambda root: (shutil.rmtree(root), root.write_text("")), {}, "photos is not a folder",
    ),
    "no classes": (
        lambda root: (shutil.rmtree(root / "cat"), shutil.rmtree(root / "dog")), {},
        "has no folders",
    ),
    "one class": (lambda root: shutil.rmtree(root / "cat"), {}, "only one class, dog"),
    "empty class": (lambda root: (root / "cow").mkdir(), {}, "class 'cow' of .* has no images"),
    "no image": (
        lambda root: (root / "cat" / "notes.txt").write_text("x"), {},
        r"notes.txt is no image.*\.png",
    ),
    "text as png": (
        lambda root: (root / "cat" / "x.png").write_text("x"), {}, r"x.png cannot be read as an im",
    ),
    "truncated": (_broken_png, {}, r"a.png cannot be read as an image"),
    "empty image": (
        lambda root: (root / "cat" / "x.png").write_text(""), {}, r"x.png cannot be read as an im",
    ),
    "sizes": (
        lambda root: save(root / "dog" / "c.png", GREY[0, :3]), {},
        r"c.png has 3x6 pixels and .*a.png has 4x6: set image_size",
    ),
    "16 bits": (
        lambda root: save(root / "dog" / "c.png", GREY[0].astype(np.uint16)), {},
        "8 bits a channel",
    ),
    "loose image": (lambda root: save(root / "c.png", GREY[0]), {}, "c.png lies in no folder"),
    "deep folder": (lambda root: save(root / "dog/x/c.png", GREY[0]), {}, "folder inside a class"),
    "unknown class": (lambda root: None, {"class_names": ["cat", "dogs"]}, "'dog' .*'dogs'"),
    "channels": (lambda root: None, {"channels": 2}, "channels must be 1 .* got 2"),
    "size": (lambda root: None, {"image_size": 0}, "image_size must be a positive"),
    "memory": (lambda root: None, {"max_bytes": 100}, "120 bytes, more than max_bytes=100"),
    "unknown class of a part": (
        lambda root: (
            shutil.move(root, root.parent / "x"), shutil.move(root.parent / "x", root / "train"),
            save(root / "test" / "dgo" / "a.png", GREY[0]),
        ),
        {}, "class 'dgo' of .* none of the classes, did you mean 'dog'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_folder_is_one_line(case: str, photos: Path) -> None:
    change, options, expected = BROKEN[case]
    change(photos)
    with pytest.raises(DataError) as caught:
        read_image_folder(photos, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    assert re.search(expected, message), message
