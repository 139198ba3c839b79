"""Several processes, such as one on each host, that run the same program on devices of their own.

JAX's coordination service connects them. The first process reads and writes files, and the others
get what it has read. Every process must call the functions of this module in the same order; with
one process they do nothing.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from jaxtyping import PyTree

T = TypeVar("T")

# A process that sends no heartbeat for so long counts as dead, and the others are ended.
HEARTBEAT_SECONDS = 60
# Words in what JAX raises where a process cannot reach another one.
_LOST = ("Gloo", "NCCL", "coordination service", "Connection", "DEADLINE_EXCEEDED", "UNAVAILABLE")


class ProcessError(RuntimeError):
    """Another process of the program has failed, or cannot be reached."""


def start(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Connects this process with the others, unless it is connected; before any other use of JAX.

    Args:
        coordinator: host:port of process 0.
        num_processes: the number of processes.
        process_id: the number of this process, from 0. Without arguments, all three are those that
            `jax.distributed.initialize` finds in the environment: Slurm, Open MPI, TPU, Kubernetes.

    Raises:
        ValueError: an argument is left out, and the environment does not have it.
        ProcessError: the others cannot be reached.
    """
    if jax.distributed.is_initialized():
        return
    # Collectives of CPUs (gloo) must start in the same order in all processes.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except jax.errors.JaxRuntimeError as error:
        raise ProcessError(
            f"The other processes cannot be reached ({_first_line(error)}): start all of them, "
            "with the same coordinator and num_processes."
        ) from error


def several() -> bool:
    """Returns whether the program runs in more than one process."""
    return jax.process_count() > 1


def is_first() -> bool:
    """Returns whether this is the process that writes files and messages."""
    return jax.process_index() == 0


def check_mesh(mesh: Mesh | None) -> None:
    """Raises a ValueError unless a mesh has devices of every process."""
    found = set() if mesh is None else {device.process_index for device in mesh.devices.flat}
    if several() and len(found) < jax.process_count():
        raise ValueError(
            f"A mesh must have devices of all {jax.process_count()} processes, got those of "
            f"{len(found)}: mesh='all' takes the {jax.device_count()} devices there are."
        )


def check_same(**texts: str) -> None:
    """Raises a ValueError unless all processes have the same texts, such as hashes."""
    if not several():
        return
    hashes = [
        np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8) for text in texts.values()
    ]
    everywhere = multihost_utils.process_allgather(np.stack(hashes))
    for process, own in enumerate(everywhere):
        differing = [n for n, a, b in zip(texts, own, everywhere[0], strict=True) if (a != b).any()]
        if differing:
            raise ValueError(
                "All processes must have the same arguments: process "
                f"{process} has another {', '.join(differing)} than process 0."
            )


def on_first(function: Callable[[], T]) -> T | None:
    """Calls a function on the first process while the others wait, and returns None on these.

    Raises:
        ProcessError: on the other processes, if the function has raised an error.
    """
    if not several():
        return function()
    result, error = None, None
    if is_first():
        try:
            result = function()
        except Exception as caught:
            error = caught
    message = broadcast_text("" if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    if message:
        raise ProcessError(f"Process 0 has failed. {message}")
    return result


def broadcast_text(text: str) -> str:
    """Returns the text of the first process."""
    if not several():
        return text
    own = text.encode()
    size = int(multihost_utils.broadcast_one_to_all(np.asarray(len(own), np.int32)))
    return bytes(_broadcast_bytes(own if is_first() else bytes(size))).decode()


def broadcast(tree: PyTree, like: PyTree) -> PyTree:
    """Returns the NumPy arrays and keys of the first process.

    Args:
        tree: on the first process, arrays and keys; ignored on the others.
        like: on every process, a tree with their structure, shapes and dtypes.
    """
    source = tree if is_first() else like

    def one(leaf: PyTree) -> PyTree:
        if _is_key(leaf):
            data = one(np.asarray(jax.random.key_data(leaf)))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        array = np.asarray(leaf)
        return _broadcast_bytes(array.tobytes()).view(array.dtype).reshape(array.shape)

    return jax.tree.map(one, source)


def _broadcast_bytes(data: bytes) -> np.ndarray:
    """Returns the bytes of the first process; their number must be the same on all."""
    # Bytes, since the broadcast is a sum, which does not keep the sign of zero.
    own = np.frombuffer(data, np.uint8)
    return np.array(multihost_utils.broadcast_one_to_all(own)) if own.size else own


def any_process(*flags: bool) -> tuple[bool, ...]:
    """Returns for each flag whether it is set on any process."""
    if not several():
        return flags
    return tuple(multihost_utils.process_allgather(np.asarray(flags)).any(axis=0).tolist())


def whole(tree: PyTree) -> PyTree:
    """Returns a tree with arrays that are divided over processes as NumPy arrays on each."""

    def one(leaf: PyTree) -> PyTree:
        if not is_global(leaf):
            return leaf
        if _is_key(leaf):
            data = multihost_utils.process_allgather(jax.random.key_data(leaf), tiled=True)
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        if leaf.is_fully_replicated:
            return np.asarray(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(one, tree)


def is_global(leaf: object) -> bool:
    """Returns whether a leaf is an array on devices of several processes."""
    return isinstance(leaf, jax.Array) and not leaf.is_fully_addressable


@contextmanager
def noticing_others() -> Iterator[None]:
    """Turns what JAX raises where another process has ended into a ProcessError."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not several() or not any(word in str(error) for word in _LOST):
            raise
        raise ProcessError(
            f"Process {jax.process_index()} of {jax.process_count()} cannot reach another one, "
            f"which has ended ({_first_line(error)}): start all processes again; a fit with a "
            "checkpoint continues from it, also with another number of processes."
        ) from error


def _is_key(leaf: PyTree) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
