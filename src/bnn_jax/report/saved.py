"""Reads the weights and the training metrics of a run for its report."""

import json

import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.experiment.folder import Record, RunFolder
from bnn_jax.report.findings import Weights


def weights_of(posterior: PyTree) -> dict[str, Weights]:
    """Returns {path: random weight array}, flat and in float32."""
    return {
        path: Weights(
            np.asarray(leaf.mean, np.float32).ravel(), np.asarray(leaf.std, np.float32).ravel()
        )
        for path, leaf in gaussian.random_leaves(posterior).items()
    }


def epochs_of(folder: RunFolder) -> list[Record]:
    """Returns the lines of metrics.jsonl; none if there is no such file."""
    file = folder.path / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
