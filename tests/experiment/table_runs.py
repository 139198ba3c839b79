"""A small config on a table, for tests of runs on own data."""

from pathlib import Path

import numpy as np

CONFIG = """
data: {{format: table, path: {folder}/house.csv, targets: price, validation: 0.2, test: 0.2}}
model: {{name: mlp, hidden: [4]}}
likelihood: {{name: normal, std: 0.5}}
prior: {{name: normal, std: 1.0}}
inference: {{name: map, learning_rate: 1.0e-2}}
training: {{epochs: 1, batch_size: 10}}
evaluation: {{num_samples: 2}}
output: {{dir: {folder}/run}}
"""


def write(folder: Path) -> Path:
    """Writes house.csv and house.yaml, and returns the config's path."""
    rng = np.random.default_rng(0)
    size, rooms = rng.uniform(20, 200, 50), rng.integers(1, 6, 50)
    price = 1000 * size + 5000 * rooms + rng.normal(0, 1000, 50)
    rows = [f"{s:.1f},{r},{p:.1f}" for s, r, p in zip(size, rooms, price, strict=True)]
    (folder / "house.csv").write_text("\n".join(["size,rooms,price", *rows]) + "\n")
    config = folder / "house.yaml"
    config.write_text(CONFIG.format(folder=folder))
    return config
