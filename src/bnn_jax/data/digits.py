"""The data set `digits`: 1,797 handwritten digits, 8x8, from the scikit-learn package.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin, C. Kaynak, UCI
Machine Learning Repository, 1998, doi:10.24432/C50P49, CC BY 4.0): 32x32 scans of 13 writers, as
counts of set pixels in blocks of 4x4, so from 0 to 16. They are scaled to 0 to 255.

The split is fixed: the first 1,347 are for training, the last 450 for testing. The file is ordered
by writer, so most test digits come from writers who are not in the training part.
"""

import importlib.util
from pathlib import Path

import numpy as np

from bnn_jax._extras import optional_import
from bnn_jax.data.arrays import ImageDataset, from_arrays

TRAIN_EXAMPLES = 1347


def load_digits(image_size: int | None = None) -> ImageDataset:
    """Returns the digits as a data set, without network access and without writing files."""
    table = _table()
    images = ((table[:, :64].reshape(-1, 8, 8, 1) * 255 + 8) // 16).astype(np.uint8)
    labels = table[:, 64]
    n = TRAIN_EXAMPLES
    return from_arrays(
        *(images[:n], labels[:n], images[n:], labels[n:]), name="digits", image_size=image_size
    )


def _table() -> np.ndarray:
    """Returns (1797, 65) integers: 64 pixels from 0 to 16 and the class."""
    spec = importlib.util.find_spec("sklearn")
    # Importing scikit-learn takes seconds; reading its file takes 20 ms.
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return np.loadtxt(path, delimiter=",", dtype=np.int64)
    with optional_import("The data set 'digits'"):
        from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    return np.column_stack([bunch.data, bunch.target]).astype(np.int64)
