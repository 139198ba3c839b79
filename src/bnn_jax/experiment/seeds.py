"""Several runs of one config: one for each seed, or for each standard split of a UCI set.

    output.dir/config.yaml      the settings
    output.dir/seed-0, ...      a run folder for each seed; split-0, ... for each split
    output.dir/seeds.csv        the scores of each run, their mean and its standard error
    output.dir/seeds.json       the same; splits.csv and splits.json for splits

The standard error of the mean of n runs is their standard deviation, with n - 1 in its
denominator, divided by the square root of n.
"""

import csv
import io
import json
import math
import statistics
import sys
from collections.abc import Mapping, Sequence

from bnn_jax.config import own
from bnn_jax.config.schema import Config
from bnn_jax.data.uci import num_splits
from bnn_jax.experiment import commands, together
from bnn_jax.experiment.folder import Record, RunFolder
from bnn_jax.experiment.run import set_up

Scores = dict[str, float]


def train(config: Config, *, resume: bool = False) -> Record:
    """Trains and evaluates a network, once or for each seed or split, and writes the run folders.

    Args:
        config: the settings. If output.dir already holds a run, the next free folder is used:
            output.dir with -2, -3, ... appended.
        resume: continue in output.dir. Of several runs, finished ones are skipped and an
            interrupted one is continued from its checkpoint.

    Returns:
        The summary of one run, as in summary.json; or of several runs, as in seeds.json.

    Raises:
        RunError, DataError: the settings do not fit the data or the folder. Nothing was written.
        KeyboardInterrupt: a run was interrupted. Its state was saved and can be resumed.
    """
    if config.repeated is None:
        return commands.train(config, resume=resume)
    folder = RunFolder(config.output.dir)
    if resume:
        folder.check_resumable(config)
    else:
        folder = RunFolder.new(config.output.dir)
    runs = members(config, folder)
    if not folder.config_file.is_file():
        first, *others = runs.values()
        run = set_up(first)  # reports what is wrong before anything is written
        if others and config.seeds_together is True:
            together.check(run, others[0])
    folder.create(config)
    summaries = together.train(config, folder, runs)
    for number, (name, settings) in enumerate(runs.items(), start=1):
        if name not in summaries:
            print(f"{name}: run {number} of {len(runs)}", file=sys.stderr)
            summaries[name] = train_or_skip(settings)
    summary: Record = {"status": "finished", "run": str(folder.path), **summarise(summaries)}
    folder.write_file(f"{config.repeated}.csv", as_csv(summary))
    folder.write_file(f"{config.repeated}.json", json.dumps(summary, indent=2) + "\n")
    return summary


def members(config: Config, folder: RunFolder) -> dict[str, Config]:
    """Returns the settings of each run, by the name of its folder.

    Raises:
        DataError: the number of splits cannot be read.
    """
    found: dict[str, dict[str, object]]
    if config.seeds is not None:
        found = {
            f"seed-{seed}": {"seed": seed, "seeds": None, "seeds_together": False}
            for seed in config.seeds
        }
    else:
        assert isinstance(config.data, own.UciData)
        count = num_splits(config.data.name, folder=config.data.folder)
        found = {
            f"split-{i}": {"data": config.data.model_copy(update={"split": i})}
            for i in range(count)
        }
    return {
        name: config.model_copy(
            update=changes
            | {"output": config.output.model_copy(update={"dir": folder.path / name})}
        )
        for name, changes in found.items()
    }


def train_or_skip(config: Config) -> Record:
    """Returns the summary of a run, trained from where it stands, if it is not finished.

    Raises:
        RunError: its folder holds a run of other settings.
    """
    folder = RunFolder(config.output.dir)
    if not folder.config_file.is_file():
        return train(config)
    folder.check_resumable(config)
    summary = folder.read_summary()
    return summary if summary.get("status") == "finished" else train(config, resume=True)


def scores_of(summary: Mapping[str, object]) -> Scores:
    """Returns the numbers that a run measured, with dots in the names of those in groups."""
    found: Scores = {}
    for name, value in summary.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": score for inner, score in scores_of(value).items()}
        elif isinstance(value, float):
            found[name] = value
    return found


def summarise(summaries: Mapping[str, Record]) -> Record:
    """Returns the scores of each run, and over all runs their means and standard errors.

    Args:
        summaries: of each run by its name.

    Returns:
        {"runs": {name: scores}, "mean": scores, "standard_error": scores}, of the scores that all
        runs have. The standard error of one run is None.
    """
    runs = {name: scores_of(summary) for name, summary in summaries.items()}
    names = [
        name for name in next(iter(runs.values())) if all(name in run for run in runs.values())
    ]
    values = {name: [run[name] for run in runs.values()] for name in names}
    return {
        "runs": {run: {name: scores[name] for name in names} for run, scores in runs.items()},
        "mean": {name: statistics.fmean(of_runs) for name, of_runs in values.items()},
        "standard_error": {name: standard_error(of_runs) for name, of_runs in values.items()},
    }


def standard_error(values: Sequence[float]) -> float | None:
    """Returns the standard error of the mean of values, or None for fewer than two."""
    if len(values) < 2:
        return None
    if not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))


def as_csv(summary: Record) -> str:
    """Returns the table of `summarise` as CSV: a row for each run, the means, the errors."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = list(summary["mean"])
    writer.writerow(["run", *names])
    rows = {**summary["runs"], "mean": summary["mean"], "standard error": summary["standard_error"]}
    for run, scores in rows.items():
        writer.writerow([run, *("" if scores[n] is None else repr(scores[n]) for n in names)])
    return text.getvalue()


def table(summary: Record) -> str:
    """Returns the table of `summarise` for the terminal: a line for each score."""
    names = list(summary["mean"])
    width = max(map(len, (*names, "score")))
    lines = [f"{'score':<{width}}  {'mean':>10}  {'std. error':>10}"]
    for name in names:
        error = summary["standard_error"][name]
        shown = "" if error is None else f"{error:.3g}"
        lines.append(f"{name:<{width}}  {summary['mean'][name]:>10.5g}  {shown:>10}")
    return "\n".join([*lines, f"{len(summary['runs'])} runs in {summary['run']}"])
