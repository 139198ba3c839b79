"""`fit`: the posterior of any network on any data, by any inference method.

    result = fit(key, model, (x, y), method=infer.swag(), likelihood=Categorical(), epochs=20)
    result.evaluate(x_test, y_test)       # {"accuracy": ..., "nll": ..., "ece": ..., ...}
    result.predict(x_new).probabilities

The noise of a step comes from the key and the step's number, the order of an epoch from the key
and the epoch's number. A fit that was interrupted and is resumed from its checkpoint ends bit for
bit where the fit that never stopped does.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from jaxtyping import PyTree

from bnn_jax.devices import MeshLike, processes
from bnn_jax.fitting.batch_metrics import MetricFn
from bnn_jax.fitting.checks import Data, TrainingData
from bnn_jax.fitting.early_stopping import EarlyStopping
from bnn_jax.fitting.interrupts import interruptible
from bnn_jax.fitting.keys import Keys
from bnn_jax.fitting.lock import locked
from bnn_jax.fitting.prepared import Prepared, prepared
from bnn_jax.fitting.result import Fit
from bnn_jax.fitting.watch import Callback, Watch
from bnn_jax.infer.method import Method, State
from bnn_jax.likelihoods import Likelihood
from bnn_jax.noise import PRNGKey
from bnn_jax.transforms import BayesianModel

Augment = Callable[[PRNGKey, PyTree], PyTree]


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
    data: TrainingData,
    *,
    method: Method,
    likelihood: Likelihood,
    epochs: int,
    batch_size: int | None = None,
    num_data: int | None = None,
    steps_per_epoch: int | None = None,
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
            arrays, whose leaves the network gets as its arguments if it is a tuple. Or a grain
            loader, MapDataset, IterDataset or DataLoader, that yields batches (inputs, targets), or
            mappings with x and y, inputs and targets, or image and label. Its batches are used in
            its order; a MapDataset is repeated, with a new order in each epoch if it shuffles, and
            others are started again when they end. The state of its iterator is part of the
            checkpoint, so the loader must be the same when a fit is resumed.
        method: an inference method with its hyper-parameters, such as `infer.swag()`.
        likelihood: the distribution of targets given the network's outputs.
        epochs: passes over the data; of a method that uses the whole data set in a step (NUTS),
            the number of steps.
        batch_size: examples a step, by default 128, or all if there are fewer. Those left over at
            the end of an epoch are not used in it. A loader has its own.
        num_data: number of training examples of a loader; by default those in the batches of a
            MapDataset. Other loaders need it, for the weight of the KL divergence or the prior.
        steps_per_epoch: steps of a loader that count as an epoch; by default those of a pass over
            `num_data` examples.
        validation: held-out (inputs, targets), scored every `validate_every` epochs.
        standardize: give inputs and targets of a regression mean 0 and standard deviation 1, by
            the training data's statistics; only the inputs if the targets are classes. For arrays.
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
    ready = prepared(locals())
    with processes.noticing_others():
        return ready.result(_trained(ready, progress))


def _trained(ready: Prepared, progress: bool) -> State:
    """Runs the epochs that are left, and saves the state if they are interrupted."""
    run, loop, watch = ready.run, ready.loop, ready.watch
    folder = watch.folder
    with ExitStack() as held, interruptible() as asked:
        if folder is not None:
            processes.on_first(lambda: held.enter_context(locked(folder.path)))
        watch.interrupts = asked
        loop, state = loop.placed(run.init(ready.key))
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
            raise interrupted(int(state.step), [watch])
    return state


def interrupted(steps: int, watches: Sequence[Watch]) -> Interrupted:
    """Returns the exception of an interrupted fit, and says where the state is."""
    folders = [str(watch.folder.path) for watch in watches if watch.folder]
    where = f"; the state is in {', '.join(folders)}" if folders else ""
    if processes.is_first():
        print(f"stopped after step {steps}{where}", file=sys.stderr)
    return Interrupted(steps)
