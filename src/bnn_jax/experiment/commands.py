"""Trains and evaluates a run: settings in, a run folder out.

Invalid settings are rejected before anything is written. When a run is stopped, everything that it
has computed is kept.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from jaxtyping import PyTree

from bnn_jax import gaussian, noise
from bnn_jax import train as training
from bnn_jax.config.schema import Config
from bnn_jax.experiment import build as assembly
from bnn_jax.experiment import scores
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Points
from bnn_jax.experiment.folder import Record, RunFolder
from bnn_jax.experiment.folder import RunError as RunError
from bnn_jax.experiment.run import Prediction, build_loop, set_up
from bnn_jax.experiment.run import Run as Run
from bnn_jax.experiment.run import evaluated as evaluated
from bnn_jax.fitting.loop import interruptible
from bnn_jax.predictive.posterior_predictive import Classification, Regression


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
        KeyboardInterrupt: the run was interrupted. Its state was saved and can be resumed.
    """
    with noise.generator(config.training.generator):
        return _train(config, resume)


def _train(config: Config, resume: bool) -> Record:
    if resume:
        folder = RunFolder(config.output.dir)
        folder.check_resumable(config)
    else:
        folder = RunFolder.new(config.output.dir)
    run = set_up(config)
    saved = run.checkpoint(run.state, run.loop.no_totals(run.state))
    if resume:
        saved = folder.restore(saved)
        folder.keep_metrics_until(int(saved["state"].step) // run.loop.steps_per_epoch)
    else:
        folder.create(config)
    started = time.perf_counter()
    with interruptible() as interrupted:
        state, totals = run.loop.run(
            saved["state"],
            saved["totals"],
            name="epoch",
            at_epoch_end=_record_epochs(run, folder),
            interrupted=interrupted,
        )
        seconds = time.perf_counter() - started
        folder.save(int(state.step), run.checkpoint(state, totals))
        if interrupted():
            _report_interruption(folder, int(state.step))
            raise KeyboardInterrupt
        summary = _results(dataclasses.replace(run, state=state), folder) | {
            "steps": int(state.step),
            "train_seconds": round(seconds, 2),
        }
        folder.write_summary(summary)
        if config.evaluation.deterministic_baseline:
            summary["deterministic"] = _train_baseline(run, folder, interrupted)
            folder.write_summary(summary)
    return summary


def evaluate(path: Path, overrides: Sequence[str] = ()) -> Record:
    """Evaluates the trained network of a run folder again, and rewrites its summary.

    Args:
        path: the run folder.
        overrides: changes to the evaluation section, such as evaluation.num_samples=128.

    Returns:
        The summary. The scores of the deterministic baseline are those from training.

    Raises:
        RunError, ConfigError, DataError: there is no such run, or it cannot be evaluated.
    """
    return summarise(load(path, overrides), path)


def summarise(run: Run, path: Path) -> Record:
    """Evaluates a run that `load` read from this folder, and rewrites the folder's summary."""
    folder = RunFolder(path)
    results = _results(run, folder)
    summary = folder.read_summary() | results | {"steps": int(run.state.step)}
    folder.write_summary(summary)
    return summary


def load(path: Path, overrides: Sequence[str] = ()) -> Run:
    """Returns the run of a folder, with the trained `state` and, in `model`, the saved prior.

    Args:
        path: the run folder.
        overrides: changes to the evaluation section.
    """
    folder = RunFolder(path)
    config = folder.load_config(overrides)
    fresh = set_up(config)
    saved = folder.restore(fresh.checkpoint(fresh.state, fresh.loop.no_totals(fresh.state)))
    model = dataclasses.replace(fresh.model, prior=saved["prior"])
    return dataclasses.replace(fresh, model=model, state=saved["state"])


def _record_epochs(run: Run, folder: RunFolder) -> Callable[[int, training.State, Record], None]:
    """Returns a function to call after each epoch, which writes the epoch's line of metrics.

    As often as the settings ask, it also scores the held-out examples and saves a checkpoint. The
    caller does both after the last epoch.
    """
    settings = run.config.training

    def at_epoch_end(epoch: int, state: training.State, line: Record) -> None:
        if "squared_error" in line:
            line["rmse"] = math.sqrt(line.pop("squared_error"))
        if epoch % settings.evaluate_every == 0:
            predicted = run.predict_held_out(gaussian.mean(evaluated(state)), intervals=False)
            line[f"{run.examples.held_out_name}_at_posterior_mean"] = _score(run, predicted)
        folder.append_metrics(line)
        if epoch % settings.checkpoint_every == 0 and epoch < settings.epochs:
            totals = run.loop.no_totals(state)
            folder.save(int(state.step), run.checkpoint(state, totals))

    return at_epoch_end


def _report_interruption(folder: RunFolder, step: int) -> None:
    folder.write_summary({"status": "interrupted", "steps": step})
    print(
        f"stopped after step {step}; the state is saved in {folder.path}: continue with --resume",
        file=sys.stderr,
    )


def _results(run: Run, folder: RunFolder) -> Record:
    """Returns the scores of the posterior predictive on the held-out examples, and the setting."""
    settings, posterior = run.config.evaluation, evaluated(run.state)
    kl_key = jax.random.fold_in(named_key(run.config.seed, "evaluation"), settings.num_samples)
    random = gaussian.random_leaves(posterior)
    with noise.generator(run.config.training.generator):
        kl = float(run.model.kl(posterior, key=kl_key))
    return {
        "status": "finished",
        "run": str(folder.path),
        **_score(run, run.held_out_predictive),
        **_compared_with_truth(run, posterior),
        "kl": kl,
        "evaluated_on": run.examples.held_out_name,
        "num_held_out": len(run.examples.held_out[0]),
        "num_samples": settings.num_samples,
        "num_train": run.examples.num_train,
        "num_weights": sum(x.size for x in jax.tree.leaves(gaussian.mean(posterior))),
        "num_random_weights": sum(q.size for q in random.values()),
        "epochs": run.config.training.epochs,
        "seed": run.config.seed,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _score(run: Run, predicted: Prediction) -> dict[str, float]:
    """Returns the scores of a prediction of the held-out examples."""
    _, targets = run.examples.held_out
    if isinstance(predicted, Classification):
        return scores.of_classes(predicted, targets, ece_bins=run.config.evaluation.ece_bins)
    return scores.of_numbers(predicted, targets)


def _compared_with_truth(run: Run, posterior: PyTree) -> Record:
    """Returns both uncertainties inside and outside of the training range of a curve."""
    if not isinstance(run.examples, Points):
        return {}
    curve = run.examples.curve
    x = curve.grid()
    predicted = run.predict(posterior, x[:, None])
    assert isinstance(predicted, Regression)
    return scores.of_curve(predicted, x, curve)


def _train_baseline(run: Run, folder: RunFolder, interrupted: Callable[[], bool]) -> Record:
    """Trains the same network from the same initial means with ordinary weights, and saves it."""
    settings = run.config.optimizer
    epochs = run.config.evaluation.baseline_epochs or run.config.training.epochs
    optimizer = assembly.build_optimizer(
        settings, steps_per_epoch=run.loop.steps_per_epoch, epochs=epochs
    )
    step = assembly.deterministic_step(
        run.model, run.likelihood, optimizer, average=settings.average
    )
    state = training.init(
        gaussian.mean(run.model.posterior),
        optimizer,
        variables=run.model.variables,
        average=settings.average is not None,
    )
    loop = build_loop(
        step,
        run.examples,
        noise="baseline",
        seed=run.config.seed,
        batch_size=run.config.training.batch_size,
        epochs=epochs,
    )
    started = time.perf_counter()
    state, _ = loop.run(
        state,
        loop.no_totals(state),
        name="deterministic baseline, epoch",
        at_epoch_end=lambda *_: None,
        interrupted=interrupted,
    )
    if interrupted():
        print("the run is complete; the deterministic baseline was stopped early", file=sys.stderr)
    folder.save_baseline(evaluated(state))
    return {
        **_score(run, run.predict_held_out(evaluated(state))),
        "epochs": int(state.step) // loop.steps_per_epoch,
        "train_seconds": round(time.perf_counter() - started, 2),
    }
