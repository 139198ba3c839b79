"""Loading image data sets by name, as arrays."""

from pathlib import Path

from bnn_jax._extras import optional_import
from bnn_jax.data import cache
from bnn_jax.data.arrays import ImageDataset, ImagePairs
from bnn_jax.data.digits import load_digits
from bnn_jax.data.names import PathLike, check_name, resolve_data_dir
from bnn_jax.data.resize import check_size


def load(
    name: str,
    *,
    data_dir: PathLike | None = None,
    manual_dir: PathLike | None = None,
    image_size: int | None = None,
) -> ImageDataset:
    """Loads an image data set by name, as uint8 arrays.

    The first call downloads and prepares it (MNIST: half a minute); later calls memory-map the
    prepared arrays in milliseconds. The examples are in the order of TFDS, which shuffles them once
    with a fixed seed, so the order is the same on every machine.

    Args:
        name: `digits` (part of scikit-learn, needs no network), `mnist`, `fashion_mnist`, `kmnist`,
            `cifar10`, or any image classification set of TFDS, such as `svhn_cropped` or
            `emnist/letters`. Preparing one of the latter may need TensorFlow.
        data_dir: the folder of TFDS data and of the prepared arrays. The default is the environment
            variable TFDS_DATA_DIR if set, else ~/tensorflow_datasets.
        manual_dir: a folder with the original files, which are then not downloaded. Their
            checksums are verified.
        image_size: resize to image_size x image_size, bilinear; None keeps the size.

    Raises:
        DataError: the name is unknown or the data is not available; the message says what to do.
        MissingExtra: a package of `bnn-jax[data]` is not installed.
    """
    check_size(image_size)
    check_name(name)
    if name == "digits":
        return load_digits(image_size)
    directory = resolve_data_dir(data_dir)
    path = cache.folder(directory, name, image_size)
    kept = cache.read(path)
    if kept is None:
        _prepare(name, directory, manual_dir, image_size)
        kept = cache.read(path)
        assert kept is not None
    return kept


def _prepare(
    name: str, directory: Path, manual_dir: PathLike | None, image_size: int | None
) -> None:
    """Writes the arrays, from those of the original size if they exist, else from TFDS."""
    path = cache.folder(directory, name, image_size)
    original = cache.read(cache.folder(directory, name, None))
    if original is None:
        with optional_import(f"The data set {name!r}"):
            from bnn_jax.data.tfds_prepare import prepared_builder
            from bnn_jax.data.tfds_read import Pairs, label_names

        builder = prepared_builder(name, directory, manual_dir)
        train: ImagePairs = Pairs(builder, "train")
        test: ImagePairs = Pairs(builder, "test")
        names = tuple(label_names(builder))
    else:
        train, test, names = original.train, original.test, original.label_names
    with cache.lock(path.parent):
        if not path.is_dir():
            cache.write(path, train, test, name=name, label_names=names, image_size=image_size)
