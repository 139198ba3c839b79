"""A folder with arrays and a JSON record, which is either whole or refused.

    arrays/         the arrays (orbax)
    contents.json   {"sha256": hash of the rest, "record": ..., "arrays": ..., "files": ...}

`contents.json` has the SHA-256 of every file, and the name, shape, dtype and CRC-32 of every array.
All of them are checked when the folder is read, so a changed, cut or missing file is noticed, and
so is an array that orbax does not return as it was. The folder is written under a temporary name,
flushed to the disk and renamed: it is complete if it exists.
"""

import hashlib
import json
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.devices import processes
from bnn_jax.fitting import files

Record = dict[str, Any]  # a JSON object

CONTENTS, ARRAYS = "contents.json", "arrays"


class BrokenError(ValueError):
    """A sealed folder is damaged; the message names the file and what is wrong with it."""


class StructureError(ValueError):
    """A sealed folder holds arrays other than those that are asked for."""


def write(path: Path, tree: PyTree, record: Record) -> None:
    """Writes a new sealed folder.

    Args:
        path: the folder, which does not exist; its parent does.
        tree: arrays and PRNG keys.
        record: a JSON value; NaN and infinities are kept.
    """
    named = _named(tree)
    partial = files.partial_name(path)
    partial.mkdir()
    try:
        # Orbax refuses arrays without elements; they are made again from their shapes.
        kept = stored({str(i): a for i, (_, a) in enumerate(named) if a.size})
        with checkpointer() as own:
            own.save(partial / ARRAYS, args=ocp.args.StandardSave(kept))
        files.flush_tree(partial / ARRAYS)
        contents = {
            "record": record,
            "arrays": [[name, *_described(a)] for name, a in named],
            "files": {name: files.sha256_of(partial / name) for name in _names(partial)},
        }
        files.atomic_write(partial / CONTENTS, _sealed_text(contents))
        os.rename(partial, path)
    except BaseException:
        files.remove(partial)
        raise
    files.flush_folder(path.parent)


def read_record(path: Path) -> Record:
    """Returns the record of a sealed folder, after a check of all files.

    Raises:
        BrokenError: a file was changed, cut, removed or added.
    """
    return _checked_contents(path)["record"]


def read(
    path: Path, like: PyTree, *, check: Callable[[Record], None] | None = None
) -> tuple[PyTree, Record]:
    """Returns the arrays and the record of a sealed folder, after a check of all files.

    Args:
        path: the folder.
        like: a tree of the same structure, shapes and dtypes, with the shardings to restore to.
        check: called with the record before the arrays are compared with those of `like`.

    Raises:
        BrokenError: a file was changed, cut, removed or added.
        StructureError: the arrays of `like` are others.
    """
    contents = _checked_contents(path)
    if check is not None:
        check(contents["record"])
    named = _named(like)
    _check_structure(contents["arrays"], named)
    abstract = {str(i): _abstract(a) for i, (_, a) in enumerate(named) if a.size}
    try:
        with checkpointer() as own:
            restored = own.restore(path / ARRAYS, args=ocp.args.StandardRestore(abstract))
    except (ValueError, OSError, KeyError) as error:
        message = f"{path / ARRAYS} cannot be read ({' '.join(str(error).split())[:120]})"
        raise BrokenError(message) from error
    leaves = [
        _as(a, restored[str(i)]) if a.size else jnp.zeros(a.shape, a.dtype)
        for i, (_, a) in enumerate(named)
    ]
    for (name, *description), leaf in zip(contents["arrays"], leaves, strict=True):
        if description != _described(leaf):
            raise BrokenError(f"the array {name} in {path / ARRAYS} is not the one that was saved")
    return jax.tree.unflatten(jax.tree.structure(like), leaves), contents["record"]


def checkpointer() -> ocp.Checkpointer:
    """Returns an orbax checkpointer that waits for no other process, if there are several."""
    if not processes.several():
        return ocp.Checkpointer(ocp.StandardCheckpointHandler())
    own = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )
    return ocp.Checkpointer(
        ocp.StandardCheckpointHandler(multiprocessing_options=options),
        multiprocessing_options=options,
    )


def stored(tree: PyTree) -> PyTree:
    """Returns arrays as orbax takes them: with several processes none of JAX, and no keys."""
    if not processes.several():
        return tree

    def one(array: jax.Array) -> np.ndarray:
        return np.asarray(jax.random.key_data(array) if _is_key(array) else array)

    return jax.tree.map(one, tree)


def _abstract(array: jax.Array | jax.ShapeDtypeStruct) -> PyTree:
    if not processes.several():
        return ocp.utils.to_shape_dtype_struct(array)
    return stored(jnp.zeros(array.shape, array.dtype))


def _as(like: PyTree, restored: PyTree) -> jax.Array:
    """Returns a restored array as a key if it must be one."""
    if _is_key(like) and not _is_key(restored):
        return jax.random.wrap_key_data(restored, impl=jax.random.key_impl(like))
    return restored


def _checked_contents(path: Path) -> Record:
    file = path / CONTENTS
    try:
        text = file.read_bytes()
        contents = json.loads(text)
        del contents["sha256"]
        whole = text == _sealed_text(contents) and set(contents) == {"record", "arrays", "files"}
    except OSError as error:
        raise BrokenError(f"{file} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BrokenError(f"{file} is damaged") from error
    if not whole:
        raise BrokenError(f"{file} is damaged (its SHA-256 differs)")
    found = set(_names(path)) - {CONTENTS}
    for name, digest in contents["files"].items():
        if name not in found:
            raise BrokenError(f"{path / name} is missing")
        try:
            same = files.sha256_of(path / name) == digest
        except OSError as error:
            raise BrokenError(f"{path / name} cannot be read ({error.strerror})") from error
        if not same:
            raise BrokenError(f"{path / name} is damaged (its SHA-256 differs)")
    if extra := found - set(contents["files"]):
        raise BrokenError(f"{path / min(extra)} is not a file of the checkpoint")
    return contents


def _check_structure(saved: list[list[PyTree]], named: list[tuple[str, PyTree]]) -> None:
    before = {name: (tuple(shape), dtype) for name, shape, dtype, _ in saved}
    now = {name: (tuple(a.shape), str(a.dtype)) for name, a in named}
    if before == now and [line[0] for line in saved] == [name for name, _ in named]:
        return
    for name in [*before, *now]:
        if before.get(name) != now.get(name):
            raise StructureError(
                f"the array {name} is {before.get(name, 'missing')} there and "
                f"{now.get(name, 'missing')} here"
            )
    raise StructureError("the arrays are in another order")


def _named(tree: PyTree) -> list[tuple[str, PyTree]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [
        (
            gaussian.path_name(path) or "value",
            leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jnp.asarray(leaf),
        )
        for path, leaf in leaves
    ]


def _described(array: jax.Array) -> list[PyTree]:
    """Returns [shape, dtype, CRC-32 of the bytes]."""
    value = jax.random.key_data(array) if _is_key(array) else array
    data = np.ascontiguousarray(value).tobytes()
    return [list(array.shape), str(array.dtype), zlib.crc32(data)]


def _is_key(array: PyTree) -> bool:
    return bool(jnp.issubdtype(array.dtype, jax.dtypes.prng_key))


def _names(path: Path) -> list[str]:
    """Returns the names of all files below a folder, relative to it."""
    found = (Path(root) / name for root, _, names in os.walk(path) for name in names)
    return sorted(file.relative_to(path).as_posix() for file in found)


def _sealed_text(contents: Record) -> bytes:
    seal = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    return (json.dumps({"sha256": seal, **contents}, indent=1) + "\n").encode()
