"""The report of a run of any kind, with checks before any work starts."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from bnn_jax import likelihoods, report
from bnn_jax.config import own
from bnn_jax.config.data import CurveData
from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.examples import Points
from bnn_jax.experiment.folder import Record, RunError, RunFolder
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.likelihoods import Categorical
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report import other_images
from bnn_jax.report.columns import columns_of


def check(path: Path, *, ood: Sequence[str] = ()) -> None:
    """Checks that a report can be written.

    Args:
        path: the run folder.
        ood: as in `write`.

    Raises:
        RunError: there is no such run, matplotlib is missing, or `ood` does not fit the run.
    """
    if find_spec("matplotlib") is None:
        raise RunError(
            "The report needs matplotlib, which is not installed: pip install 'bnn-jax[plot]', or "
            "leave the report out with --no-report."
        )
    data = RunFolder(path).load_config().data
    if ood and isinstance(data, CurveData | own.TableData | own.UciData):
        raise RunError(
            f"--ood {ood[0]} is a data set of images, but the network in {path} was trained on "
            f"{data.title}: leave --ood out."
        )
    other_images.parse(ood, trained_on=data.title)
    report.require(path)


def shows(run: Run) -> bool:
    """Returns whether there is a report for this kind of targets: classes, or one number."""
    if isinstance(run.likelihood, Categorical):
        return run.examples.train[1].ndim == 1
    return isinstance(run.likelihood, likelihoods.Regression) and run.examples.train[1].shape[
        1:
    ] == (1,)


def write(path: Path, run: Run, *, ood: Sequence[str] = ()) -> Record:
    """Writes the report into the run folder, replaces an earlier one, and returns its numbers.

    Args:
        path: the run folder.
        run: the run that `experiment.load` read from it.
        ood: out-of-distribution data sets of images, each NAME or NAME=FOLDER.

    Raises:
        RunError: there is no report for the targets of the run.
    """
    if not shows(run):
        raise RunError(
            "There is a report for classes and for one number, and not for these targets: use "
            "--no-report."
        )
    if isinstance(run.likelihood, Categorical):
        return report.write(path, run, ood=ood)

    weights, points = run.weights, run.examples if isinstance(run.examples, Points) else None

    input_name, target_name = _names(run)

    def predictor(
        posterior: PyTree,
        inputs: np.ndarray,
        targets: np.ndarray | None,
        levels: tuple[float, ...],
    ) -> Regression:
        column = None if targets is None else targets[:, None]
        chosen = run.fit.posterior if posterior is weights else posterior
        predicted = run.predict(chosen, inputs, column, levels=levels)
        assert isinstance(predicted, Regression)
        return predicted

    train, held_out = (
        (np.asarray(x), np.asarray(y)[:, 0]) for x, y in (run.examples.train, run.examples.held_out)
    )
    findings = report.gather_regression(
        path,
        predictor,
        weights,
        train=train,
        held_out=held_out,
        data=run.config.data.title,
        evaluated_on=run.examples.held_out_name,
        settings=run.config.model_dump(mode="json"),
        places=None if points is None else points.curve.grid(),
        true_mean=None if points is None else points.curve.mean,
        columns=columns_of(run),
        input_name=input_name,
        target_name=target_name,
    )
    return report.write_findings(path, findings)


def _names(run: Run) -> tuple[str, str]:
    """Returns the names of the first input and of the target."""
    if not isinstance(run.examples, Arrays):
        return "x", "y"
    train = run.examples.splits.train
    return train.input_names[0] if train.input_names else "x", train.target_names[0]
