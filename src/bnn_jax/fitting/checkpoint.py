"""The checkpoints of one fit: the newest states, each in a sealed folder, and what identifies them.

    000000-step-0/   the first state and its history (see `sealed`)
    000001-step-10/
    lock             host and process of the fit that writes here (see `lock`)

The newest whole checkpoint is used; a damaged one is named in a warning. The fingerprint identifies
the fit: its settings, and hashes of its data, its key and its model. A state of another fit is
refused.

Of several processes the first one writes and reads the files, and the others get what it has read.
So a checkpoint does not depend on the number of processes.
"""

import hashlib
import json
import os
import re
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.devices import processes
from bnn_jax.devices.placement import put
from bnn_jax.fitting import files, sealed
from bnn_jax.fitting.sealed import Record as Record

_NAME = re.compile(r"(\d{6,})-step-(\d+)")


class CheckpointError(ValueError):
    """A checkpoint cannot be used; the message says why and what to do."""


class CheckpointWarning(UserWarning):
    """A checkpoint is damaged, and an older one is used."""


class Folder:
    """The checkpoint folder of one fit. Nothing is written before `save`.

    Attributes:
        path: the folder.
        fingerprint: {name: text} of what must be the same for a state to be of this fit.
        keep: number of checkpoints that are kept.
    """

    def __init__(self, path: str | Path, fingerprint: dict[str, str], *, keep: int = 3) -> None:
        self.path = Path(path).expanduser().absolute()
        self.fingerprint = fingerprint
        self.keep = keep
        self._broken: set[Path] = set()
        processes.on_first(self._check_writable)

    def restore(self, like: PyTree) -> tuple[PyTree, Record] | None:
        """Returns the newest whole state and its record, or None if there is no checkpoint.

        Args:
            like: a state of the same structure, shapes and dtypes.

        Raises:
            CheckpointError: no checkpoint is whole, or the state belongs to another fit.
        """
        if not processes.several():
            return self._restore(like)
        host = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
        found = processes.on_first(lambda: self._restore(host))
        state, record = found or (host, None)
        record = json.loads(processes.broadcast_text(json.dumps(record)))
        if record is None:
            return None
        state = processes.broadcast(state, host)
        return jax.tree.map(_placed_as, state, like), record

    def _restore(self, like: PyTree) -> tuple[PyTree, Record] | None:
        checkpoints = self.checkpoints()
        damage: list[str] = []
        for path in reversed(checkpoints):
            try:
                state, record = sealed.read(path, like, check=self._check_fingerprint)
            except sealed.BrokenError as error:
                damage.append(str(error))
                self._broken.add(path)
                continue
            except sealed.StructureError as error:
                raise CheckpointError(
                    f"{path} was written by another version of the program ({error}): name "
                    "another checkpoint folder to start again."
                ) from error
            if damage:
                warnings.warn(
                    f"{'; '.join(damage)}. The checkpoint {path.name} is used instead.",
                    CheckpointWarning,
                    stacklevel=2,
                )
            return state, record["record"]
        if damage:
            raise self._none_is_whole(damage)
        return None

    def newest_record(self) -> Record | None:
        """Returns the record of the newest whole state, or None if there is no checkpoint."""
        found = processes.on_first(self._newest_record)
        return json.loads(processes.broadcast_text(json.dumps(found)))

    def _newest_record(self) -> Record | None:
        damage: list[str] = []
        for path in reversed(self.checkpoints()):
            try:
                return sealed.read_record(path)["record"]
            except sealed.BrokenError as error:
                damage.append(str(error))
        if damage:
            raise self._none_is_whole(damage)
        return None

    def save(self, step: int, state: PyTree, record: Record) -> None:
        """Saves a new checkpoint, flushed to the disk, then deletes those that are too many.

        Args:
            step: the state's step, for the name of the checkpoint.
            state: a tree of arrays and PRNG keys.
            record: a JSON value that belongs to the state, such as the history.
        """
        state = processes.whole(state)
        processes.on_first(lambda: self._save(step, state, record))

    def _save(self, step: int, state: PyTree, record: Record) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        files.remove_partial(self.path)
        before = self.checkpoints()
        last = _NAME.fullmatch(before[-1].name) if before else None
        number = int(last[1]) + 1 if last else 0
        path = self.path / f"{number:06}-step-{step}"
        sealed.write(path, state, {"fingerprint": self.fingerprint, "record": record})
        whole = [p for p in before if p not in self._broken]
        for old in {*whole[: max(0, len(whole) + 1 - self.keep)], *self._broken}:
            files.remove(old)
        self._broken.clear()

    def checkpoints(self) -> list[Path]:
        """Returns the folders of all checkpoints, the oldest first."""
        if not self.path.is_dir():
            return []
        found = [(m, p) for p in self.path.iterdir() if (m := _NAME.fullmatch(p.name))]
        return [path for _, path in sorted(found, key=lambda item: int(item[0][1]))]

    def _check_writable(self) -> None:
        existing = next(p for p in (self.path, *self.path.parents) if p.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise CheckpointError(
                f"checkpoint must be a folder that can be written, got {self.path}."
            )

    def _none_is_whole(self, damage: list[str]) -> CheckpointError:
        return CheckpointError(
            f"No checkpoint in {self.path} is whole: {'; '.join(damage)}. Name another folder, or "
            "delete this one, to start again."
        )

    def _check_fingerprint(self, record: Record) -> None:
        saved: dict[str, str] = record["fingerprint"]
        names = {**self.fingerprint, **saved}
        changed = [n for n in names if saved.get(n) != self.fingerprint.get(n)]
        if changed:
            raise CheckpointError(
                f"{self.path} holds the state of another fit (different {', '.join(changed)}): "
                "name another checkpoint folder, or call fit as before."
            )


def _placed_as(value: PyTree, leaf: PyTree) -> PyTree:
    return put(value, leaf.sharding) if processes.is_global(leaf) else value


def hash_of(tree: PyTree) -> str:
    """Returns a hash of a tree: the names, shapes, dtypes and bytes of its arrays.

    Leaves that are no arrays or numbers count by their type.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        array = np.asarray(leaf)
        name = gaussian.path_name(path)
        if array.dtype == object:
            digest.update(f"{name} {type(leaf).__qualname__}\n".encode())
            continue
        digest.update(f"{name} {array.shape} {array.dtype}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:32]
