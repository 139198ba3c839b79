"""The processes of a run on several hosts: how they connect, and which of them speaks."""

import sys

from bnn_jax.config.distributed import Distributed
from bnn_jax.devices import processes
from bnn_jax.experiment.folder import RunError


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
