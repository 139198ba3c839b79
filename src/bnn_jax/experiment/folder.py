"""The folder of a run: its files, and how to read them.

    config.yaml       the resolved settings
    metrics.jsonl     one line per epoch
    checkpoint/       the newest state (orbax): posterior, prior, optimizer state, step
    baseline/         the trained weights of the deterministic baseline (orbax); folders of
                      older runs have them in twin/
    summary.json      the results

A checkpoint replaces the previous one only when it is complete, so an interrupted write loses
nothing.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from bnn_jax import config as configs
from bnn_jax.config.schema import Config

Record = dict[str, Any]  # a JSON object


class RunError(ValueError):
    """A run that cannot start or continue; the message is one line that says what to do."""


class RunFolder:
    """The files of one run. `create` is the first method that writes."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path).absolute()

    @property
    def config_file(self) -> Path:
        return self.path / "config.yaml"

    @classmethod
    def new(cls, path: Path) -> "RunFolder":
        """Returns the folder of this name, or the first free one of name-2, name-3, ...

        Raises:
            RunError: the folder holds something other than a run, or cannot be created.
        """
        folder = cls(path)
        number = 2
        while folder.config_file.is_file():
            folder = cls(folder.path.with_name(f"{Path(path).absolute().name}-{number}"))
            number += 1
        existing = next(p for p in (folder.path, *folder.path.parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise RunError(
                f"output.dir {folder.path} cannot be created, because {existing} is not a writable "
                "folder: choose another one, such as output.dir=runs/new."
            )
        if existing == folder.path and any(existing.iterdir()):
            raise RunError(
                f"output.dir {folder.path} holds other files: choose a new folder, such as "
                "output.dir=runs/new."
            )
        return folder

    def check_resumable(self, config: Config) -> None:
        """Checks that the folder holds a run of these settings, with a checkpoint.

        Raises:
            RunError: it does not.
        """
        saved = self.load_config()
        same = {"output": config.output}
        if saved.model_copy(update=same) != config:
            changed = [
                f"{section}.{key}"
                for section, values in config.model_dump().items()
                if isinstance(values, dict) and section != "output"
                for key, value in values.items()
                if saved.model_dump()[section].get(key) != value
            ] or ["seed or estimator"]
            raise RunError(
                f"The run in {self.path} has other settings ({', '.join(changed)}): resume it with "
                "the settings it was started with, or start a new run in another output.dir."
            )
        self._newest()

    def load_config(self, overrides: Sequence[str] = ()) -> Config:
        """Returns the run's settings. Overrides may change the evaluation section.

        Raises:
            RunError: the folder holds no run.
            ConfigError: the saved settings or an override are wrong.
        """
        if not self.config_file.is_file():
            raise RunError(
                f"{self.path} is not a run folder (it has no config.yaml): give the output.dir "
                "of a run."
            )
        return configs.load(
            self.config_file, overrides, sections=("evaluation",), former_names=True
        )

    def create(self, config: Config) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(configs.dump(config))

    def append_metrics(self, line: Record) -> None:
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")

    def keep_metrics_until(self, epoch: int) -> None:
        """Removes the lines of later epochs, which a resumed run repeats."""
        file = self.path / "metrics.jsonl"
        if file.is_file():
            lines = [x for x in file.read_text().splitlines() if json.loads(x)["epoch"] <= epoch]
            file.write_text("".join(line + "\n" for line in lines))

    def write_summary(self, summary: Record) -> None:
        partial = self.path / "summary.json.partial"
        partial.write_text(json.dumps(summary, indent=2) + "\n")
        partial.replace(self.path / "summary.json")

    def read_summary(self) -> Record:
        file = self.path / "summary.json"
        return json.loads(file.read_text()) if file.is_file() else {}

    def save(self, step: int, tree: PyTree) -> None:
        """Saves a checkpoint, unless one of this step exists."""
        with self._manager() as manager:
            if manager.latest_step() != step:
                manager.save(step, args=ocp.args.StandardSave(_arrays(tree)))

    def restore(self, like: PyTree) -> PyTree:
        """Returns the newest checkpoint as a tree of the structure, shapes and dtypes of `like`."""
        step = self._newest()
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        with self._manager() as manager:
            try:
                return manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except (ValueError, OSError, KeyError) as error:
                raise _unreadable(f"The checkpoint of step {step}", self.path, error) from error

    def save_baseline(self, weights: PyTree) -> None:
        """Saves the weights of the deterministic baseline, and replaces earlier ones."""
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(self.path / "baseline", _arrays(weights), force=True)

    def restore_baseline(self, like: PyTree) -> PyTree | None:
        """Returns the weights of the deterministic baseline, or None if there are none."""
        names = ("baseline", "twin")  # folders of older runs have twin/
        path = next((p for n in names if (p := self.path / n).is_dir()), None)
        if path is None:
            return None
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        with ocp.StandardCheckpointer() as checkpointer:
            try:
                return checkpointer.restore(path, abstract)
            except (ValueError, OSError, KeyError) as error:
                raise _unreadable("The deterministic baseline", self.path, error) from error

    def _newest(self) -> int:
        """Returns the step of the newest checkpoint."""
        step = None  # a checkpoint manager would create the folder
        if (self.path / "checkpoint").is_dir():
            with self._manager() as manager:
                step = manager.latest_step()
        if step is None:
            raise RunError(
                f"The run in {self.path} has no checkpoint, because it was stopped too early: "
                "train it again."
            )
        return int(step)

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self.path / "checkpoint", options=options)


def _unreadable(what: str, path: Path, error: Exception) -> RunError:
    return RunError(
        f"{what} in {path} cannot be read: it is damaged, or was written by another version. Train "
        f"the run again ({' '.join(str(error).split())[:120]})."
    )


def _arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)
