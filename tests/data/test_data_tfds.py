"""Image classification sets of TFDS that are not ours: any builder that TFDS knows."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

from bnn_jax.data import DataError, load
from bnn_jax.data.tfds_builders import png

SIZES = (3, 5, 8)


class _Shapes(tfds.core.GeneratorBasedBuilder):
    """Images of three sizes, with a feature beside image and label, and splits to choose from."""

    VERSION = tfds.core.Version("1.2.3")
    BUILDER_CONFIGS = (
        tfds.core.BuilderConfig(name="plain", description=""),
        tfds.core.BuilderConfig(name="no_test", description=""),
        tfds.core.BuilderConfig(name="unlabelled_test", description=""),
        tfds.core.BuilderConfig(name="tensorflow", description=""),
    )

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "photo": tfds.features.Image(shape=(None, None, 3)),
                    "class": tfds.features.ClassLabel(names=["s", "m", "l"]),
                    "mask": tfds.features.Image(shape=(None, None, 1)),
                }
            ),
            supervised_keys=("photo", "class"),
        )

    def _split_generators(self, dl_manager):
        config = self.builder_config.name
        if config == "tensorflow":
            import tensorflow  # noqa: F401
        splits = {"train": self._generate_examples(9)}
        if config in ("plain", "unlabelled_test"):
            splits["test"] = self._generate_examples(6, labelled=config == "plain")
        if config == "unlabelled_test":
            splits["validation"] = self._generate_examples(3)
        return splits

    def _generate_examples(self, n, labelled=True):
        for i in range(n):
            size = SIZES[i % 3]
            photo = np.full((size, size + 1, 3), 10 * i, np.uint8)
            label = i % 3 if labelled else -1
            yield i, {"photo": png(photo), "class": label, "mask": png(photo[..., :1])}


class BnnJaxShapes(_Shapes):
    pass


class BnnJaxText(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict({"text": tfds.features.Text()})
        )

    def _split_generators(self, dl_manager):
        return {split: iter([(0, {"text": "x"})]) for split in ("train", "test")}

    def _generate_examples(self):
        raise NotImplementedError


def test_any_builder_of_tfds(tmp_path):
    data = load("bnn_jax_shapes/plain", data_dir=tmp_path, image_size=4)
    assert data.train.images.shape == (9, 4, 4, 3)
    assert data.test.images.shape == (6, 4, 4, 3)
    assert data.label_names == ("s", "m", "l")
    values = data.train.images[:, 0, 0, 0] // 10
    assert sorted(values.tolist()) == list(range(9))
    np.testing.assert_array_equal(data.train.labels, values % 3)
    again = load("bnn_jax_shapes/plain", data_dir=tmp_path, image_size=4)
    np.testing.assert_array_equal(again.train.images, data.train.images)


def test_validation_stands_in_for_a_test_split_without_labels(tmp_path):
    data = load("bnn_jax_shapes/unlabelled_test", data_dir=tmp_path, image_size=4)
    assert len(data.test) == 3
    assert data.test.labels.min() == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bnn_jax_shapes/plain", "differ in shape.*set image_size"),
        ("bnn_jax_shapes/no_test", "no labelled test split, only train.*from_arrays"),
        ("bnn_jax_shapes/tensorflow", "needs the package tensorflow.*pip install tensorflow"),
        ("bnn_jax_shapes/absent", "TFDS cannot open 'bnn_jax_shapes/absent'"),
        ("bnn_jax_shapes/plain:9.9.9", "TFDS cannot open"),
        ("bnn_jax_text", "not an image classification set.*got text"),
        ("svhn_cropped", "No connection to download svhn_cropped.*train_32x32.mat"),
    ],
)
def test_what_cannot_be_had(name, message, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        load(name, data_dir=tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.npy"))
    assert not list(tmp_path.rglob("*incomplete*"))


def test_data_that_tfds_prepared_in_another_format(tmp_path):
    load("bnn_jax_shapes/plain", data_dir=tmp_path / "a", image_size=4)
    info = tmp_path / "a" / "bnn_jax_shapes" / "plain" / "1.2.3" / "dataset_info.json"
    target = tmp_path / "b" / "bnn_jax_shapes" / "plain" / "1.2.3" / "dataset_info.json"
    target.parent.mkdir(parents=True)
    target.write_text(info.read_text().replace("array_record", "tfrecord"))
    (target.parent / "features.json").write_text((info.parent / "features.json").read_text())
    with pytest.raises(DataError, match=r"only as tfrecord.*array_record.*another data_dir"):
        load("bnn_jax_shapes/plain", data_dir=tmp_path / "b")
