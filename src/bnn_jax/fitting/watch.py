"""What happens beside the steps of a fit: validation, callbacks, early stopping, checkpoints."""

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from bnn_jax.data.loader import Loader
from bnn_jax.devices.processes import any_process
from bnn_jax.fitting.checkpoint import Folder
from bnn_jax.fitting.checks import Data
from bnn_jax.fitting.early_stopping import EarlyStopping
from bnn_jax.fitting.interrupts import Interrupts
from bnn_jax.fitting.result import Fit
from bnn_jax.infer.method import Inference, State

Callback = Callable[[dict[str, Any], Fit], bool | None]


@dataclasses.dataclass
class Watch:
    """What happens at the start, within epochs, and after each epoch.

    Attributes:
        fit: the result so far; its history grows.
        loader: the reader of the training batches, whose place is saved; None for arrays.
        stop: whether a callback or early stopping has ended the fit.
    """

    fit: Fit
    run: Inference
    folder: Folder | None
    checkpoint_every: int
    checkpoint_minutes: float
    epochs: int
    validation: Data | None
    validate_every: int
    callbacks: Sequence[Callback]
    early_stopping: EarlyStopping | None = None
    loader: Loader | None = None
    interrupts: Interrupts = dataclasses.field(default_factory=Interrupts)
    stop: bool = False
    _no_totals: PyTree = None
    _saved: tuple[int, int, bool] | None = None
    _saved_at: float = 0.0

    def started(self, state: State, totals: PyTree) -> tuple[State, PyTree]:
        """Returns where to start: the newest state in the folder, or the given one, saved."""
        self._no_totals = jax.tree.map(np.asarray, totals)
        found = None
        if self.folder is not None:
            found = self.folder.restore((self.run.portable(state), totals))
        self._saved_at = time.monotonic()
        if found is None:
            self.save(state, totals)
            return state, totals
        (saved, totals), record = found
        state = self.run.resumed(saved)
        self.fit.history[:] = record["history"]
        self.stop = record["stopped"]
        if self.loader is not None:
            self.loader.resume(record["loader"])
        self._saved = self._what(state)
        return state, totals

    def is_due(self) -> bool:
        """Returns whether the last checkpoint was long ago."""
        waited = time.monotonic() - self._saved_at
        return self.folder is not None and waited > 60 * self.checkpoint_minutes

    def at_epoch_end(self, epoch: int, state: State, line: dict[str, Any]) -> None:
        """Adds the epoch to the history; validates, calls the callbacks, saves the state."""
        line |= self.fit.scaling.losses_in_units(line)
        history = self.fit.history
        history.append(line)
        now = self.fit
        if self.callbacks or (self.validation and epoch % self.validate_every == 0):
            now = dataclasses.replace(self.fit, posterior=self.run.posterior(state))
        if self.validation and epoch % self.validate_every == 0:
            line["validation"] = now.evaluate(*self.validation)
        for callback in self.callbacks:
            self.stop = bool(callback(line, now)) or self.stop
        if self.early_stopping is not None:
            self.stop = self.early_stopping(history) or self.stop
        (self.stop,) = any_process(self.stop)
        if epoch % self.checkpoint_every == 0 and epoch < self.epochs:
            self.save(state, self._no_totals)

    def save(self, state: State, totals: PyTree) -> None:
        """Saves the state and the history, unless they are those that were saved last."""
        if self.folder is None or self._saved == self._what(state):
            return
        record = {"history": self.fit.history, "stopped": self.stop}
        if self.loader is not None:
            record["loader"] = self.loader.state()
        with self.interrupts.saving():
            self.folder.save(int(state.step), (self.run.portable(state), totals), record)
            self._saved = self._what(state)
            self._saved_at = time.monotonic()

    def _what(self, state: State) -> tuple[int, int, bool]:
        return int(state.step), len(self.fit.history), self.stop
