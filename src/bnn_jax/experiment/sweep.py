"""Sweeps: one run for each point of a grid of settings, compared on validation data.

    output.dir/learning_rate=0.01_rank=10, ...      a run folder for each point
    output.dir/sweep.csv                            settings, scores and seconds, the best first
    output.dir/sweep.json                           the same
    output.dir/sweep.png                            the score against each setting, with matplotlib

Test data take no part in a choice: a config whose scores are those of test data is refused.
"""

import csv
import dataclasses
import hashlib
import io
import itertools
import json
import math
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from bnn_jax import config as configs
from bnn_jax.config import own
from bnn_jax.config.data import ImageData
from bnn_jax.config.errors import ConfigError, nearest
from bnn_jax.config.overrides import parse
from bnn_jax.config.schema import Config
from bnn_jax.experiment import seeds
from bnn_jax.experiment.folder import Record, RunError, RunFolder
from bnn_jax.experiment.run import set_up
from bnn_jax.fitting.divergence import Diverged

SCORES_OF_CLASSES, SCORES_OF_NUMBERS = ("nll", "accuracy", "brier", "ece"), ("nll", "rmse")
LARGER_IS_BETTER = ("accuracy",)
_NO_SCORES = ("train_seconds", "kl")


@dataclasses.dataclass(frozen=True)
class Grid:
    """The settings that a sweep tries.

    Attributes:
        path: the YAML file.
        fixed: overrides for all runs.
        axes: {key: values}; the points are all combinations.
    """

    path: Path
    fixed: tuple[str, ...]
    axes: Mapping[str, Sequence[object]]

    @property
    def points(self) -> list[dict[str, object]]:
        """The values of each point by their keys."""
        return [
            dict(zip(self.axes, values, strict=True))
            for values in itertools.product(*self.axes.values())
        ]


def read_grid(path: str | Path, overrides: Sequence[str]) -> Grid:
    """Returns the grid of overrides: one whose value is a list is an axis, others are fixed.

    Raises:
        ConfigError: an override has another form, an axis is empty, or there is none.
    """
    fixed, axes = [], {}
    for text in overrides:
        name, values = parse(text)
        if not isinstance(values, list):
            fixed.append(text)
        elif not values or any(values.count(value) > 1 for value in values):
            raise ConfigError(f"{name} must be a list of different values to try, got {text!r}")
        elif name in ("seed", "seeds", "output.dir"):
            raise ConfigError(
                f"{name} cannot be chosen by a sweep: set 'seeds' in {path} for several runs of "
                "each point, and output.dir to the folder of all"
            )
        else:
            axes[name] = values
    if not axes:
        raise ConfigError(
            "a sweep needs a list of values for at least one setting, such as "
            "inference.learning_rate=[1e-3,1e-2]"
        )
    return Grid(Path(path), tuple(fixed), axes)


def sweep(grid: Grid, *, by: str = "nll") -> Record:
    """Trains a run for each point of a grid, and writes the table of their validation scores.

    Finished runs of an earlier call are skipped, and interrupted ones are continued.

    Args:
        grid: the settings to try.
        by: the score that decides, such as nll, rmse or accuracy.

    Returns:
        {"run", "by", "best", "table"}; the table has a row {"settings", "scores", "seconds",
        "folder"} for each point, the best first.

    Raises:
        ConfigError: a point of the grid is wrong.
        RunError, DataError: a point does not fit the data, there are no validation data, or the
            folder holds other files. Nothing was written.
    """
    first = configs.load(grid.path, [*grid.fixed, *_overrides(grid.points[0])])
    _check_score(by, first)
    folder = RunFolder(first.output.dir)
    runs = _settings(grid, folder)
    _check_folder(folder)
    for settings in runs.values():
        if RunFolder(settings.output.dir).read_summary().get("status") != "finished":
            _check(settings)
    rows: list[Record] = []
    for (name, settings), point in zip(runs.items(), grid.points, strict=True):
        print(f"{name}: run {len(rows) + 1} of {len(runs)}", file=sys.stderr)
        rows.append(_row(settings, point) | {"folder": name})
        _write(folder, grid, _ranked(rows, by), by)
    table = _ranked(rows, by)
    if by not in table[0]["scores"]:
        raise RunError(
            f"all runs of the sweep in {folder.path} diverged: lower the learning rates."
        )
    return {"run": str(folder.path), "by": by, "best": table[0], "table": table}


def as_text(result: Record) -> str:
    """Returns the table of a sweep for the terminal, the best first."""
    names, rows = _cells(result["table"])
    shown = [[_shown(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *shown, strict=True)]
    lines = [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for line in (names, *shown)
    ]
    best = Path(result["run"]) / result["best"]["folder"]
    return "\n".join([*lines, f"The best by {result['by']} on validation data: {best}"])


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _overrides(point: Mapping[str, object]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in point.items()]


def _settings(grid: Grid, folder: RunFolder) -> dict[str, Config]:
    """Returns the settings of each point by the name of its folder."""
    found: dict[str, Config] = {}
    for point in grid.points:
        name = _name(point)
        output = f"output.dir={json.dumps(str(folder.path / name))}"
        found[name] = configs.load(grid.path, [*grid.fixed, *_overrides(point), output])
    return found


def _name(point: Mapping[str, object]) -> str:
    """Returns the name of a point's folder; the same for the same values in every sweep."""
    last = [key.split(".")[-1] for key in point]
    keys = last if len(set(last)) == len(last) else list(point)
    name = "_".join(f"{key}={_word(v)}" for key, v in zip(keys, point.values(), strict=True))
    if re.fullmatch(r"[\w.=,+-]{1,100}", name):
        return name
    digest = hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
    plain = re.sub(r"[^\w.=,+-]+", "-", name)
    return f"{plain[:80]}-{digest}"


def _word(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_word, value))
    return value if isinstance(value, str) else json.dumps(value)


def _check_score(by: str, config: Config) -> None:
    of_classes = config.likelihood.name in ("categorical", "bernoulli")
    known = SCORES_OF_CLASSES if of_classes else SCORES_OF_NUMBERS
    if by not in known:
        raise RunError(
            f"--by must be one of {', '.join(known)} for likelihood {config.likelihood.name}, got "
            f"{by!r}{nearest(by, known)}"
        )


def _check_folder(folder: RunFolder) -> None:
    """Checks that the folder is free, or holds a sweep."""
    if folder.config_file.is_file():
        raise RunError(
            f"output.dir {folder.path} holds a run: choose another folder for the sweep, such as "
            f"output.dir={folder.path}-sweep."
        )
    if not (folder.path / "sweep.csv").is_file() and not _holds_runs(folder.path):
        RunFolder.new(folder.path)


def _holds_runs(path: Path) -> bool:
    """Returns whether a folder has nothing but the runs of a sweep that was interrupted early."""
    inner = list(path.iterdir()) if path.is_dir() else []
    return bool(inner) and all("=" in p.name and (p / "config.yaml").is_file() for p in inner)


def _check(settings: Config) -> None:
    """Checks that the data of a point have a validation part, and that its objects can be built."""
    if settings.distributed is not None:
        raise RunError("a sweep runs in one process: remove distributed.")
    one = settings
    if settings.repeated is not None:
        members = seeds.members(settings, RunFolder(settings.output.dir))
        one = next(iter(members.values()))
    data, message = one.data, ""
    if isinstance(data, ImageData):
        if not data.validation:
            message = "set data.validation to a number of training images to hold out, such as 1000"
    elif not isinstance(data, own.OwnData):
        message = "use own data with data.validation"
    elif set_up(one).examples.held_out_name != "validation":
        message = "set data.validation to a share of the examples, such as data.validation=0.1"
    if message:
        raise RunError(
            f"a sweep chooses by validation data, and {data.title} has no validation part: "
            f"{message}."
        )


def _row(settings: Config, point: Mapping[str, object]) -> Record:
    """Trains a point and returns its row of the table; without scores if it diverged."""
    try:
        summary = seeds.train_or_skip(settings)
    except Diverged as error:
        print(error, file=sys.stderr)
        return {"settings": point, "scores": {}, "seconds": None}
    scores = summary.get("mean") or seeds.scores_of(summary)
    return {
        "settings": point,
        "scores": {name: value for name, value in scores.items() if name not in _NO_SCORES},
        "seconds": scores["train_seconds"],
    }


def _ranked(rows: Sequence[Record], by: str) -> list[Record]:
    sign = -1.0 if by in LARGER_IS_BETTER else 1.0

    def rank(row: Record) -> tuple[bool, float]:
        value = row["scores"].get(by, math.nan)
        return (not math.isfinite(value), sign * value)

    return sorted(rows, key=rank)


def _cells(table: Sequence[Record]) -> tuple[list[str], list[list[object]]]:
    """Returns the names of the columns, and the values of each row."""
    keys = list(table[0]["settings"])
    scores = list(table[0]["scores"])  # a run that diverged is not the first and has none
    rows = [
        [
            *(json.dumps(v) if isinstance(v, list | dict) else v for v in row["settings"].values()),
            *(row["scores"].get(name) for name in scores),
            row["seconds"],
        ]
        for row in table
    ]
    return [*keys, *scores, "seconds"], rows


def _write(folder: RunFolder, grid: Grid, table: Sequence[Record], by: str) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    names, rows = _cells(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(
        [[*names, "folder"], *([*c, r["folder"]] for c, r in zip(rows, table, strict=True))]
    )
    folder.write_file("sweep.csv", text.getvalue())
    folder.write_file("sweep.json", json.dumps({"by": by, "table": table}, indent=2) + "\n")
    if find_spec("matplotlib") is not None:
        from bnn_jax.experiment import sweep_plot

        sweep_plot.write(folder.path / "sweep.png", table, grid.axes, by)
