"""Your own arrays, the digits, and resizing."""

import numpy as np
import pytest

from bnn_jax.data import DataError, from_arrays, load
from bnn_jax.data.resize import resize

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 5, 4, 3), np.uint8)
LABELS = np.array([0, 1, 2, 2, 1, 0])


def test_own_arrays():
    data = from_arrays(IMAGES, LABELS, IMAGES[:2], LABELS[:2].tolist(), name="mine")
    np.testing.assert_array_equal(data.train.images, IMAGES)
    assert data.train.labels.dtype == np.int32
    assert (data.name, data.num_classes, data.label_names) == ("mine", 3, ("0", "1", "2"))
    assert (len(data.train), len(data.test)) == (6, 2)


def test_one_channel_may_be_left_out():
    data = from_arrays(IMAGES[..., 0], LABELS, IMAGES[..., 1], LABELS, image_size=8)
    assert data.train.images.shape == (6, 8, 8, 1)


def test_label_names_give_the_number_of_classes():
    data = from_arrays(IMAGES, LABELS, IMAGES, LABELS, label_names=["a", "b", "c", "unseen"])
    assert data.num_classes == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_images": IMAGES / 255}, "train_images must be uint8.*float64.*astype"),
        ({"test_images": IMAGES[0, 0]}, r"test_images must be \(examples, height.*\(4, 3\)"),
        ({"train_images": IMAGES[:0], "train_labels": LABELS[:0]}, "not empty"),
        ({"train_labels": LABELS[:5]}, r"train_labels must have one label per image.*\(5,\)"),
        ({"train_labels": np.eye(6, dtype=int)}, "argmax"),
        ({"test_labels": LABELS / 2}, "test_labels must be integers, got float64"),
        ({"train_labels": LABELS - 1}, "train_labels must be class numbers from 0.*-1 to 1"),
        ({"num_classes": 2}, "below num_classes = 2, got 2"),
        ({"label_names": ["a", "b", "c"], "num_classes": 4}, "4 entries, got 3"),
        ({"test_images": IMAGES[:, :4]}, r"same shape, got \(5, 4, 3\) and \(4, 4, 3\)"),
        ({"image_size": 0}, "image_size must be a positive integer or None, got 0"),
        ({"train_labels": [[1], [1, 2]]}, "train_labels must be an array"),
    ],
)
def test_own_arrays_that_make_no_data_set(change, message):
    arrays = {"train_images": IMAGES, "train_labels": LABELS}
    arrays |= {"test_images": IMAGES, "test_labels": LABELS}
    with pytest.raises(DataError, match=message) as caught:
        from_arrays(**(arrays | change))
    assert "\n" not in str(caught.value)


def test_digits_are_those_of_scikit_learn_in_their_order():
    from sklearn.datasets import load_digits

    data, bunch = load("digits"), load_digits()
    assert (len(data.train), len(data.test), data.num_classes) == (1347, 450, 10)
    images = np.concatenate([data.train.images, data.test.images])
    assert images.shape == (1797, 8, 8, 1)
    assert (images.min(), images.max()) == (0, 255)
    expected = bunch.images[..., None] * 255 / 16
    assert np.abs(images - expected).max() <= 0.5
    labels = np.concatenate([data.train.labels, data.test.labels])
    np.testing.assert_array_equal(labels, bunch.target)
    np.testing.assert_array_equal(
        np.bincount(data.test.labels), [43, 46, 43, 47, 48, 45, 47, 45, 41, 45]
    )


def test_digits_need_no_folder_and_no_file_of_scikit_learn_in_its_place(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    data = load("digits", image_size=32)
    assert data.train.images.shape == (1347, 32, 32, 1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    again = load("digits", image_size=32)
    np.testing.assert_array_equal(again.test.images, data.test.images)


def bilinear(image: np.ndarray, size: int) -> np.ndarray:
    """Interpolation between pixel centres, edges repeated, by its definition."""

    def weights(n: int) -> np.ndarray:
        centres = (np.arange(size) + 0.5) * n / size - 0.5
        distance = np.abs(np.clip(centres, 0, n - 1)[:, None] - np.arange(n))
        return np.maximum(0.0, 1.0 - distance)

    height, width = image.shape[:2]
    return np.einsum("ih,hwc,jw->ijc", weights(height), image, weights(width))


def test_enlarging_is_bilinear():
    for image, got in zip(IMAGES, resize(IMAGES, 9), strict=True):
        # Pillow rounds after each axis, so one grey level more than half of one.
        assert np.abs(got - bilinear(image, 9)).max() <= 1.01


def test_shrinking_averages():
    image = np.zeros((1, 4, 4, 1), np.uint8)
    image[0, 1, 1] = 160
    assert resize(image, 1).item() > 0


def test_each_channel_is_resized_by_itself():
    four = np.concatenate([IMAGES, IMAGES[..., :1]], axis=-1)
    out = resize(four, 7)
    np.testing.assert_array_equal(out[..., :3], resize(IMAGES, 7))
    np.testing.assert_array_equal(out[..., 3], out[..., 0])


def test_nothing_is_resized_to_its_own_size():
    square = IMAGES[:, :4]
    assert resize(square, 4) is square
    assert resize(IMAGES, None) is IMAGES
