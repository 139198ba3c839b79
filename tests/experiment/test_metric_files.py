"""metrics.csv and TensorBoard event files hold the numbers of metrics.jsonl."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import table_runs

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.experiment import metric_files

HISTORY: list[dict[str, Any]] = [
    {"epoch": 1, "loss": 2.0, "seconds": 0.1},
    {"epoch": 2, "loss": 1.0, "seconds": 0.1, "test": {"nll": 0.5, "rmse": 3}, "note": "x"},
]


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Returns {name: {step: value}} of all event files."""
    from tensorboardX import proto

    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.iterdir()):
        content = file.read_bytes()
        while content:
            # A record is its length (8 bytes), a checksum (4), the event, and a checksum (4).
            size = int.from_bytes(content[:8], "little")
            event = proto.event_pb2.Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]
            for value in event.summary.value:
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_the_csv_has_a_line_for_each_epoch(tmp_path: Path) -> None:
    with metric_files.writer(tmp_path, ["csv"]) as write:
        for count in (1, 2):
            write(HISTORY[:count])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "loss", "seconds", "test/nll", "test/rmse"]
    assert [row["loss"] for row in rows] == ["2.0", "1.0"]
    assert [row["test/nll"] for row in rows] == ["", "0.5"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_run_writes_both(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    changes = ["output.metrics=[csv,tensorboard]", "training.epochs=2"]
    experiment.train(configs.load(table_runs.write(tmp_path), changes))
    run = tmp_path / "run"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["loss"]) for row in rows] == [line["loss"] for line in lines]
    found = events(run / "tensorboard")
    assert found["loss"] == {line["epoch"]: pytest.approx(line["loss"], rel=1e-6) for line in lines}
    assert found["validation/nll"].keys() == {1, 2}


def test_other_forms_are_refused(tmp_path: Path) -> None:
    with pytest.raises(configs.ConfigError, match=r"output\.metrics"):
        configs.load(table_runs.write(tmp_path), ["output.metrics=[xml]"])
