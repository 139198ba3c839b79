"""Epochs over examples that lie on the device.

Batches are gathered inside the step. The order of an epoch comes from a key and the epoch's number
alone, and the noise of a step from a key and the step's number: so a run that was stopped, at any
step, and resumed ends bit for bit where the run that never stopped does.

On CPU every step is a call from Python: a convolution inside a compiled loop loses its
multi-threaded kernels there and LeNet-5 becomes four times slower. On accelerators a call runs
many.
"""

import dataclasses
import math
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, PyTree

from bnn_jax._compiler import compiler_options
from bnn_jax.fitting.interrupts import interruptible as interruptible
from bnn_jax.fitting.progress import Progress
from bnn_jax.noise import PRNGKey

# A state has the field `step`, the number of steps taken. What a step reports can be added up, and
# has the method `means`: see `train.StepInfo` and `infer.Info`.
State = Any
StepInfo = Any
Step = Callable[[State, PRNGKey, tuple[Any, Any]], tuple[State, StepInfo]]

STEPS_PER_CALL_ON_ACCELERATORS = 50
STEPS_BETWEEN_DISPLAYS = 50


@dataclasses.dataclass(frozen=True)
class Loop:
    """What does not change during training.

    Attributes:
        step: a step as `train.build_step` makes it.
        examples: (inputs, labels), arrays on the device.
        prepare: makes the network's input of gathered inputs, inside the step.
        run_key: gives the steps' noise.
        order_key: gives the epochs' orders.
        batch_size: examples a step; those left over at the end of an epoch wait for the next.
        epochs: how many there are in all.
        steps_per_call: steps run by one compiled call.
    """

    step: Step
    examples: tuple[PyTree, Array]
    prepare: Callable[[Any], Any]
    run_key: PRNGKey
    order_key: PRNGKey
    batch_size: int
    epochs: int
    steps_per_call: int = dataclasses.field(
        default_factory=lambda: (
            1 if jax.default_backend() == "cpu" else STEPS_PER_CALL_ON_ACCELERATORS
        )
    )

    @property
    def num_examples(self) -> int:
        return len(self.examples[1])

    @property
    def steps_per_epoch(self) -> int:
        return self.num_examples // self.batch_size

    def order(self, epoch: int) -> Array:
        """The order of the examples in an epoch, counted from 0."""
        return jax.random.permutation(jax.random.fold_in(self.order_key, epoch), self.num_examples)

    @cached_property
    def call(self) -> Callable[..., tuple[State, StepInfo]]:
        """Run `count` steps and add up what they report. The state and the sums are donated."""

        def one(state: State, totals: StepInfo, order: Array, examples: Any, key: PRNGKey) -> Any:
            start = (state.step % self.steps_per_epoch) * self.batch_size
            index = lax.dynamic_slice_in_dim(order, start, self.batch_size)
            inputs, labels = jax.tree.map(lambda a: a[index], examples)
            batch = self.prepare(inputs), labels
            state, info = self.step(state, key, batch)
            return state, totals + info

        def many(
            state: State, totals: StepInfo, order: Array, examples: Any, key: PRNGKey, count: int
        ) -> Any:
            if count == 1:
                return one(state, totals, order, examples, key)

            def body(_: Any, carry: tuple[State, StepInfo]) -> Any:
                return one(carry[0], carry[1], order, examples, key)

            return lax.fori_loop(0, count, body, (state, totals))

        return jax.jit(
            many,
            static_argnames="count",
            donate_argnums=(0, 1),
            compiler_options=compiler_options(),
        )

    def no_totals(self, state: State) -> StepInfo:
        """The sums before the first step of an epoch."""
        batch = jax.tree.map(lambda x: x[: self.batch_size], self.examples)

        def info(now: State, key: PRNGKey, inputs: Any, labels: Any) -> StepInfo:
            return self.step(now, key, (self.prepare(inputs), labels))[1]

        shapes = jax.eval_shape(info, state, self.run_key, *batch)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    def headline(self, totals: StepInfo) -> dict[str, float]:
        """Returns the means that a progress display has room for, where they have a value."""
        means = totals.means()
        shown = {name: means.get(name) for name in ("loss", "nll", "kl", "accuracy")}
        return {
            name: mean
            for name, mean in shown.items()
            if isinstance(mean, float) and not math.isnan(mean)
        }

    def run(
        self,
        state: State,
        totals: StepInfo,
        *,
        name: str,
        quiet: bool = False,
        at_epoch_end: Callable[[int, State, dict[str, Any]], None],
        interrupted: Callable[[], bool],
        after_call: Callable[[int, State, StepInfo], None] | None = None,
    ) -> tuple[State, StepInfo]:
        """Train from the state's step to the last epoch's end, or until interrupted.

        Args:
            state, totals: where to start; both are donated.
            name: what the progress display calls an epoch.
            quiet: show no progress.
            at_epoch_end: called with the epoch (from 1), the state, and the epoch's mean numbers.
            interrupted: asked after each call; when it says so, the state is returned as it is.
            after_call: called within an epoch with the number of steps done, the state and the
                sums; both are donated afterwards.

        Returns:
            The state, and the sums of the epoch that was interrupted.
        """
        steps = self.steps_per_epoch
        progress = Progress(epochs=self.epochs, steps=steps, name=name, quiet=quiet)
        done = int(state.step)
        for epoch in range(done // steps, self.epochs):
            order = self.order(epoch)
            first = done % steps
            progress.start(epoch + 1, first)
            started = time.perf_counter()
            for position in range(first, steps, self.steps_per_call):
                count = min(self.steps_per_call, steps - position)
                state, totals = self.call(
                    state, totals, order, self.examples, self.run_key, count=count
                )
                done += count
                shown = progress.visible and (position // count) % STEPS_BETWEEN_DISPLAYS == 0
                progress.advance(count, self.headline(totals) if shown else None)
                if interrupted() and position + count < steps:
                    progress.stop()
                    return state, totals
                if after_call is not None and position + count < steps:
                    after_call(done, state, totals)
            numbers = self.headline(totals)
            seconds = time.perf_counter() - started
            rate = (steps - first) * self.batch_size / seconds
            line = {
                "epoch": epoch + 1,
                "step": done,
                **totals.means(),
                "seconds": round(seconds, 3),
                "examples_per_second": round(rate, 1),
            }
            totals = jax.tree.map(jnp.zeros_like, totals)
            at_epoch_end(epoch + 1, state, line)
            progress.finish(epoch + 1, numbers, rate)
            if interrupted():
                break
        return state, totals
