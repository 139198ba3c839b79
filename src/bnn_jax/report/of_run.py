"""The report of a run, whatever its data: what can go wrong is found before any work."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import PyTree

from bnn_jax import report
from bnn_jax.config.data import CurveData
from bnn_jax.experiment.commands import Run, evaluated
from bnn_jax.experiment.examples import Images
from bnn_jax.experiment.folder import RunError, RunFolder
from bnn_jax.predictive.posterior_predictive import Regression
from bnn_jax.report import other_images


def check(run_folder: Path, *, ood: Sequence[str] = ()) -> None:
    """Refuse a report that could not be written.

    Raises:
        RunError: there is no such run, matplotlib is missing, or `ood` does not fit the run.
    """
    if find_spec("matplotlib") is None:
        raise RunError(
            "The report needs matplotlib, which is not installed: pip install 'bnn-jax[plot]', or "
            "leave the report out with --no-report."
        )
    data = RunFolder(run_folder).load_config().data
    if ood and isinstance(data, CurveData):
        raise RunError(
            f"--ood {ood[0]} names images, and the network in {run_folder} has learnt {data.name}, "
            "which has none: leave --ood out; its report shows the curve beyond the training range."
        )
    other_images.parse(ood, trained_on=data.name)
    report.require(run_folder)


def write(run_folder: Path, run: Run, *, ood: Sequence[str] = ()) -> dict[str, Any]:
    """Write the report into the run folder, in place of an earlier one, and return its numbers.

    Args:
        run_folder: the run folder.
        run: what `experiment.load` made of it.
        ood: data sets of images out of distribution, each NAME or NAME=FOLDER.
    """
    if isinstance(run.examples, Images):
        return report.write(run_folder, run, ood=ood)

    def predictor(
        posterior: PyTree,
        inputs: np.ndarray,
        targets: np.ndarray | None,
        levels: tuple[float, ...],
    ) -> Regression:
        column = None if targets is None else targets[:, None]
        return run.predict(posterior, inputs, column, levels=levels)

    train, held_out = (
        (np.asarray(x), np.asarray(y)[:, 0]) for x, y in (run.examples.train, run.examples.held_out)
    )
    findings = report.gather_regression(
        run_folder,
        predictor,
        evaluated(run.state),
        train=train,
        held_out=held_out,
        data=run.config.data.name,
        evaluated_on=run.examples.held_out_name,
        settings=run.config.model_dump(mode="json"),
        places=run.examples.curve.grid(),
        true_mean=run.examples.curve.mean,
        input_name="x",
        target_name="y",
    )
    return report.write_findings(run_folder, findings)
