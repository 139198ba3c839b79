"""A fit whose arguments are checked: what is fixed before the first step, and its result."""

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import jax
from jaxtyping import PyTree

from bnn_jax.data.loader import Loader
from bnn_jax.devices import Placement, processes
from bnn_jax.fitting import checkpoint as checkpoints
from bnn_jax.fitting import checks, shapes, training_data
from bnn_jax.fitting.arguments import Arguments
from bnn_jax.fitting.batch_metrics import batch_metrics
from bnn_jax.fitting.diagnosis import diagnose
from bnn_jax.fitting.keys import Keys
from bnn_jax.fitting.loop import Loop
from bnn_jax.fitting.modes import Modes, has_batch_statistics, modes_of
from bnn_jax.fitting.result import Fit, to_json
from bnn_jax.fitting.standardize import Standardizer
from bnn_jax.fitting.watch import Watch
from bnn_jax.infer.method import Inference, Method, State
from bnn_jax.infer.problem import Problem
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import MeanField, Point, Posterior
from bnn_jax.transforms import BayesianModel


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A fit before its first step.

    Attributes:
        run: the functions of the method.
        loop: the steps and epochs.
        watch: what happens beside them, with the result so far.
        key: of the first state.
        model: the network.
        modes: the network in training and evaluation mode.
    """

    run: Inference
    loop: Loop
    watch: Watch
    key: PRNGKey
    model: BayesianModel
    modes: Modes

    def result(self, state: State) -> Fit:
        """Returns the fit at its last state, with its diagnosis."""
        run, unfitted = self.run, self.watch.fit
        if run.finish is not None:
            state = run.finish(state, partial(training_data.batches, self.loop))
        if run.diagnostics is not None and unfitted.history:
            unfitted.history[-1].update(run.diagnostics(state))
        posterior = _with_batch_statistics(run.posterior(state), self.modes, self.loop)
        found = diagnose(
            processes.whole(posterior), self.model, unfitted.history, unfitted.num_data
        )
        return dataclasses.replace(unfitted, posterior=posterior, diagnosis=found)


def prepared(arguments: Arguments) -> Prepared:
    """Returns the fit of these arguments before its first step.

    Args:
        arguments: all arguments of `fit` by name.

    Raises:
        TypeError, ValueError: as `fit` does.
    """
    given = SimpleNamespace(**arguments)
    method, likelihood = given.method, given.likelihood
    inputs, targets, loader = checks.checked_arguments(arguments)
    if loader is not None and processes.several():
        raise ValueError(
            "A loader is read by one process, and there are several: pass arrays, so that each "
            "process loads its part."
        )
    checks.check_schedule(
        given.epochs, given.validate_every, given.checkpoint_every, given.checkpoint_minutes
    )
    num_data, batch_size, steps = checks.sizes(
        len(targets), given.batch_size, method, loader, given.accumulate_steps
    )
    keys, placement = Keys.of(given.key), Placement.of(given.mesh, given.shard_parameters)
    scaling = training_data.standardizer(inputs, targets, likelihood, given.standardize)
    examples = training_data.on_device(inputs, targets, scaling, placement)
    modes = modes_of(given.model, given.train_kwargs, given.eval_kwargs)
    problem = Problem(
        given.model,
        modes.forward_on(placement),
        likelihood,
        num_data,
        given.epochs * steps,
        train_rest=given.train_rest,
        metric_fn=given.metric_fn or batch_metrics(likelihood, scaling),
        evaluation=modes.noiseless_forward,
        inputs=shapes.of(examples[0], batch_size),
        placement=placement,
        accumulate_steps=given.accumulate_steps,
    )
    checks.check_outputs(problem, examples, targets, loader)
    run = method.build(problem)
    order = (keys.order, batch_size, given.epochs)
    loop = Loop(run.step, examples, given.augment, keys.noise, *order)
    loop = loop.with_options(given.steps_per_call, num_data, placement, loader)
    settings = {"epochs": given.epochs, "batch_size": batch_size}
    settings |= {"standardize": given.standardize, "train_rest": given.train_rest}
    if given.accumulate_steps > 1:
        settings["accumulate_steps"] = given.accumulate_steps
    options = " ".join(f"{name}={value!r}" for name, value in settings.items())
    described = f"{to_json(method)} {options}"
    watch = Watch(
        fit=_unfitted(problem, modes, method, scaling, keys.predict),
        run=run,
        folder=_folder(given.checkpoint, keys, problem, loader or given.data, described),
        checkpoint_every=given.checkpoint_every,
        checkpoint_minutes=given.checkpoint_minutes,
        epochs=given.epochs,
        validation=given.validation,
        validate_every=given.validate_every,
        callbacks=given.callbacks,
        early_stopping=given.early_stopping,
        loader=loader,
    )
    return Prepared(run, loop, watch, keys.init, given.model, modes)


def _unfitted(
    problem: Problem, modes: Modes, method: Method, scaling: Standardizer, key: PRNGKey
) -> Fit:
    """Returns the result before the first step."""
    return Fit(
        posterior=Point(problem.params, problem.model.variables),
        history=[],
        diagnosis=(),
        model=modes.evaluation,
        method=method,
        likelihood=problem.likelihood,
        scaling=scaling,
        num_data=problem.num_data,
        num_steps=problem.num_steps,
        eval_kwargs=modes.eval_kwargs,
        key=key,
        inputs=problem.inputs,
        mesh=None if problem.placement is None else problem.placement.mesh,
    )


def _folder(
    path: str | Path | None, keys: Keys, problem: Problem, data: PyTree, settings: str
) -> checkpoints.Folder | None:
    """Returns the checkpoint folder, with what must be the same for a state to be of this fit."""
    if path is None and not processes.several():
        return None
    model = problem.model
    fingerprint = {
        "data": checkpoints.hash_of(data.identity if isinstance(data, Loader) else data),
        "key": checkpoints.hash_of(keys),
        "model": checkpoints.hash_of((model.posterior, model.variables, model.prior)),
        "settings": f"{settings} {to_json(problem.likelihood)} {dict(model.estimators)}",
    }
    processes.check_same(**fingerprint)
    return None if path is None else checkpoints.Folder(path, fingerprint)


def _with_batch_statistics(posterior: Posterior, modes: Modes, loop: Loop) -> Posterior:
    """Returns the posterior with the batch statistics of its mean over the training data.

    The running averages of training follow weights that were still moving. Posteriors of several
    networks keep the statistics of each.
    """
    model, variables = modes.training, getattr(posterior, "variables", None)
    if not isinstance(posterior, MeanField | Point) or not has_batch_statistics(model, variables):
        return posterior
    batches = [inputs for inputs, _ in training_data.batches(loop)]
    tree = posterior.tree if isinstance(posterior, MeanField) else posterior.params
    streams = {
        name: jax.random.fold_in(loop.order_key, loop.epochs) for name in model.network.streams()
    }
    options = {**modes.train_kwargs, **({"rngs": streams} if streams else {})}
    variables = model.batch_statistics(tree, batches, variables=variables, **options)
    return dataclasses.replace(posterior, variables=variables)
