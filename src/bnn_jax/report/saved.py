"""What a run has kept, as the report wants it: its weights and its training."""

import json
from typing import Any

import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.experiment.folder import RunFolder
from bnn_jax.report.findings import Weights


def weights_of(posterior: PyTree) -> dict[str, Weights]:
    """Each random weight array under its path, flat and in float32."""
    return {
        path: Weights(
            np.asarray(leaf.mean, np.float32).ravel(), np.asarray(leaf.std, np.float32).ravel()
        )
        for path, leaf in gaussian.random_leaves(posterior).items()
    }


def epochs_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; none where there is no such file."""
    file = folder.path / "metrics.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
