"""Training examples that are read when they are used, for data that are larger than memory."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from bnn_jax._extras import optional_import

Example = tuple[Shaped[np.ndarray, "..."], Shaped[np.ndarray, "..."]]

SAMPLE = 1024  # training examples that are read at once, for shapes, classes and statistics


@dataclasses.dataclass(frozen=True)
class Streamed:
    """Training examples by index.

    Attributes:
        read: row of the source -> (input, target), encoded as `Dataset` has them.
        rows: the rows of the training examples in the source.
    """

    read: Callable[[int], Example]
    rows: Int[np.ndarray, " examples"]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        return self.read(int(self.rows[index]))

    def batches(self, batch_size: int, seed: int) -> Any:
        """Returns a grain.MapDataset of full batches, whose seed determines the orders."""
        with optional_import("data.stream"):
            import grain

        shuffled = grain.MapDataset.source(self).shuffle(seed=seed)
        return shuffled.batch(batch_size, drop_remainder=True)


def sample_of(rows: Int[np.ndarray, " examples"], seed: int) -> Int[np.ndarray, " sample"]:
    """Returns at most `SAMPLE` of the rows, chosen at random, in rising order."""
    if len(rows) <= SAMPLE:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, SAMPLE, replace=False))
