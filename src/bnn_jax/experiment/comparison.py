"""Compares finished runs on the same data, from the files of their folders alone."""

import json
from collections.abc import Sequence
from pathlib import Path

from bnn_jax.config import own
from bnn_jax.config.data import CurveData
from bnn_jax.config.schema import Config
from bnn_jax.experiment import info, origin
from bnn_jax.experiment.folder import Record, RunError, RunFolder

# The keys of a row that are scores, with what a table calls them.
COLUMNS = {
    "accuracy": "accuracy",
    "rmse": "rmse",
    "nll": "nll",
    "ece": "ece",
    "coverage_of_90_percent": "coverage 90 %",
}


def compare(paths: Sequence[Path]) -> list[Record]:
    """Returns one row for each run: run, method, data, scores, seconds, epochs, seed.

    Args:
        paths: at least two folders of finished runs.

    Raises:
        RunError: a run is not finished, or two runs have other data.
        ConfigError: there is no such run.
    """
    if len(paths) < 2:
        raise RunError(f"compare needs at least two runs, got {len(paths)}.")
    folders = [RunFolder(path) for path in paths]
    twice = [f.path for i, f in enumerate(folders) if f.path in [g.path for g in folders[:i]]]
    if twice:
        raise RunError(f"The run in {twice[0]} is named twice: remove one.")
    configs = [folder.load_config() for folder in folders]
    for folder, config in zip(folders, configs, strict=True):
        folder.check_single(config)
    summaries = [_summary(folder) for folder in folders]
    for i in range(1, len(folders)):
        _check_same_data(*((folders[j], configs[j], summaries[j]) for j in (0, i)))
    return [
        _row(folder, config, summary)
        for folder, config, summary in zip(folders, configs, summaries, strict=True)
    ]


def seeds_differ(rows: Sequence[Record]) -> bool:
    """Returns whether rows of runs whose held-out examples depend on the seed have other seeds."""
    return any(row["split_by_seed"] for row in rows) and len({row["seed"] for row in rows}) > 1


def labels(rows: Sequence[Record]) -> list[str]:
    """Returns a short name for each run: its method, with its folder where methods repeat."""
    methods = [row["method"] for row in rows]
    return [
        method if methods.count(method) == 1 else f"{method} ({Path(row['run']).name})"
        for method, row in zip(methods, rows, strict=True)
    ]


def histories(paths: Sequence[Path]) -> list[list[Record]]:
    """Returns the lines of metrics.jsonl of each run.

    Raises:
        RunError: a run has none, or the file is damaged.
    """
    return [_history(RunFolder(path)) for path in paths]


def _history(folder: RunFolder) -> list[Record]:
    file = folder.path / "metrics.jsonl"
    if not file.is_file():
        raise RunError(f"The run in {folder.path} has no metrics.jsonl: leave --output out.")
    try:
        return [json.loads(line) for line in file.read_text().splitlines()]
    except ValueError as error:
        raise RunError(f"{file} is damaged: leave --output out, or train again.") from error


def _summary(folder: RunFolder) -> Record:
    folder.check_finished()
    summary = folder.read_summary()
    if "nll" not in summary:
        raise RunError(f"The run in {folder.path} has no scores: evaluate it first.")
    return summary


def _row(folder: RunFolder, config: Config, summary: Record) -> Record:
    return {
        "run": str(folder.path),
        "method": summary.get("method") or info.method_of(config),
        "data": config.data.title,
        "evaluated_on": summary.get("evaluated_on"),
        **info.scores_of(summary),
        "seconds": summary.get("train_seconds"),
        "epochs": config.training.epochs,
        "seed": config.seed,
        "split_by_seed": isinstance(config.data, CurveData | own.OwnData),
    }


Side = tuple[RunFolder, Config, Record]


def _check_same_data(one: Side, other: Side) -> None:
    reason = _difference(one, other)
    if reason is not None:
        raise RunError(
            f"The runs in {one[0].path} and {other[0].path} have different data ({reason}): "
            "compare runs on the same data."
        )


def _difference(one: Side, other: Side) -> str | None:
    # How inputs are standardised and augmented is a choice like that of the network.
    first, second = (
        side[1].data.model_dump(mode="json", exclude={"standardize", "augment"})
        for side in (one, other)
    )
    for name in [*first, *second]:
        if first.get(name) != second.get(name):
            return f"data.{name} is {first.get(name)} and {second.get(name)}"
    for name in ("evaluated_on", "num_held_out", "num_train"):
        if one[2].get(name) != other[2].get(name):
            return f"{name} is {one[2].get(name)} and {other[2].get(name)}"
    if one[1].seed == other[1].seed:
        hashes = [origin.data_hash(side[0].path) for side in (one, other)]
        if None not in hashes and hashes[0] != hashes[1]:
            return "the files have changed between them"
    return None
