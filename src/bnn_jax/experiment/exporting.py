"""Exports the network of a run as a file that runs without bnn_jax."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnn_jax import export, likelihoods, noise
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Images
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.experiment.predictions import class_names, target_names
from bnn_jax.experiment.run import Run
from bnn_jax.posteriors import MeanField

FORMATS: dict[str, Callable[..., Path]] = {
    "stablehlo": export.stablehlo,
    "onnx": export.onnx,
    "savedmodel": export.savedmodel,
}
# The settings of the evaluation section that a kind depends on.
USED = {
    "mean": ("temperature",),
    "members": ("num_samples", "antithetic", "temperature"),
    "one_pass": ("temperature",),
    "sampled": ("num_samples", "antithetic", "temperature"),
}


def check(overrides: Sequence[str], *, folder: Path, form: str, kind: str) -> None:
    """Checks the arguments of an export that need no run.

    Raises:
        RunError: the folder is not empty, the format lacks the kind, or an override has no effect.
    """
    try:
        export.checked_folder(folder)
    except FileExistsError as error:
        raise RunError(str(error)) from error
    if kind == "sampled" and form != "stablehlo":
        raise RunError(f"The format {form} has no sampled predictor: use --format stablehlo.")
    for name in (override.partition("=")[0] for override in overrides):
        if name.startswith("evaluation.") and name.partition(".")[2] not in USED[kind]:
            raise RunError(f"{name} has no effect on an export of kind {kind}: leave it out.")


def export_run(
    run: Run,
    folder: Path,
    *,
    form: str,
    kind: str,
    units: str | None = None,
    target_units: str | None = None,
) -> Path:
    """Writes the network of a trained run, which takes inputs as `Run.predict` does.

    The members, and the draws of the sampled predictor with the run's key, are those of `predict`.

    Args:
        run: the run.
        folder: a new or empty folder.
        form: one of `FORMATS`.
        kind: as in `export.prepare`.
        units, target_units: of the inputs and of the targets, for the card.

    Returns:
        The folder.

    Raises:
        RunError: the network or its posterior cannot be exported in this way.
    """
    fit, settings = run.fit, run.config.evaluation
    options: dict[str, Any] = {"kind": kind, **_described(run), **dict(fit.eval_kwargs)}
    options |= {"units": units or _units(run), "target_units": target_units}
    if kind in ("members", "sampled"):
        # As in `Run.predict`: pairs are for one mode without batch statistics of its own.
        plain = isinstance(fit.posterior, MeanField) and not jax.tree.leaves(
            fit.posterior.variables
        )
        options["num_samples"] = run.num_samples_of(fit.posterior)
        options["antithetic"] = settings.antithetic and plain
    if kind == "members":
        options["key"] = named_key(run.config.seed, "evaluation")
    likelihood = run.likelihood
    if isinstance(likelihood, likelihoods.Categorical):
        likelihood = likelihoods.Categorical(temperature=settings.temperature)
    try:
        with noise.generator(run.config.training.generator):
            return FORMATS[form](
                folder,
                fit.model,
                fit.posterior,
                likelihood,
                np.asarray(run.examples.train[0][:2]),
                scaling=fit.scaling,
                **options,
            )
    except (ValueError, TypeError, NotImplementedError, FileExistsError) as error:
        raise RunError(f"The run cannot be exported as {kind}: {error}") from error


def _described(run: Run) -> dict[str, Any]:
    """Returns the names of inputs and outputs for the card."""
    if isinstance(run.likelihood, likelihoods.Classification):
        found: dict[str, Any] = {"labels": class_names(run)}
    else:
        found = {"targets": target_names(run)}
    if isinstance(run.examples, Arrays) and run.examples.splits.train.input_names:
        found["features"] = run.examples.splits.train.input_names
    return found


def _units(run: Run) -> str | None:
    return "0 to 255" if isinstance(run.examples, Images) else None
