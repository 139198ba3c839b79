"""A run: settings in, a run folder out. The one place where all parts meet.

Bad settings are found before anything is written; what was computed is kept when a run is stopped.
"""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from bnn_jax import gaussian, noise
from bnn_jax import train as training
from bnn_jax.config.schema import Config
from bnn_jax.experiment import build as assembly
from bnn_jax.experiment import scores
from bnn_jax.experiment.build import named_key
from bnn_jax.experiment.examples import Points
from bnn_jax.experiment.folder import RunError as RunError
from bnn_jax.experiment.folder import RunFolder
from bnn_jax.experiment.run import Run as Run
from bnn_jax.experiment.run import evaluated as evaluated
from bnn_jax.experiment.run import loop_of, set_up
from bnn_jax.fitting.loop import interruptible
from bnn_jax.predictive.posterior_predictive import Classification, Regression


def train(config: Config, *, resume: bool = False) -> dict[str, Any]:
    """Train, evaluate, and leave a run folder.

    Args:
        config: the settings. If output.dir holds a run already, the next free folder is taken:
            output.dir with -2, -3, ... behind it.
        resume: continue the run in output.dir from its checkpoint.

    Returns:
        The summary, as in summary.json.

    Raises:
        RunError, DataError: the settings do not fit the data or the folder; nothing was written.
        KeyboardInterrupt: interrupted; the state was saved and can be resumed.
    """
    with noise.generator(config.training.generator):
        return _train(config, resume)


def _train(config: Config, resume: bool) -> dict[str, Any]:
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
            _leave_interrupted(folder, int(state.step))
        summary = _results(dataclasses.replace(run, state=state), folder) | {
            "steps": int(state.step),
            "train_seconds": round(seconds, 2),
        }
        folder.write_summary(summary)
        if config.evaluation.deterministic_baseline:
            summary["deterministic"] = _train_baseline(run, folder, interrupted)
            folder.write_summary(summary)
    return summary


def evaluate(run: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the trained network of a run folder again, and write its summary anew.

    Args:
        run: the run folder.
        overrides: changes to the evaluation section, as evaluation.num_samples=128.

    Returns:
        The summary; the deterministic baseline's numbers are those of training.

    Raises:
        RunError, ConfigError, DataError: there is no such run, or it cannot be evaluated.
    """
    return summarise(load(run, overrides), run)


def summarise(run: Run, folder: Path) -> dict[str, Any]:
    """Evaluate a run that `load` made of this folder, and write the folder's summary anew."""
    run_folder = RunFolder(folder)
    results = _results(run, run_folder)
    summary = run_folder.read_summary() | results | {"steps": int(run.state.step)}
    run_folder.write_summary(summary)
    return summary


def load(run: Path, overrides: Sequence[str] = ()) -> Run:
    """The run of a folder, with the trained state in `.state` and the saved prior in `.model`.

    Args:
        run: the run folder.
        overrides: changes to the evaluation section.
    """
    folder = RunFolder(run)
    config = folder.load_config(overrides)
    fresh = set_up(config)
    saved = folder.restore(fresh.checkpoint(fresh.state, fresh.loop.no_totals(fresh.state)))
    model = dataclasses.replace(fresh.model, prior=saved["prior"])
    return dataclasses.replace(fresh, model=model, state=saved["state"])


def _record_epochs(
    run: Run, folder: RunFolder
) -> Callable[[int, training.State, dict[str, Any]], None]:
    """After each epoch: its line of metrics, and as often as asked a look at the held-out examples
    and a checkpoint. The last epoch's come from the caller.
    """
    settings = run.config.training

    def at_epoch_end(epoch: int, state: training.State, line: dict[str, Any]) -> None:
        if "squared_error" in line:
            line["rmse"] = math.sqrt(line.pop("squared_error"))
        if epoch % settings.evaluate_every == 0:
            found = _score(run, run.of_held_out(gaussian.mean(evaluated(state)), intervals=False))
            line[f"{run.examples.held_out_name}_at_posterior_mean"] = found
        folder.append_metrics(line)
        if epoch % settings.checkpoint_every == 0 and epoch < settings.epochs:
            totals = run.loop.no_totals(state)
            folder.save(int(state.step), run.checkpoint(state, totals))

    return at_epoch_end


def _leave_interrupted(folder: RunFolder, step: int) -> None:
    folder.write_summary({"status": "interrupted", "steps": step})
    print(
        f"stopped after step {step}; all of it is in {folder.path}: continue with --resume",
        file=sys.stderr,
    )
    raise KeyboardInterrupt


def _results(run: Run, folder: RunFolder) -> dict[str, Any]:
    """The metrics of the posterior predictive on the held-out examples, and what they belong to."""
    settings, posterior = run.config.evaluation, evaluated(run.state)
    kl_key = jax.random.fold_in(named_key(run.config, "evaluation"), settings.num_samples)
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


def _score(run: Run, predicted: Classification | Regression) -> dict[str, float]:
    """The scores of a prediction of the held-out examples."""
    _, targets = run.examples.held_out
    if isinstance(predicted, Classification):
        return scores.of_classes(predicted, targets, ece_bins=run.config.evaluation.ece_bins)
    return scores.of_numbers(predicted, targets)


def _compared_with_truth(run: Run, posterior: PyTree) -> dict[str, Any]:
    """Of points of a curve: both uncertainties inside and outside of the training range."""
    if not isinstance(run.examples, Points):
        return {}
    curve = run.examples.curve
    x = curve.grid()
    return scores.of_curve(run.predict(posterior, x[:, None]), x, curve)


def _train_baseline(run: Run, folder: RunFolder, interrupted: Callable[[], bool]) -> dict[str, Any]:
    """Train the same network from the same initial means with ordinary weights, and keep it."""
    config = run.config
    epochs = config.evaluation.baseline_epochs or config.training.epochs
    optimizer = assembly.build_optimizer(
        config, steps_per_epoch=run.loop.steps_per_epoch, epochs=epochs
    )
    step = assembly.deterministic_step(config, run.model, optimizer)
    state = training.init(
        gaussian.mean(run.model.posterior),
        optimizer,
        variables=run.model.variables,
        average=config.optimizer.average is not None,
    )
    loop = loop_of(config, run.examples, step, "baseline", epochs)
    started = time.perf_counter()
    state, _ = loop.run(
        state,
        loop.no_totals(state),
        name="deterministic baseline, epoch",
        at_epoch_end=lambda *_: None,
        interrupted=interrupted,
    )
    if interrupted():
        print("the run is complete; its deterministic baseline was stopped early", file=sys.stderr)
    folder.save_baseline(evaluated(state))
    return {
        **_score(run, run.of_held_out(evaluated(state))),
        "epochs": int(state.step) // loop.steps_per_epoch,
        "train_seconds": round(time.perf_counter() - started, 2),
    }
