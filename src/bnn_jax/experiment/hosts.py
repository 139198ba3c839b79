"""The processes of a run on several hosts: how they connect, and what the first does for all."""

import sys
from pathlib import Path

from bnn_jax.config.distributed import Distributed
from bnn_jax.config.schema import Config
from bnn_jax.devices import processes
from bnn_jax.experiment import origin
from bnn_jax.experiment.folder import RunError, RunFolder


def connect(settings: Distributed) -> None:
    """Connects this process with the others of the run, before any other use of JAX.

    Raises:
        RunError: the environment does not say which processes there are.
        ProcessError: the others cannot be reached.
    """
    try:
        processes.start(settings.coordinator, settings.num_processes, settings.process_id)
    except ValueError as error:
        raise RunError(
            f"distributed: auto finds no cluster in the environment ({error}) Set "
            "distributed={coordinator: HOST:PORT, num_processes: N, process_id: I}."
        ) from error


def say(message: str) -> None:
    """Prints a message on stderr, in the first process."""
    if processes.is_first():
        print(message, file=sys.stderr)


def run_folder(config: Config, resume: bool) -> RunFolder:
    """Returns the folder of the run, which the first process has chosen."""

    def chosen() -> Path:
        if not resume:
            return RunFolder.new(config.output.dir).path
        folder = RunFolder(config.output.dir)
        folder.check_resumable(config)
        origin.check_same_code(folder.path, config)
        return folder.path

    return RunFolder(Path(processes.broadcast_text(str(processes.on_first(chosen)))))
