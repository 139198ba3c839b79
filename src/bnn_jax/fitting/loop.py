"""Epochs over examples that lie on the device, or over the batches of a loader.

Batches are gathered inside the step. The order of an epoch comes from a key and the epoch's number
alone, and the noise of a step from a key and the step's number: so a run that was stopped, at any
step, and resumed ends bit for bit where the run that never stopped does.

On CPU every step is a call from Python: inside a compiled loop convolutions have no multi-threaded
kernels, and LeNet-5 is four times slower. On accelerators a call runs many. On several devices the
compiler divides each batch over `data`, and the members of ensembles over `samples`. If they belong
to several processes, the examples are on the hosts, and each process loads its part of a batch.
"""

import dataclasses
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, PyTree

from bnn_jax._compiler import compiler_options
from bnn_jax.data.loader import Loader
from bnn_jax.devices import Placement
from bnn_jax.devices.placement import constrain, put
from bnn_jax.devices.processes import any_process
from bnn_jax.fitting import epoch_numbers
from bnn_jax.fitting.divergence import Totals, check, zero_flag
from bnn_jax.fitting.interrupts import interruptible as interruptible
from bnn_jax.fitting.progress import Progress
from bnn_jax.noise import PRNGKey

# A state has the field `step`, the number of steps taken. What a step reports can be added up, and
# has the method `means`: see `train.StepInfo` and `infer.Info`.
State = Any
StepInfo = Any
Step = Callable[[State, PRNGKey, tuple[PyTree, PyTree]], tuple[State, StepInfo]]

STEPS_PER_CALL_ON_ACCELERATORS = 50
STEPS_BETWEEN_DISPLAYS = 50
CALLS_BETWEEN_CHECKS = 10  # each waits for the device
AUGMENT = 2**30  # fold_in(order key, AUGMENT + step) is the key of a step's augmentation


@dataclasses.dataclass(frozen=True)
class Loop:
    """What does not change during training.

    Attributes:
        step: a step as `train.build_step` makes it.
        examples: (inputs, labels) on the device, or of a loader the first batch; for several
            processes NumPy arrays.
        augment: (key, inputs) -> inputs, a random change of a batch, inside the step; or None.
        run_key, order_key: give the steps' noise and the epochs' orders.
        batch_size: examples a step; those left over at the end of an epoch wait for the next.
        epochs, steps_per_call: how many in all, and the steps run by one compiled call.
        num_rows: of examples, without those that pad them on a mesh; None for all.
        placement: the mesh on which the examples and the state are; None for one device.
        loader: gives the batches in place of `examples`, in its own order; None for arrays.
        shardings: where the arrays of the state are on the mesh.
    """

    step: Step
    examples: tuple[PyTree, Array]
    augment: Callable[[PRNGKey, PyTree], PyTree] | None
    run_key: PyTree
    order_key: PyTree
    batch_size: int
    epochs: int
    steps_per_call: int = dataclasses.field(
        default_factory=lambda: (
            1 if jax.default_backend() == "cpu" else STEPS_PER_CALL_ON_ACCELERATORS
        )
    )
    num_rows: int | None = None
    placement: Placement | None = None
    loader: Loader | None = None
    shardings: PyTree = None

    @property
    def num_examples(self) -> int:
        return len(self.examples[1]) if self.num_rows is None else self.num_rows

    @property
    def steps_per_epoch(self) -> int:
        if self.loader is not None:
            return self.loader.steps_per_epoch
        return self.num_examples // self.batch_size

    def order(self, epoch: int) -> Array | np.ndarray | None:
        """The order of the examples in an epoch, counted from 0; None if it is the loader's."""
        if self.loader is not None:
            return None
        key = jax.random.fold_in(self.order_key, epoch)
        order = jax.random.permutation(key, self.num_examples)
        if self._is_loaded:
            return np.asarray(order)
        return order if self.placement is None else self.placement.replicate(order)

    def with_options(
        self,
        steps_per_call: int | None,
        num_rows: int,
        placement: Placement | None,
        loader: Loader | None = None,
    ) -> "Loop":
        """Returns the loop with other options; None for the default number of steps per call."""
        count = steps_per_call or (self.steps_per_call if loader is None else 1)
        return dataclasses.replace(
            self, steps_per_call=count, num_rows=num_rows, placement=placement, loader=loader
        )

    def on_device(self, batch: PyTree) -> PyTree:
        """Returns a batch of the loader on the device, or divided over the mesh."""
        place = self.placement
        return jax.tree.map(jnp.asarray, batch) if place is None else place.batch(batch)

    def placed(self, state: State) -> tuple["Loop", State]:
        """Returns the loop and its first state, with all arrays where they belong on the mesh."""
        if self.placement is None:
            return self, state
        shardings = self.placement.shardings(state)
        key = self.placement.replicate(self.run_key)
        return dataclasses.replace(self, shardings=shardings, run_key=key), put(state, shardings)

    @property
    def _is_loaded(self) -> bool:
        """Whether each process loads its part of a batch from the memory of its host."""
        return self.placement is not None and self.placement.spans_processes

    def examples_of(self, order: Array | np.ndarray | None, position: int, count: int) -> PyTree:
        """Returns the examples that a call takes, for `count` steps from a position of an epoch."""
        if self.loader is not None:
            return self.on_device(self.loader.next())
        if self.placement is None or order is None or not self._is_loaded:
            return self.examples
        size = self.batch_size
        rows = np.reshape(order[position * size : (position + count) * size], (count, size))
        return self.placement.batches(self.examples, rows)

    @cached_property
    def call(self) -> Callable[..., tuple[State, Totals]]:
        """Run `count` steps and add up what they report. The state and the sums are donated."""

        def many(
            state: State, totals: Totals, order: PyTree, examples: PyTree, key: PyTree, count: int
        ) -> PyTree:
            if count == 1:
                return self._one(state, totals, order, examples, key, self.order_key, 0)

            def body(number: Array, carry: tuple[State, StepInfo]) -> PyTree:
                return self._one(*carry, order, examples, key, self.order_key, number)

            return lax.fori_loop(0, count, body, (state, totals))

        return jax.jit(
            many,
            static_argnames="count",
            donate_argnums=(0, 1),
            compiler_options=compiler_options(),
        )

    def _one(
        self,
        state: State,
        totals: Totals,
        order: Array | None,
        examples: PyTree,
        key: PRNGKey,
        order_key: PRNGKey,
        number: int | Array,
    ) -> tuple[State, Totals]:
        """Returns the state and the totals after one step, the `number`th of the call."""
        batch = examples  # of a loader
        if self._is_loaded:
            batch = jax.tree.map(lambda a: a[number, : self.batch_size], examples)
        elif order is not None:
            start = (state.step % self.steps_per_epoch) * self.batch_size
            index = lax.dynamic_slice_in_dim(order, start, self.batch_size)
            batch = jax.tree.map(lambda a: a[index], examples)
        inputs, labels = self._batch(batch)
        if self.augment is not None:
            # The order's key has no other use at this index.
            augment_key = jax.random.fold_in(order_key, AUGMENT + state.step)
            inputs = self._batch(self.augment(augment_key, inputs))
        state, info = self.step(state, key, (inputs, labels))
        return self._after(state, totals.add(state, info))

    def no_totals(self, state: State) -> Totals:
        """The sums before the first step of an epoch."""
        batch = jax.tree.map(lambda x: x[: self.batch_size], self.examples)

        def info(now: State, key: PRNGKey, batch: PyTree) -> StepInfo:
            return self.step(now, key, batch)[1]

        return self._zeros(Totals(jax.eval_shape(info, state, self.run_key, batch), zero_flag()))

    def _zeros(self, totals: Totals) -> Totals:
        zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), totals)
        return zeros if self.placement is None else self.placement.replicate(zeros)

    def _batch(self, batch: PyTree) -> PyTree:
        """Returns a batch whose examples are divided over the mesh, in a compiled program."""
        return batch if self.placement is None else constrain(batch, self.placement.examples)

    def _after(self, state: State, totals: Totals) -> tuple[State, Totals]:
        """Returns what a step returns, where it belongs on the mesh, in a compiled program."""
        if self.placement is None:
            return state, totals
        return constrain(state, self.shardings), constrain(totals, self.placement.everywhere)

    def headline(self, totals: Totals) -> dict[str, float]:
        return epoch_numbers.headline(totals)

    def steps_taken(self, state: State) -> int:
        return int(state.step)

    def check(self, totals: Totals, state: State, examples: PyTree) -> None:
        """Raises Diverged if a step of the totals gave values that are not finite."""
        check(totals, state, examples)

    def line(self, totals: Totals, epoch: int, step: int, seconds: float, rate: float) -> PyTree:
        return epoch_numbers.line(totals, epoch, step, seconds, rate)

    def shown(self, numbers: dict[str, float], line: PyTree) -> dict[str, float]:
        return {name: line[name] for name in numbers}

    def run(
        self,
        state: State,
        totals: Totals,
        *,
        name: str,
        quiet: bool = False,
        at_epoch_end: Callable[[int, State, PyTree], None],
        interrupted: Callable[[], bool],
        is_due: Callable[[], bool] = lambda: False,
        save: Callable[[State, Totals], None] = lambda state, totals: None,
    ) -> tuple[State, Totals]:
        """Train from the state's step to the last epoch's end, or until interrupted.

        Args:
            state, totals: where to start; both are donated.
            name, quiet: what the progress display calls an epoch, and whether there is none.
            at_epoch_end: called with the epoch (from 1), the state, and the epoch's mean numbers.
            interrupted: asked after each call; when it says so, the state is returned as it is.
            is_due: asked after each call within an epoch; whether to call `save`.
            save: called with the state and the sums, which are donated afterwards.

        Returns:
            The state, and the sums of the epoch that was interrupted.

        Raises:
            Diverged: a step gave a loss or weights that are not finite.
        """
        steps = self.steps_per_epoch
        progress = Progress(epochs=self.epochs, steps=steps, name=name, quiet=quiet)
        done, calls, examples = self.steps_taken(state), 0, self.examples
        for epoch in range(done // steps, self.epochs):
            order = self.order(epoch)
            first = done % steps
            progress.start(epoch + 1, first)
            started = time.perf_counter()
            for position in range(first, steps, self.steps_per_call):
                count = min(self.steps_per_call, steps - position)
                examples = self.examples_of(order, position, count)
                state, totals = self.call(state, totals, order, examples, self.run_key, count=count)
                done += count
                shown = progress.visible and (position // count) % STEPS_BETWEEN_DISPLAYS == 0
                progress.advance(count, self.headline(totals) if shown else None)
                if position + count == steps:
                    break
                calls += 1
                is_checked = calls % CALLS_BETWEEN_CHECKS == 0
                # Several processes agree, which makes each wait for the others.
                stop = due = False
                if is_checked or not self._is_loaded:
                    stop, due = any_process(interrupted(), is_due())
                if stop or due or is_checked:
                    self.check(totals, state, self.examples if self.loader is None else examples)
                if stop:
                    progress.stop()
                    return state, totals
                if due:
                    save(state, totals)
            self.check(totals, state, self.examples if self.loader is None else examples)
            numbers = self.headline(totals)
            seconds = time.perf_counter() - started
            rate = (steps - first) * self.batch_size / seconds
            line = self.line(totals, epoch + 1, done, seconds, rate)
            totals = self._zeros(totals)
            at_epoch_end(epoch + 1, state, line)
            numbers = self.shown(numbers, line)
            progress.finish(epoch + 1, numbers, rate)
            if any_process(interrupted())[0]:
                break
        return state, totals
