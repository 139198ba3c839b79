"""Fits that differ in their keys and initial weights, trained as one vmapped program.

The states, the sums of an epoch, the orders of the examples and the keys are stacked on a new axis
0, and a step is `vmap` of the step of one fit. Each fit has its own history, checkpoints and
result, which are those of `fit` up to rounding.

Whether one program is faster than one fit after the other depends on the network and the device:
`vmap` saves the overhead of small operations, but a convolution with a kernel for each fit may be
slower on CPU. `fit_together` can measure a few steps of both.
"""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from bnn_jax.fitting import divergence
from bnn_jax.fitting.arguments import Arguments
from bnn_jax.fitting.divergence import Diverged, Totals
from bnn_jax.fitting.fit_posterior import fit, interrupted
from bnn_jax.fitting.interrupts import interruptible
from bnn_jax.fitting.lock import locked
from bnn_jax.fitting.loop import Loop
from bnn_jax.fitting.prepared import Prepared, prepared
from bnn_jax.fitting.result import Fit, to_json
from bnn_jax.infer.ensemble_state import stack
from bnn_jax.infer.method import State

CALLS = 5  # that are timed, after one that compiles


class NotTogether(ValueError):
    """Fits that cannot be trained as one program; the message says why."""


@dataclasses.dataclass(frozen=True)
class Together(Loop):
    """The loops of several fits as one. Its states, totals, orders and keys are stacked.

    Attributes:
        members: the loops of the fits.
    """

    members: tuple[Loop, ...] = ()

    @classmethod
    def of(cls, members: Sequence[Loop]) -> "Together":
        """Returns the loop of all members."""
        first = {f.name: getattr(members[0], f.name) for f in dataclasses.fields(Loop)}
        keys = {
            name: jnp.stack([getattr(member, name) for member in members])
            for name in ("run_key", "order_key")
        }
        return cls(**(first | keys), members=tuple(members))

    def order(self, epoch: int) -> Array:
        orders: list[PyTree] = [member.order(epoch) for member in self.members]
        return jnp.stack(orders)

    def _one(
        self,
        state: State,
        totals: Totals,
        order: Array | None,
        examples: PyTree,
        key: PyTree,
        order_key: PyTree,
        number: int | Array,
    ) -> tuple[State, Totals]:
        each = jax.vmap(self.members[0]._one, in_axes=(0, 0, 0, None, 0, 0, None))
        return each(state, totals, order, examples, key, order_key, number)

    def steps_taken(self, state: State) -> int:
        return int(state.step[0])

    def check(self, totals: Totals, state: State, examples: PyTree) -> None:
        if not np.asarray(totals.diverged)[:, 0].any():
            return
        pairs = zip(self.unstacked(totals), self.unstacked(state), strict=True)
        for number, (own_totals, own_state) in enumerate(pairs):
            try:
                divergence.check(own_totals, own_state, examples)
            except Diverged as error:
                raise Diverged(
                    f"Fit {number} of {len(self.members)}: {error}",
                    step=error.step,
                    where=error.where,
                ) from error

    def line(self, totals: Totals, epoch: int, step: int, seconds: float, rate: float) -> PyTree:
        """Returns the numbers of an epoch of each fit; its seconds are its share of the time."""
        count = len(self.members)
        return [
            member.line(own, epoch, step, seconds / count, rate * count)
            for member, own in zip(self.members, self.unstacked(totals), strict=True)
        ]

    def headline(self, totals: Totals) -> dict[str, float]:
        return _means([Loop.headline(self, own) for own in self.unstacked(totals)])

    def shown(self, numbers: dict[str, float], line: PyTree) -> dict[str, float]:
        return _means([{name: one[name] for name in numbers} for one in line])

    def unstacked(self, tree: PyTree) -> list[PyTree]:
        """Returns the tree of each fit."""
        return [jax.tree.map(lambda a, i=i: a[i], tree) for i in range(len(self.members))]


def fit_together(
    members: Sequence[Arguments],
    *,
    choose: Callable[[float, float], bool] | None = None,
    progress: bool = True,
) -> list[Fit] | None:
    """Returns what `fit` returns for each of several calls, trained as one vmapped program.

    Args:
        members: the arguments of each call by name. They may differ in key, in the initial
            weights of the model, in checkpoint and in callbacks.
        choose: called before the first step with the measured seconds of a step of one program,
            and of a step of each fit in turn; a return value of False gives up. None does not
            measure.
        progress: show a progress bar, or a line for each epoch.

    Returns:
        The fits; None if `choose` returned False.

    Raises:
        NotTogether: the calls cannot be one program. Nothing was trained.
        Diverged, LockedError, Interrupted: as `fit` does.
    """
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(fit).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    ready = [prepared({**defaults, **member}) for member in members]
    states = [one.run.init(one.key) for one in ready]
    _check_alike(ready, states)
    loop = Together.of([one.loop for one in ready])
    if choose is not None and not choose(*_measured(loop, states)):
        return None
    ended = _trained(ready, loop, states, progress)
    return [one.result(s) for one, s in zip(ready, ended, strict=True)]


def _trained(
    ready: Sequence[Prepared], loop: Together, states: list[State], progress: bool
) -> list[State]:
    """Runs the epochs that are left, and saves the states if they are interrupted."""
    watches = [one.watch for one in ready]

    def save(state: State, totals: Totals) -> None:
        parts = zip(watches, loop.unstacked(state), loop.unstacked(totals), strict=True)
        for watch, own_state, own_totals in parts:
            watch.save(own_state, own_totals)

    def at_epoch_end(epoch: int, state: State, lines: list[dict[str, Any]]) -> None:
        for watch, own, line in zip(watches, loop.unstacked(state), lines, strict=True):
            watch.at_epoch_end(epoch, own, line)
            if watch.stop:
                raise ValueError(
                    "A callback must not stop one of several fits that are trained "
                    "together: remove it, or call fit for each."
                )

    with ExitStack() as held, interruptible() as asked:
        for watch in watches:
            watch.interrupts = asked
            if watch.folder:
                held.enter_context(locked(watch.folder.path))
        starts = [
            watch.started(state, one.loop.no_totals(state))
            for watch, one, state in zip(watches, ready, states, strict=True)
        ]
        if len({int(state.step) for state, _ in starts}) > 1:
            raise NotTogether("their checkpoints are of different steps")
        state, totals = stack([s for s, _ in starts]), stack([t for _, t in starts])
        state, totals = loop.run(
            state,
            totals,
            name="epoch",
            at_epoch_end=at_epoch_end,
            interrupted=asked,
            is_due=lambda: any(watch.is_due() for watch in watches),
            save=save,
            quiet=not progress,
        )
        save(state, totals)
        if asked():
            raise interrupted(loop.steps_taken(state), watches)
    return loop.unstacked(state)


def _check_alike(ready: Sequence[Prepared], states: Sequence[State]) -> None:
    """Refuses fits that are not one program."""
    first = ready[0]
    if first.loop.loader is not None:
        raise NotTogether("their examples are read by a loader")
    if first.loop.placement is not None:
        raise NotTogether("they are divided over several devices")
    if first.watch.fit.method.whole_data:
        raise NotTogether(f"a step of {first.watch.fit.method.name} takes all examples")
    if any(one.watch.early_stopping is not None for one in ready):
        raise NotTogether("early stopping would end them at different steps")
    for one, state in zip(ready, states, strict=True):
        if not equal(one.loop.examples, first.loop.examples):
            raise NotTogether("their training examples differ, as those of random parts do")
        sizes = [(o.loop.batch_size, o.loop.epochs, o.loop.steps_per_call) for o in (one, first)]
        methods = [to_json(o.watch.fit.method) for o in (one, first)]
        if sizes[0] != sizes[1] or methods[0] != methods[1] or _form(state) != _form(states[0]):
            raise NotTogether("their networks, methods or lengths differ")


def _measured(loop: Together, states: list[State]) -> tuple[float, float]:
    """Returns the seconds of a step of all fits as one program, and of a step of each in turn."""
    totals = [m.no_totals(s) for m, s in zip(loop.members, states, strict=True)]
    one = _seconds(loop.members[0], states[0], totals[0])
    return _seconds(loop, stack(states), stack(totals)), len(states) * one


def _seconds(loop: Loop, state: State, totals: Totals) -> float:
    """Returns the seconds of a step of a loop, the least of several calls."""
    order, count = loop.order(0), min(loop.steps_per_call, loop.steps_per_epoch)
    state, totals = jax.tree.map(jnp.copy, (state, totals))  # the call takes them over
    times = []
    for _ in range(1 + CALLS):
        started = time.perf_counter()
        state, totals = loop.call(state, totals, order, loop.examples, loop.run_key, count=count)
        jax.block_until_ready(totals)
        times.append(time.perf_counter() - started)
    return min(times[1:]) / count


def equal(a: PyTree, b: PyTree) -> bool:
    """Returns whether two trees have the same structure and the same arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return _form(a) == _form(b) and all(np.array_equal(x, y) for x, y in pairs)


def _form(tree: PyTree) -> tuple[object, list[tuple[object, ...]]]:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _means(lines: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Returns the mean of each number that all lines have."""
    names = [name for name in lines[0] if all(name in line for line in lines)]
    return {name: float(np.mean([line[name] for line in lines])) for name in names}
