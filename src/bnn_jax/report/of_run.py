"""The report of a run of any kind, with checks before any work starts."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import PyTree

from bnn_jax import report
from bnn_jax.config.data import CurveData
from bnn_jax.experiment.commands import Run
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import Record, RunError, RunFolder
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report import other_images


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
    if ood and isinstance(data, CurveData):
        raise RunError(
            f"--ood {ood[0]} is a data set of images, but the network in {path} was trained on "
            f"{data.title}, which has none: leave --ood out. The report shows the curve beyond the "
            "training range."
        )
    other_images.parse(ood, trained_on=data.title)
    report.require(path)


def write(path: Path, run: Run, *, ood: Sequence[str] = ()) -> Record:
    """Writes the report into the run folder, replaces an earlier one, and returns its numbers.

    Args:
        path: the run folder.
        run: the run that `experiment.load` read from it.
        ood: out-of-distribution data sets of images, each NAME or NAME=FOLDER.
    """
    if isinstance(run.examples, Images):
        return report.write(path, run, ood=ood)

    weights, points = run.weights, run.examples if isinstance(run.examples, Points) else None

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
        input_name="x",
        target_name="y",
    )
    return report.write_findings(path, findings)
