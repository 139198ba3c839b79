"""A run: settings in, a run folder out. The one place where all parts meet.

Bad settings are found before anything is written; what was computed is kept when a run is stopped.
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax import assembly, gaussian, predict
from bnn_jax import config as configs
from bnn_jax import train as training
from bnn_jax.assembly import Images, named_key
from bnn_jax.config import Config
from bnn_jax.loop import Loop, interruptible
from bnn_jax.noise import PRNGKey
from bnn_jax.run_folder import RunError as RunError
from bnn_jax.run_folder import RunFolder
from bnn_jax.toolbox import metrics
from bnn_jax.transforms import BayesianModel


@dataclasses.dataclass(frozen=True)
class Run:
    """The objects of a run, made from its settings."""

    config: Config
    images: Images
    model: BayesianModel
    loop: Loop
    state: training.State

    @cached_property
    def logits(self) -> Callable[[PyTree, Array], Array]:
        """(weights, images) -> logits in float32, of the plain network; compiled once."""

        def call(weights: PyTree, batch: Array) -> Array:
            inputs = self.images.as_inputs(batch)
            return self.model.network.call(weights, self.model.variables, inputs).astype(
                jnp.float32
            )

        return jax.jit(call)

    def checkpoint(self, state: training.State, totals: Any) -> dict[str, Any]:
        """What is saved: all that training goes on from, and the prior."""
        return {"state": state, "prior": self.model.prior, "totals": totals}


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
    if resume:
        folder = RunFolder(config.output.dir)
        folder.check_resumable(config)
    else:
        folder = RunFolder.new(config.output.dir)
    run = _set_up(config)
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
        summary = _results(run, folder, evaluated(state)) | {
            "steps": int(state.step),
            "train_seconds": round(seconds, 2),
        }
        folder.write_summary(summary)
        if config.evaluation.deterministic_twin:
            summary["deterministic"] = _train_twin(run, interrupted)
            folder.write_summary(summary)
    return summary


def evaluate(run: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Evaluate the trained network of a run folder again, and write its summary anew.

    Args:
        run: the run folder.
        overrides: changes to the evaluation section, as evaluation.num_samples=128.

    Returns:
        The summary; the deterministic twin's numbers are those of training.

    Raises:
        RunError, ConfigError, DataError: there is no such run, or it cannot be evaluated.
    """
    restored = load(run, overrides)
    folder = RunFolder(run)
    results = _results(restored, folder, evaluated(restored.state))
    summary = folder.read_summary() | results | {"steps": int(restored.state.step)}
    folder.write_summary(summary)
    return summary


def load(run: Path, overrides: Sequence[str] = ()) -> Run:
    """The run of a folder, with the trained state in `.state` and the saved prior in `.model`.

    Args:
        run: the run folder.
        overrides: changes to the evaluation section.
    """
    folder = RunFolder(run)
    folder.load_config()
    config = configs.load(folder.config_file, overrides, sections=("evaluation",))
    fresh = _set_up(config)
    saved = folder.restore(fresh.checkpoint(fresh.state, fresh.loop.no_totals(fresh.state)))
    model = dataclasses.replace(fresh.model, prior=saved["prior"])
    return dataclasses.replace(fresh, model=model, state=saved["state"])


def evaluated(state: training.State) -> PyTree:
    """What is evaluated: the posterior's moving average if there is one, or else the posterior."""
    return state.posterior if state.average is None else state.average


def _set_up(config: Config) -> Run:
    images = assembly.load_images(config)
    model = assembly.build_model(config, images)
    steps = images.num_train // config.training.batch_size
    epochs = config.training.epochs
    optimizer = assembly.build_optimizer(config, steps_per_epoch=steps, epochs=epochs)
    step = assembly.bayesian_step(config, model, optimizer, images.num_train, steps)
    average = config.optimizer.average is not None
    state = training.init(model.posterior, optimizer, variables=model.variables, average=average)
    return Run(config, images, model, _loop(config, images, step, "noise", epochs), state)


def _loop(config: Config, images: Images, step: Any, noise: str, epochs: int) -> Loop:
    return Loop(
        step=step,
        examples=images.train,
        prepare=images.as_inputs,
        run_key=named_key(config, noise),
        order_key=named_key(config, "batches"),
        batch_size=config.training.batch_size,
        epochs=epochs,
    )


def _record_epochs(
    run: Run, folder: RunFolder
) -> Callable[[int, training.State, dict[str, Any]], None]:
    """After each epoch: its line of metrics, and as often as asked a look at the held-out examples
    and a checkpoint. The last epoch's come from the caller.
    """
    settings = run.config.training

    def at_epoch_end(epoch: int, state: training.State, line: dict[str, Any]) -> None:
        if epoch % settings.evaluate_every == 0:
            weights = gaussian.mean(evaluated(state))
            scores = _score(run, lambda _, batch: run.logits(weights, batch), num_samples=1)
            line[f"{run.images.held_out_name}_at_posterior_mean"] = scores
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


def _results(run: Run, folder: RunFolder, posterior: PyTree) -> dict[str, Any]:
    """The metrics of the posterior predictive on the held-out examples, and what they belong to."""
    draw = jax.jit(gaussian.sample, static_argnames="antithetic")

    def logits(key: PRNGKey, batch: Array, antithetic: bool = False) -> Array:
        # One weight draw for all examples, whatever estimator the network was trained with.
        return run.logits(draw(key, posterior, antithetic=antithetic), batch)

    settings = run.config.evaluation
    kl_key = jax.random.fold_in(named_key(run.config, "evaluation"), settings.num_samples)
    random = gaussian.random_leaves(posterior)
    return {
        "status": "finished",
        "run": str(folder.path),
        **_score(run, logits, num_samples=settings.num_samples, antithetic=settings.antithetic),
        "kl": float(run.model.kl(posterior, key=kl_key)),
        "evaluated_on": run.images.held_out_name,
        "num_held_out": len(run.images.held_out[0]),
        "num_samples": settings.num_samples,
        "num_train": run.images.num_train,
        "num_weights": sum(x.size for x in jax.tree.leaves(gaussian.mean(posterior))),
        "num_random_weights": sum(q.size for q in random.values()),
        "epochs": run.config.training.epochs,
        "seed": run.config.seed,
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
    }


def _score(
    run: Run, logits: Callable[..., Array], *, num_samples: int, antithetic: bool = False
) -> dict[str, float]:
    images, labels = run.images.held_out
    settings = run.config.evaluation
    probabilities = jnp.asarray(
        predict.mean_probabilities(
            named_key(run.config, "evaluation"),
            logits,
            images,
            num_samples=num_samples,
            antithetic=antithetic,
            batch_size=min(settings.batch_size, len(images)),
        )
    )
    return {
        "accuracy": float(metrics.accuracy(probabilities, labels)),
        "nll": float(metrics.nll(probabilities, labels)),
        "ece": float(metrics.ece(probabilities, labels, bins=settings.ece_bins)),
        "brier": float(metrics.brier(probabilities, labels)),
    }


def _train_twin(run: Run, interrupted: Callable[[], bool]) -> dict[str, Any]:
    """Train the same network from the same initial means with ordinary weights."""
    config = run.config
    epochs = config.evaluation.twin_epochs or config.training.epochs
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
    loop = _loop(config, run.images, step, "twin", epochs)
    started = time.perf_counter()
    state, _ = loop.run(
        state,
        loop.no_totals(state),
        name="deterministic twin, epoch",
        at_epoch_end=lambda *_: None,
        interrupted=interrupted,
    )
    if interrupted():
        print("the run is complete; its deterministic twin was stopped early", file=sys.stderr)
    weights = evaluated(state)
    return {
        **_score(run, lambda _, batch: run.logits(weights, batch), num_samples=1),
        "epochs": int(state.step) // loop.steps_per_epoch,
        "train_seconds": round(time.perf_counter() - started, 2),
    }
