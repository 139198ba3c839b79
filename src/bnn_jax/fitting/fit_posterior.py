"""`fit`: the posterior of any network on any data, by any inference method.

    result = fit(key, model, (x, y), method=infer.swag(), likelihood=Categorical(), epochs=20)
    result.evaluate(x_test, y_test)       # {"accuracy": ..., "nll": ..., "ece": ..., ...}
    result.predict(x_new).probabilities

The noise of a step comes from the key and the step's number, the order of an epoch from the key
and the epoch's number. A fit that was interrupted and is resumed from its checkpoint ends bit for
bit where the fit that never stopped does.
"""

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import jax

from bnn_jax.devices import MeshLike, Placement, processes
from bnn_jax.fitting import checkpoint as checkpoints
from bnn_jax.fitting import checks, shapes, training_data
from bnn_jax.fitting.batch_metrics import MetricFn, batch_metrics
from bnn_jax.fitting.checks import Data
from bnn_jax.fitting.diagnosis import diagnose
from bnn_jax.fitting.early_stopping import EarlyStopping
from bnn_jax.fitting.interrupts import interruptible
from bnn_jax.fitting.keys import Keys
from bnn_jax.fitting.lock import locked
from bnn_jax.fitting.loop import Loop
from bnn_jax.fitting.modes import Modes, has_batch_statistics, modes_of
from bnn_jax.fitting.result import Fit, to_json
from bnn_jax.fitting.standardize import Standardizer
from bnn_jax.fitting.watch import Callback, Watch
from bnn_jax.infer.method import Inference, Method, State
from bnn_jax.infer.problem import Problem
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import PRNGKey
from bnn_jax.posteriors import MeanField, Point, Posterior
from bnn_jax.transforms import BayesianModel

Augment = Callable[[PRNGKey, Any], Any]


class Interrupted(KeyboardInterrupt):
    """A fit that was interrupted.

    Attributes:
        steps: the number of steps taken.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(f"stopped after step {steps}")
        self.steps = steps


def fit(
    key: PRNGKey | Keys,
    model: BayesianModel,
    data: Data,
    *,
    method: Method,
    likelihood: Likelihood,
    epochs: int,
    batch_size: int = 128,
    validation: Data | None = None,
    validate_every: int = 1,
    standardize: bool = False,
    augment: Augment | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 1,
    checkpoint_minutes: float = 10.0,
    callbacks: Sequence[Callback] = (),
    early_stopping: EarlyStopping | None = None,
    metric_fn: MetricFn | None = None,
    train_rest: bool = True,
    train_kwargs: Mapping[str, Any] | None = None,
    eval_kwargs: Mapping[str, Any] | None = None,
    steps_per_call: int | None = None,
    mesh: MeshLike = None,
    shard_parameters: bool = False,
    accumulate_steps: int = 1,
    progress: bool = True,
) -> Fit:
    """Infers the posterior of a network's weights from data.

    Args:
        key: determines every random number; `Keys` gives each purpose its own.
        model: what `to_bnn` returned: the network, the prior, and which weights are random. The
            posterior starts at its params.
        data: (inputs, targets): arrays with the examples on axis 0; inputs may be a pytree of
            arrays, whose leaves the network gets as its arguments if it is a tuple.
        method: an inference method with its hyper-parameters, such as `infer.swag()`.
        likelihood: the distribution of targets given the network's outputs.
        epochs: passes over the data; of a method that uses the whole data set in a step (NUTS),
            the number of steps.
        batch_size: examples a step. Those left over at the end of an epoch are not used in it.
        validation: held-out (inputs, targets), scored every `validate_every` epochs.
        standardize: give inputs and targets of a regression mean 0 and standard deviation 1, by
            the training data's statistics; only the inputs if the targets are classes.
            Predictions, and the losses of the history, are in the targets' units.
        augment: (key, inputs) -> inputs, a random change of each batch in training, such as
            `data.pad_crop_flip`.
        checkpoint: a folder. The state is saved there at the start, every `checkpoint_every`
            epochs and `checkpoint_minutes` minutes, and when the fit is interrupted by Ctrl-C or
            a request to terminate; the last three states are kept. If the folder holds a state of
            this fit, the fit continues from it.
        callbacks: called after each epoch with its numbers and the fit so far; a callback that
            returns True stops the fit.
        early_stopping: decides after each epoch whether to stop; see `patience`.
        metric_fn: (outputs, targets) -> {name: scalar} of each batch, for the history; by default
            the accuracy of classes and the squared error of numbers.
        train_rest: whether weights that are not random are trained too.
        train_kwargs, eval_kwargs: keyword arguments that put the network into training and into
            evaluation mode. Arguments called train, training, is_training, deterministic and
            use_running_average are found, and so are the modes of NNX layers.
        steps_per_call: steps run by one compiled call; by default 1 on CPU, where convolutions in
            a compiled loop are slow, and 50 on accelerators. Small networks without convolutions
            are faster with 50 on CPU too.
        mesh: several devices: a `jax.sharding.Mesh` with the axes "data" or "samples" or both;
            their sizes, such as {"data": 4, "samples": 2}; or a number of devices or "all", which
            divide the examples. `data` divides batches, `samples` the members of an ensemble and
            the weight samples of predictions. The result is that of one device, up to rounding.
            With several processes (`jax.distributed.initialize`) it must have devices of all, each
            process calls fit with the same arguments, and the first one writes the checkpoints.
        shard_parameters: on a mesh, also divide the weights and the optimizer's state over `data`
            (FSDP): every array along its longest axis that the devices divide. A step gathers
            the weights that it needs.
        accumulate_steps: parts of a batch whose gradients are computed one at a time and added up,
            so that the activations of one part are in memory. It must divide the batch size; the
            optimizer takes one step for the whole batch. Each part has its own noise and batch
            statistics.
        progress: show a progress bar, or a line for each epoch.

    Returns:
        The posterior, its history, and methods that predict and evaluate.

    Raises:
        TypeError, ValueError: a wrong call or unsuitable data, before any work.
        Diverged: the loss or the weights are not finite; the checkpoints are of earlier steps.
        LockedError: another process uses the checkpoint folder.
        Interrupted: a KeyboardInterrupt; with `checkpoint`, the state was saved.
        ProcessError: another process of the program has ended.
    """
    inputs, targets, batch_size = checks.checked_arguments(locals())
    num_data, keys = len(targets), Keys.of(key)
    placement = Placement.of(mesh, shard_parameters)
    scaling = training_data.standardizer(inputs, targets, likelihood, standardize)
    examples = training_data.on_device(inputs, targets, scaling, placement)
    modes = modes_of(model, train_kwargs, eval_kwargs)
    common = (likelihood, num_data, epochs * (num_data // batch_size))
    rest = (train_rest, metric_fn or batch_metrics(likelihood, scaling), modes.noiseless_forward)
    more = (shapes.of(examples[0], batch_size), placement, accumulate_steps)
    problem = Problem(model, modes.forward_on(placement), *common, *rest, *more)
    checks.check_outputs(problem, jax.tree.map(lambda a: a[:batch_size], examples), targets)
    run = method.build(problem)
    loop = Loop(run.step, examples, augment, keys.noise, keys.order, batch_size, epochs)
    loop = loop.with_options(steps_per_call, num_data, placement)
    parts = f" {accumulate_steps=}" * (accumulate_steps > 1)
    options = f"{epochs=} {batch_size=} {standardize=} {train_rest=}{parts}"
    watch = Watch(
        fit=_unfitted(problem, modes, method, scaling, keys.predict),
        run=run,
        folder=_folder(checkpoint, keys, problem, data, f"{to_json(method)} {options}"),
        checkpoint_every=checkpoint_every,
        checkpoint_minutes=checkpoint_minutes,
        epochs=epochs,
        validation=validation,
        validate_every=validate_every,
        callbacks=callbacks,
        early_stopping=early_stopping,
    )
    with processes.noticing_others():
        state = _trained(run, loop, keys.init, watch, progress)
        return _result(run, state, watch.fit, model, modes, loop)


def _result(
    run: Inference, state: State, unfitted: Fit, model: BayesianModel, modes: Modes, loop: Loop
) -> Fit:
    """Returns the fit at its last state, with its diagnosis."""
    posterior = _with_batch_statistics(run.posterior(state), modes, loop)
    found = diagnose(processes.whole(posterior), model, unfitted.history, unfitted.num_data)
    return dataclasses.replace(unfitted, posterior=posterior, diagnosis=found)


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
    path: str | Path | None, keys: Keys, problem: Problem, data: Data, settings: str
) -> checkpoints.Folder | None:
    """Returns the checkpoint folder, with what must be the same for a state to be of this fit."""
    if path is None and not processes.several():
        return None
    model = problem.model
    fingerprint = {
        "data": checkpoints.hash_of(data),
        "key": checkpoints.hash_of(keys),
        "model": checkpoints.hash_of((model.posterior, model.variables, model.prior)),
        "settings": f"{settings} {to_json(problem.likelihood)} {dict(model.estimators)}",
    }
    processes.check_same(**fingerprint)
    return None if path is None else checkpoints.Folder(path, fingerprint)


def _trained(run: Inference, loop: Loop, key: PRNGKey, watch: Watch, progress: bool) -> State:
    """Runs the epochs that are left, saves the state if they are interrupted, and finishes it."""
    folder = watch.folder
    with ExitStack() as held, interruptible() as asked:
        if folder is not None:
            processes.on_first(lambda: held.enter_context(locked(folder.path)))
        watch.interrupts = asked
        loop, state = loop.placed(run.init(key))
        totals = loop.no_totals(state)
        state, totals = watch.started(state, totals)
        if not watch.stop:
            state, totals = loop.run(
                state,
                totals,
                name="epoch",
                at_epoch_end=watch.at_epoch_end,
                interrupted=lambda: asked() or watch.stop,
                is_due=watch.is_due,
                save=watch.save,
                quiet=not (progress and processes.is_first()),
            )
            watch.save(state, totals)
        if processes.any_process(asked())[0]:
            where = f"; the state is in {folder.path}" if folder else ""
            if processes.is_first():
                print(f"stopped after step {int(state.step)}{where}", file=sys.stderr)
            raise Interrupted(int(state.step))
    if run.finish is not None:
        state = run.finish(state, partial(training_data.batches, loop))
    if run.diagnostics is not None and watch.fit.history:
        watch.fit.history[-1].update(run.diagnostics(state))
    return state


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
