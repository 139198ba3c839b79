"""Reads a trained run from its folder."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from bnn_jax.experiment import build, origin
from bnn_jax.experiment.examples import Points, with_test_part
from bnn_jax.experiment.folder import RunError, RunFolder
from bnn_jax.experiment.run import Run, set_up


def load(
    path: Path, overrides: Sequence[str] = (), *, trust: bool = False, test: bool = False
) -> Run:
    """Returns the trained run of a folder.

    The user's Python files that its config names are run as they were in training.

    Args:
        path: the run folder.
        overrides: changes to the evaluation section.
        trust: run this Python code also if the folder was not made on this machine by this user.
        test: hold out the test examples, also if the run was trained with a validation part.

    Raises:
        RunError: there is no such run, it is not finished, its files are damaged, it has code that
            is not trusted, its own data have changed since training, or have no test part.
    """
    folder = RunFolder(path)
    config = folder.load_config(overrides)
    folder.check_single(config)
    origin.check_trusted(folder.path, config, trust=trust)
    folder.check_finished()
    here = build.on_these_devices(config)
    run = set_up(origin.with_kept_code(folder.path, here))
    origin.check_same_data(folder.path, config, run.examples)
    fit = folder.read_fit(run.model, run.method, run.likelihood)
    run = dataclasses.replace(run, result=fit)
    if test and not isinstance(run.examples, Points) and run.examples.held_out_name != "test":
        changed = with_test_part(run.examples, run.config)
        if changed is None:
            raise RunError(f"The data of {path} have no test part: set data.test before training.")
        run = dataclasses.replace(run, examples=changed)
    return run
