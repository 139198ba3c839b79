"""The runs of several seeds as one vmapped program: `seeds_together` of a config.

Each run has the folder, the checkpoint and the scores that it has alone, up to rounding. A choice
by measurement is written to together.json beside the runs, so that resumed runs make the same one.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from contextlib import ExitStack

import jax

from bnn_jax import noise
from bnn_jax.config.schema import Config
from bnn_jax.experiment import commands
from bnn_jax.experiment.folder import Record, RunError, RunFolder
from bnn_jax.experiment.run import Run, set_up
from bnn_jax.fitting import Interrupted
from bnn_jax.fitting.together import NotTogether, equal, fit_together

CHOICE = "together.json"


def check(first: Run, second: Config) -> None:
    """Checks that the runs of several seeds can be one program, before anything is written.

    Args:
        first: the first run.
        second: the settings of another.

    Raises:
        RunError: they cannot.
    """
    reason = None
    if first.mesh is not None:
        reason = "they are divided over several devices"
    elif first.examples.stream is not None:
        reason = "their examples are streamed"
    elif first.method.whole_data:
        reason = f"a step of {first.method.name} takes all examples"
    elif not equal(first.examples.train, set_up(second).examples.train):
        reason = "the seed determines their training examples"
    if reason is not None:
        raise RunError(f"The runs cannot be one program: {reason}. Set seeds_together to false.")


def train(config: Config, folder: RunFolder, runs: Mapping[str, Config]) -> dict[str, Record]:
    """Trains the runs as one program, if the settings ask for it and it can be done.

    Args:
        config: the settings of all runs.
        folder: holds the folders of the runs.
        runs: the settings of each run, by the name of its folder.

    Returns:
        The summaries by name; empty if the runs are to be trained one after the other.
    """
    if config.seeds_together is False or len(runs) < 2 or _chosen(folder) is False:
        return {}
    statuses = {RunFolder(run.output.dir).read_summary().get("status") for run in runs.values()}
    if not statuses <= {None, "interrupted"}:  # the others continue from their checkpoints
        return {}
    with noise.generator(config.training.generator):
        return _train(config, folder, runs)


def _train(config: Config, folder: RunFolder, runs: Mapping[str, Config]) -> dict[str, Record]:
    begun = {
        name: commands.begin(run, resume=RunFolder(run.output.dir).config_file.is_file())
        for name, run in runs.items()
    }

    def choose(together: float, in_turn: float) -> bool:
        is_faster = together < in_turn
        way = "as one program" if is_faster else "one after the other"
        print(
            f"The runs are trained {way}: a step of all takes {1000 * together:.3g} ms as one "
            f"program, and {1000 * in_turn:.3g} ms one after the other.",
            file=sys.stderr,
        )
        folder.write_file(CHOICE, json.dumps({"together": is_faster}) + "\n")
        return is_faster

    # On accelerators a step of one fit seldom fills the device.
    measures = config.seeds_together == "auto" and jax.default_backend() == "cpu"
    try:
        with ExitStack() as stack:
            options = [stack.enter_context(commands.run_options(*each)) for each in begun.values()]
            fits = fit_together(
                options, choose=choose if measures and _chosen(folder) is None else None
            )
    except NotTogether as error:
        print(f"The runs are trained one after the other: {error}.", file=sys.stderr)
        return {}
    except Interrupted as interrupted:
        for _, run_folder in begun.values():
            run_folder.write_interrupted(interrupted.steps)
        raise
    if fits is None:
        return {}
    return {
        name: commands.finish(dataclasses.replace(run, result=fit), run_folder)
        for (name, (run, run_folder)), fit in zip(begun.items(), fits, strict=True)
    }


def _chosen(folder: RunFolder) -> bool | None:
    """Returns whether the runs are trained as one program; None if this is not decided."""
    file = folder.path / CHOICE
    return bool(json.loads(file.read_text())["together"]) if file.is_file() else None
