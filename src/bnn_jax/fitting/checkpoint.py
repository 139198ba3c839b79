"""A folder with the newest state of a fit, written by orbax, and the history of its epochs.

    state/          the newest state (orbax)
    history.json    {"fingerprint": ..., "epochs": [...]}, replaced atomically

The fingerprint identifies the fit: its settings and a hash of its data. A state of another fit is
refused.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


class Folder:
    """The checkpoint folder of one fit. Nothing is written before `save`."""

    def __init__(self, path: str | Path, fingerprint: dict[str, str]) -> None:
        self.path = Path(path).expanduser().absolute()
        self.fingerprint = fingerprint
        existing = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(f"checkpoint must be a folder that can be written, got {path}.")

    def restore(self, like: PyTree) -> tuple[PyTree, list[dict[str, Any]]] | None:
        """Returns the newest state and the history up to it, or None if there is no state.

        Args:
            like: a state of the same structure, shapes and dtypes.

        Raises:
            CheckpointError: the state belongs to another fit, or cannot be read.
        """
        file = self.path / "history.json"
        if not file.is_file():
            return None
        saved = json.loads(file.read_text())
        changed = [n for n, v in self.fingerprint.items() if saved["fingerprint"].get(n) != v]
        if changed:
            raise CheckpointError(
                f"{self.path} holds the state of another fit (different {', '.join(changed)}): "
                "name another checkpoint folder, or call fit as before."
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(like))
        with self._manager() as manager:
            step = manager.latest_step()
            if step is None:
                return None
            try:
                state = manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except (ValueError, OSError, KeyError) as error:
                raise CheckpointError(
                    f"The state in {self.path} cannot be read ({str(error)[:120]}): delete the "
                    "folder to start again."
                ) from error
        epochs = [line for line in saved["epochs"] if line["step"] <= step]
        return state, epochs

    def save(self, step: int, state: PyTree, history: list[dict[str, Any]]) -> None:
        """Saves the state, then the history. Both writes are atomic."""
        self.path.mkdir(parents=True, exist_ok=True)
        with self._manager() as manager:
            if manager.latest_step() != step:
                manager.save(step, args=ocp.args.StandardSave(_arrays(state)))
        write_json(self.path / "history.json", {"fingerprint": self.fingerprint, "epochs": history})

    def _manager(self) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self.path / "state", options=options)


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically; numbers that are not finite become null."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(_finite(value), indent=1) + "\n")
    partial.replace(path)


def hash_of(tree: PyTree) -> str:
    """Returns a hash of all arrays of a tree: their shapes, dtypes and bytes."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{array.shape}{array.dtype}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _arrays(tree: PyTree) -> PyTree:
    return jax.tree.map(jnp.asarray, tree)
