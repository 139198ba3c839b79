"""Trains and evaluates a run: settings in, a run folder out.

Invalid settings are rejected before anything is written. When a run is stopped, everything that it
has computed is kept.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnn_jax import gaussian, noise
from bnn_jax.config.schema import Config
from bnn_jax.devices import processes
from bnn_jax.devices.meshes import described
from bnn_jax.experiment import build, hosts, initial_weights, metric_files, origin, scores
from bnn_jax.experiment import method as methods
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Points
from bnn_jax.experiment.folder import POSTERIOR, BaselineIncomplete, Record, RunFolder
from bnn_jax.experiment.folder import RunError as RunError
from bnn_jax.experiment.loading import load as load
from bnn_jax.experiment.metric_files import Writer
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.experiment.run import Prediction, set_up, weights_of
from bnn_jax.experiment.run import Run as Run
from bnn_jax.fitting import Fit, Interrupted, evaluation, fit
from bnn_jax.fitting.checkpoint import CheckpointError
from bnn_jax.fitting.divergence import Diverged
from bnn_jax.fitting.lock import LockedError
from bnn_jax.posteriors import MeanField
from bnn_jax.predictive.posterior_predictive import Regression

Options = dict[str, Any]  # arguments of `fit`, by name


def train(config: Config, *, resume: bool = False) -> Record:
    """Trains and evaluates a network, and writes the run folder.

    Args:
        config: the settings. If output.dir already holds a run, the next free folder is used:
            output.dir with -2, -3, ... appended.
        resume: continue the run in output.dir from its checkpoint.

    Returns:
        The summary, as in summary.json.

    Raises:
        RunError, DataError: the settings do not fit the data or the folder. Nothing was written.
        Diverged: the loss or the weights became infinite or NaN.
        BaselineIncomplete: the run is finished, and its deterministic baseline failed.
        KeyboardInterrupt: the run was interrupted. Its state was saved and can be resumed.
        ProcessError: another process of the run has ended.
    """
    if config.distributed is not None:
        hosts.connect(config.distributed)
    with noise.generator(config.training.generator), processes.noticing_others():
        return _train(config, resume)


def _train(config: Config, resume: bool) -> Record:
    run, folder = begin(config, resume)
    if run.mesh is not None:
        hosts.say(f"Training on {described(run.mesh)}.")
    try:
        with run_options(run, folder) as options:
            result = fit(**options)
    except Interrupted as interrupted:
        folder.write_interrupted(interrupted.steps)
        raise
    return finish(dataclasses.replace(run, result=result), folder)


def begin(config: Config, resume: bool) -> tuple[Run, RunFolder]:
    """Returns the run of these settings before its first step, and its folder, which is created.

    Raises:
        RunError, DataError: the settings do not fit the data or the folder. Nothing was written.
    """
    folder = hosts.run_folder(config, resume)
    metric_files.check(config.output.metrics)
    run = initial_weights.started(set_up(config))
    folder.create(config)
    processes.on_first(lambda: origin.record(folder.path, config, run.examples))
    return run, folder


def finish(run: Run, folder: RunFolder) -> Record:
    """Saves and evaluates a trained run, trains its baseline, and returns the summary.

    Raises:
        BaselineIncomplete: the deterministic baseline failed.
    """
    run.fit.save(folder.path / POSTERIOR)
    summary = _results(run, folder) | {
        "steps": run.fit.num_steps,
        "train_seconds": round(sum(line["seconds"] for line in run.fit.history), 2),
    }
    if run.config.has_baseline:
        folder.write_summary(summary | {"status": "baseline incomplete"})
        try:
            summary["deterministic"] = _train_baseline(run, folder)
        except (Diverged, CheckpointError, LockedError, OSError) as error:
            raise BaselineIncomplete(
                f"The run in {folder.path} is finished, but its deterministic baseline is not: "
                f"{error} Use --resume, or set evaluation.deterministic_baseline=false."
            ) from error
    folder.write_summary(summary)
    return summary


@contextmanager
def run_options(run: Run, folder: RunFolder) -> Iterator[Options]:
    """Gives the arguments of `fit` for a run, which continues from the checkpoint in its folder.

    Raises:
        RunError: the checkpoint cannot be used, or another process uses the folder.
    """
    try:
        own = run.config.output.metrics if processes.is_first() else ()
        with metric_files.writer(folder.path, own) as write_more:
            yield _options(run) | {
                "key": build.keys_of(run.config.seed),
                "model": run.model,
                "method": run.method,
                "epochs": run.config.training.epochs,
                "augment": build.augmentation(run.config.data),
                "checkpoint": folder.path / "checkpoint",
                "callbacks": [_record_epochs(run, folder, write_more)],
            }
    except (CheckpointError, LockedError) as error:
        raise RunError(str(error)) from error


def _options(run: Run) -> Options:
    """Returns the arguments of `fit` that a run and its deterministic baseline share."""
    settings = run.config.training
    return {
        **run.training_data,
        "likelihood": run.likelihood,
        "standardize": isinstance(run.examples, Arrays) and run.examples.standardize,
        "checkpoint_every": settings.checkpoint_every,
        "steps_per_call": run.steps_per_call,
        "mesh": run.mesh,
        "shard_parameters": settings.shard_parameters,
        "accumulate_steps": settings.accumulate_steps,
    }


def evaluate(
    path: Path, overrides: Sequence[str] = (), *, trust: bool = False, test: bool = False
) -> Record:
    """Evaluates the trained network of a run folder again, and rewrites its summary.

    Args:
        path: the run folder.
        overrides, trust, test: as for `load`, such as evaluation.num_samples=128.

    Returns:
        The summary. The scores of the deterministic baseline are those from training.

    Raises:
        RunError, ConfigError, DataError: there is no such run, or it cannot be evaluated.
    """
    return summarise(load(path, overrides, trust=trust, test=test), path)


def summarise(run: Run, path: Path) -> Record:
    """Evaluates a run that `load` read from this folder, and rewrites the folder's summary."""
    folder = RunFolder(path)
    before, results = folder.read_summary(), _results(run, folder)
    kept = {"status": before["status"]} if before.get("status") == "baseline incomplete" else {}
    summary = before | results | {"steps": run.fit.num_steps} | kept
    folder.write_summary(summary)
    return summary


def _record_epochs(
    run: Run, folder: RunFolder, write_more: Writer
) -> Callable[[Record, Fit], None]:
    """Returns a function to call after each epoch, which writes the epoch's line of metrics.

    As often as the settings ask, it also scores the held-out examples.
    """
    every = run.config.training.evaluate_every

    def at_epoch_end(line: Record, now: Fit) -> None:
        if "squared_error" in line:
            line["rmse"] = math.sqrt(line.pop("squared_error"))
        if line["epoch"] % every == 0:
            line |= _held_out_scores(dataclasses.replace(run, result=now))
        folder.write_metrics(now.history)
        write_more(now.history)

    return at_epoch_end


def _held_out_scores(run: Run) -> Record:
    """Returns the scores during training: at the mean of a posterior around one mode."""
    posterior, name = run.fit.posterior, run.examples.held_out_name
    if isinstance(posterior, MeanField) and not jax.tree.leaves(posterior.variables):
        predicted = run.predict_held_out(gaussian.mean(posterior.tree), intervals=False)
        return {f"{name}_at_posterior_mean": _score(run, predicted)}
    return {name: _score(run, run.predict_held_out(posterior, intervals=False))}


def _results(run: Run, folder: RunFolder) -> Record:
    """Returns the scores of the posterior predictive on the held-out examples, and the setting."""
    random = gaussian.random_leaves(run.model.posterior)
    return {
        "status": "finished",
        "run": str(folder.path),
        "method": _named(run),
        **_score(run, run.held_out_predictive),
        **_compared_with_truth(run),
        **_divergence(run),
        "evaluated_on": run.examples.held_out_name,
        "num_held_out": len(run.examples.held_out[0]),
        "num_samples": run.held_out_predictive.num_samples,
        "num_train": run.examples.num_train,
        "num_weights": sum(x.size for x in jax.tree.leaves(gaussian.mean(run.model.posterior))),
        "num_random_weights": sum(q.size for q in random.values()),
        "epochs": run.config.training.epochs,
        "seed": run.config.seed,
        "diagnosis": [str(finding) for finding in run.fit.diagnosis],
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "devices": described(run.mesh),
    }


def _named(run: Run) -> str:
    """Returns the name of the method, which says whether the posterior is a cold one."""
    temperature = getattr(run.method, "temperature", 1.0)
    cold = f", cold posterior at temperature {temperature:g}" if temperature != 1.0 else ""
    return run.method.name + cold


def _divergence(run: Run) -> Record:
    """Returns the KL divergence of a mean-field posterior."""
    if not isinstance(run.fit.posterior, MeanField):
        return {}
    kl_key = jax.random.fold_in(
        named_key(run.config.seed, "evaluation"), run.config.evaluation.num_samples
    )
    with noise.generator(run.config.training.generator):
        return {"kl": float(run.model.kl(processes.whole(run.weights), key=kl_key))}


def _score(run: Run, predicted: Prediction) -> dict[str, float]:
    """Returns the scores of a prediction of the held-out examples."""
    _, targets = run.examples.held_out
    ece_bins = run.config.evaluation.ece_bins
    found = evaluation.scores(predicted, np.asarray(targets), ece_bins=ece_bins)
    return {name: value for name, value in found.items() if name != "log_likelihood"}


def _compared_with_truth(run: Run) -> Record:
    """Returns both uncertainties inside and outside of the training range of a curve."""
    if not isinstance(run.examples, Points):
        return {}
    curve = run.examples.curve
    x = curve.grid()
    predicted = run.predict(run.fit.posterior, x[:, None])
    assert isinstance(predicted, Regression)
    return scores.of_curve(predicted, x, curve)


def _train_baseline(run: Run, folder: RunFolder) -> Record:
    """Trains the same network from the same initial means with ordinary weights, and saves it.

    Raises:
        Interrupted: with the state saved in the folder; the run can be resumed.
    """
    settings, optimizer = run.config.training, run.config.optimizer
    assert optimizer is not None
    epochs = run.config.evaluation.baseline_epochs or settings.epochs
    steps = run.examples.num_train // settings.batch_size
    hosts.say("Training the deterministic baseline.")
    result = fit(
        key=build.keys_of(run.config.seed, baseline=True),
        model=dataclasses.replace(run.model, posterior=gaussian.mean(run.model.posterior)),
        method=methods.maximum_likelihood(optimizer, steps_per_epoch=steps, epochs=epochs),
        epochs=epochs,
        checkpoint=folder.path / "baseline_checkpoint",
        **_options(run),
    )
    weights = weights_of(result.posterior)
    folder.save_baseline(weights)
    folder.remove("baseline_checkpoint")
    return {
        **_score(run, run.predict_held_out(weights)),
        "epochs": epochs,
        "train_seconds": round(sum(line["seconds"] for line in result.history), 2),
    }
