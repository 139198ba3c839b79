"""The folder of a run: its files, and how to read them.

    config.yaml       the resolved settings
    metrics.jsonl     one line per epoch
    checkpoint/       the newest state of training, see `bnn_jax.fitting.checkpoint`
    posterior/        the result, as `Fit.save` writes it
    baseline/         the trained weights of the deterministic baseline (orbax); folders of
                      older runs have them in twin/
    summary.json      the results
    origin.json       the machine and the user that made it, see `bnn_jax.experiment.origin`
    code/             the user's Python files, see `bnn_jax.experiment.user_files`

A checkpoint replaces the previous one only when it is complete, so an interrupted write loses
nothing. Of several processes only the first one writes.
"""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from bnn_jax import config as configs
from bnn_jax.config.schema import Config
from bnn_jax.devices import processes
from bnn_jax.fitting import Fit, files, sealed
from bnn_jax.infer.method import Method
from bnn_jax.likelihoods import Likelihood
from bnn_jax.transforms import BayesianModel

POSTERIOR = "posterior"  # the folder of the result of training

Record = dict[str, Any]  # a JSON object


class RunError(ValueError):
    """A run that cannot start or continue; the message is one line that says what to do."""


class BaselineIncomplete(RunError):
    """A run that is finished, but for its deterministic baseline."""


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
        try:
            while folder.config_file.is_file():
                folder = cls(folder.path.with_name(f"{Path(path).absolute().name}-{number}"))
                number += 1
            existing = next(p for p in (folder.path, *folder.path.parents) if p.exists())
        except (OSError, ValueError) as error:
            raise _no_folder(folder.path, error) from error
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
        """Checks that the folder is free, or holds a run of these settings.

        Raises:
            RunError: it holds another run.
        """
        if not self.config_file.is_file():
            RunFolder.new(self.path)
            return
        saved = self.load_config()
        # A run may continue on other devices and in another number of processes.
        placement = {
            name: getattr(config.training, name) for name in ("devices", "mesh", "shard_parameters")
        }
        training = saved.training.model_copy(update=placement)
        same = {"output": config.output, "training": training, "distributed": config.distributed}
        saved = saved.model_copy(update=same)
        if saved != config:
            dumps = (c.model_dump(exclude={"output"}) for c in (saved, config))
            changed = _differences(*dumps)
            raise RunError(
                f"The run in {self.path} has other settings ({', '.join(changed)}): resume it with "
                "the settings it was started with, or start a new run in another output.dir."
            )

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
        """Creates the folder with the settings, unless it has them.

        Raises:
            RunError: it cannot be created.
        """
        processes.on_first(lambda: self._create(config))

    def _create(self, config: Config) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.config_file.is_file():
                files.atomic_write(self.config_file, configs.dump(config).encode())
        except OSError as error:
            raise _no_folder(self.path, error) from error

    def write_metrics(self, history: Sequence[Record]) -> None:
        """Adds the line of the last epoch, or replaces the file if it does not precede it."""
        processes.on_first(lambda: self._write_metrics(history))

    def _write_metrics(self, history: Sequence[Record]) -> None:
        file = self.path / "metrics.jsonl"
        lines = [json.dumps(files.finite(line)) for line in history]
        if file.is_file() and file.read_text().splitlines() == lines[:-1]:
            with file.open("a") as end:
                end.write(lines[-1] + "\n")
        else:
            files.atomic_write(file, "".join(line + "\n" for line in lines).encode())

    def write_summary(self, summary: Record) -> None:
        processes.on_first(lambda: files.write_json(self.path / "summary.json", summary))

    def write_interrupted(self, steps: int) -> None:
        """Records that the run was interrupted after these steps, and says so."""
        self.write_summary({"status": "interrupted", "steps": steps})
        if processes.is_first():
            print(f"the state is saved in {self.path}: continue with --resume", file=sys.stderr)

    def write_file(self, name: str, text: str) -> None:
        files.atomic_write(self.path / name, text.encode())

    def read_summary(self) -> Record:
        file = self.path / "summary.json"
        try:
            found = json.loads(file.read_text()) if file.is_file() else {}
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise RunError(f"{file} is damaged: delete it, and evaluate the run again.")
        return found

    def check_single(self, config: Config) -> None:
        """Raises RunError if the folder holds several runs."""
        if config.repeated:
            first = "split-0" if config.seeds is None else f"seed-{config.seeds[0]}"
            raise RunError(
                f"{self.path} holds one run for each of several {config.repeated}: name the folder "
                f"of one, such as {self.path / first}."
            )

    def check_finished(self) -> None:
        """Raises RunError unless the run has its result."""
        if not (self.path / POSTERIOR).is_dir():
            raise RunError(
                f"The run in {self.path} is not finished: continue it with train --resume."
            )

    def read_fit(self, model: BayesianModel, method: Method, likelihood: Likelihood) -> Fit:
        """Returns the result of training.

        Raises:
            RunError: the run is not finished, or its posterior cannot be read.
        """
        self.check_finished()
        try:
            return Fit.load(self.path / POSTERIOR, model, method=method, likelihood=likelihood)
        except (ValueError, OSError, KeyError) as error:
            raise _unreadable("The posterior", self.path, error) from error

    def remove(self, name: str) -> None:
        """Removes a part of the run that is no longer needed."""
        processes.on_first(lambda: shutil.rmtree(self.path / name, ignore_errors=True))

    def save_baseline(self, weights: PyTree) -> None:
        """Saves the weights of the deterministic baseline, and replaces earlier ones."""
        weights = processes.whole(weights)
        processes.on_first(lambda: self._save_baseline(weights))

    def _save_baseline(self, weights: PyTree) -> None:
        to_save = ocp.args.StandardSave(sealed.stored(_arrays(weights)))
        with sealed.checkpointer() as checkpointer:
            checkpointer.save(self.path / "baseline", args=to_save, force=True)

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


def _no_folder(path: Path, error: Exception) -> RunError:
    reason = getattr(error, "strerror", None) or str(error)
    return RunError(
        f"output.dir {path} cannot be created ({reason}): choose another one, such as "
        "output.dir=runs/new."
    )


def _unreadable(what: str, path: Path, error: Exception) -> RunError:
    return RunError(
        f"{what} in {path} cannot be read: it is damaged, or was written by another version. Train "
        f"the run again ({' '.join(str(error).split())[:120]})."
    )


def _differences(before: Record, now: Record) -> list[str]:
    """Returns the names of the settings that differ."""
    changed = []
    for name, new in now.items():
        old = before[name]
        if isinstance(new, dict) and isinstance(old, dict):
            keys = {**old, **new}
            changed += [f"{name}.{key}" for key in keys if old.get(key) != new.get(key)]
        elif old != new:
            changed.append(name)
    return changed


def _arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)
