"""A small fit with checkpoints that kills itself at a chosen event; run by `kill_fits`.

    python small_fit.py FOLDER RESULT [EVENT NUMBER]

EVENT is open, write, fsync, rename, unlink or step; the process is killed (SIGKILL) before event
NUMBER of this kind in this process. The posterior's bytes and the losses are written to RESULT.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax import Fit, NormalPrior, fit, infer, likelihoods, to_bnn
from bnn_jax.fitting.watch import Watch

EVENTS = ("open", "write", "fsync", "rename", "unlink", "step")


def kill_at(event: str, number: int) -> None:
    """Replaces one function of the system by one that kills the process at a call."""
    calls = 0

    def killing(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*args, **kwargs)

        return call

    if event == "step":
        Watch.is_due = killing(Watch.is_due)  # type: ignore[method-assign]
    elif event == "write":
        os.fdopen = killing(os.fdopen)  # the file is open, nothing is written
    else:
        setattr(os, event, killing(getattr(os, event)))


def network(params: Any, x: jax.Array) -> jax.Array:
    """Returns the outputs of one hidden layer of 4 tanh."""
    return jnp.tanh(x @ params["first"]) @ params["last"]


def fitted(folder: str | Path) -> Fit:
    """Runs the fit to its end, from its checkpoint if there is one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(24, 3)).astype(np.float32)
    y = x[:, :1] - x[:, 1:2]
    params = {"first": 0.5 * jnp.ones((3, 4)), "last": jnp.ones((4, 1))}
    return fit(
        jax.random.key(0),
        to_bnn(network, params, prior=NormalPrior(std=1.0)),
        (x, y),
        method=infer.bayes_by_backprop(learning_rate=0.02),
        likelihood=likelihoods.Normal(std=0.1),
        epochs=6,
        batch_size=6,
        checkpoint=folder,
        checkpoint_minutes=1e-6,
        progress=False,
    )


def main() -> None:
    """Runs the fit and writes its result."""
    folder, result = sys.argv[1:3]
    if len(sys.argv) > 3:
        kill_at(sys.argv[3], int(sys.argv[4]))
    found = fitted(folder)
    leaves = [np.asarray(leaf).tobytes().hex() for leaf in jax.tree.leaves(found.posterior)]
    losses = [str(line["loss"]) for line in found.history]
    Path(result).write_text("\n".join([*leaves, *losses]) + "\n")


if __name__ == "__main__":
    main()
