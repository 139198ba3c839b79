"""One of several processes that fit and predict together, and write their results.

python hosts_program.py PORT PROCESS PROCESSES FOLDER [quick]

FOLDER/PROCESSES/NAME.npz has the losses, the posterior and the predictions of a fit. One process
uses one device.
"""

import signal
import sys
from pathlib import Path
from typing import Any

import jax
import mesh_program as program
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bnn_jax import Fit, noise
from bnn_jax.devices import processes

PORT, PROCESS, PROCESSES = (int(argument) for argument in sys.argv[1:4])
FOLDER = Path(sys.argv[4])
EVERYWHERE = {"data": 4, "samples": 2}
# Names of the results, and how they are computed on several processes.
CASES: dict[str, dict[str, Any]] = {
    "reparam": {"mesh": {"data": 8}},
    "local_reparam": {"mesh": {"samples": 8}},
    "flipout": {"mesh": EVERYWHERE, "shard_parameters": True},
    "ensemble": {"mesh": EVERYWHERE},
    "swag": {"mesh": "all"},
    "sghmc": {"mesh": EVERYWHERE, "shard_parameters": True},
}


def fitted(name: str) -> Fit:
    """Returns the fit on the devices of all processes; or on one device."""
    if PROCESSES == 1:
        return program.fitted(name, None)
    return program.fitted(name, **CASES[name])


def interrupted_and_resumed(name: str, checkpoint: Path) -> Fit:
    """Interrupts the fit by a signal to the last process only, and continues it."""

    def stop(line: dict[str, Any], now: Fit) -> None:
        if line["epoch"] == 4 and PROCESS == PROCESSES - 1:
            signal.raise_signal(signal.SIGINT)

    options = {"mesh": "all", **CASES[name]} if PROCESSES > 1 else {"mesh": None}
    with pytest.raises(KeyboardInterrupt):
        program.fitted(name, checkpoint=checkpoint, callbacks=[stop], **options)
    return program.fitted(name, checkpoint=checkpoint, **options)


def predicted(found: Fit) -> Any:
    """Returns predictions of inputs that every process has, or that are divided over all."""
    if PROCESSES == 1:
        return program.predictions(found), found.evaluate(program.X, program.Y, 6)
    mesh = Mesh(np.asarray(jax.devices()), ("examples",))
    examples = NamedSharding(mesh, PartitionSpec("examples"))

    def divided(array: Any) -> jax.Array:  # the number of examples is no multiple of the devices
        whole = jax.make_array_from_callback(
            array.shape, NamedSharding(mesh, PartitionSpec()), lambda index: array[index]
        )
        even = jax.jit(lambda a: a[: len(a) // 8 * 8], out_shardings=examples)(whole)
        assert not even.is_fully_addressable
        assert len(even.addressable_shards[0].data) == len(array) // 8
        return even

    here, scores = program.predictions(found), found.evaluate(program.X, program.Y, 6)
    there = found.predict(divided(program.NEW), 6, targets=divided(program.LABELS))
    for a, b in zip(jax.tree.leaves(there), jax.tree.leaves(here), strict=True):
        np.testing.assert_allclose(a, b[: len(a)] if np.ndim(b) else b, rtol=1e-5, atol=1e-5)
    return here, scores


def check_errors() -> None:
    with pytest.raises(ValueError, match="must have devices of all 2 processes, got those of 1"):
        program.fitted("flipout", 4)
    with pytest.raises(ValueError, match="must have devices of all 2 processes, got those of 0"):
        program.fitted("flipout", None)
    program.X[0, 0] += PROCESS
    with pytest.raises(ValueError, match="process 1 has another data than process 0"):
        program.fitted("flipout", "all")
    program.X[0, 0] -= PROCESS

    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises((OSError, processes.ProcessError), match="disk full"):
        processes.on_first(fail)


def main() -> None:
    quick = "quick" in sys.argv[5:]
    results = FOLDER / str(PROCESSES)
    results.mkdir(exist_ok=True)
    for name in ["flipout"] if quick else CASES:
        found = interrupted_and_resumed(name, results / "checkpoint") if quick else fitted(name)
        losses = [line["loss"] for line in found.history]
        tree = processes.whole((found.posterior, predicted(found)))
        if processes.is_first():
            np.savez(results / f"{name}.npz", np.asarray(losses), *jax.tree.leaves(tree))
    if PROCESSES > 1:
        check_errors()
    print("done", flush=True)


if __name__ == "__main__":
    if PROCESSES > 1:
        processes.start(f"127.0.0.1:{PORT}", PROCESSES, PROCESS)
    with noise.generator("hash"):
        main()
