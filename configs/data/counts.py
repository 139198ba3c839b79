"""Counts whose rate is known: log rate = 1 + sin(2 a) + b / 2, with a and b uniform in -2 to 2.

The config counts_poisson.yaml reads them.
"""

import numpy as np


def load(examples: int = 2000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs, float32 (examples, 2), and counts, int64 (examples, 1)."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2.0, 2.0, (examples, 2)).astype(np.float32)
    return x, rng.poisson(np.exp(log_rate(x)))[:, None]


def log_rate(x: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the rate at inputs (examples, 2)."""
    return 1.0 + np.sin(2.0 * x[:, 0]) + 0.5 * x[:, 1]
