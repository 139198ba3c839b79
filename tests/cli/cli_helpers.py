"""Tiny runs on tables for the tests of the command line, and calls of it."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bnn_jax import cli

CITIES = ("A", "B", "C")


def write_table(file: Path, *, rows: int = 40, seed: int = 0, target: str = "price") -> None:
    """Writes a table with the inputs size and city, and the targets price and kind."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(20, 150, rows)
    city = rng.integers(3, size=rows)
    city[:3] = range(3)
    price = 1000 * size * (1 + city) + rng.normal(0, 5000, rows)
    lines = [["size", "city", target, "kind"]]
    for s, c, p in zip(size, city, price, strict=True):
        lines.append([f"{s:.2f}", CITIES[c], f"{p:.2f}", "dear" if p > 150_000 else "cheap"])
    with file.open("w", newline="") as text:
        csv.writer(text).writerows(lines)


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """Returns the settings of a run on folder/houses.csv, with sections replaced."""
    table = {"format": "table", "path": str(folder / "houses.csv"), "targets": "price"}
    table |= {"inputs": ["size", "city"], "categorical": ["city"], "task": "regression"}
    return {
        "data": {**table, "test": 8},
        "model": {"name": "mlp", "hidden": [8]},
        "likelihood": {"name": "normal", "std": 0.3},
        "prior": {"name": "normal", "std": 1.0},
        "inference": {"name": "map", "learning_rate": 0.01},
        "training": {"epochs": 2, "batch_size": 16, "evaluate_every": 1},
        "evaluation": {"num_samples": 4},
        "output": {"dir": str(folder / "run")},
        **changes,
    }


def train(folder: Path, *words: str, **changes: Any) -> Path:
    """Trains a run of `settings` by the command line, and returns its folder."""
    found = settings(folder, **changes)
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(found))
    assert cli.main(["train", str(config), *words]) == 0
    return Path(found["output"]["dir"])


def refused(
    words: list[str], capsys: pytest.CaptureFixture[str], *, code: int = 2, out: str = ""
) -> str:
    """Runs the command, which must fail with one line on stderr, and returns this line."""
    capsys.readouterr()
    assert cli.main(words) == code
    captured = capsys.readouterr()
    assert captured.out == out
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


def read_csv(file: Path) -> dict[str, list[str]]:
    """Returns the columns of a CSV file."""
    with file.open(newline="") as text:
        header, *rows = csv.reader(text)
    return dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
