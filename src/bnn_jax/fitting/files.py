"""Writes that are complete or did not happen, also when the process or the machine stops.

A file is written under a temporary name in the same folder, flushed to the disk, and renamed; then
the folder is flushed.
"""

import hashlib
import json
import os
import secrets
import shutil
from pathlib import Path

import numpy as np

# Temporary files and folders have this in their names; `remove_partial` deletes them.
PARTIAL = ".partial-"
_CHUNK = 1 << 20


def atomic_write(path: Path, data: bytes) -> None:
    """Writes a file, which has its former or its new contents at every time.

    A symbolic link is replaced by a file, and never followed.
    """
    partial = partial_name(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    descriptor = os.open(partial, flags, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.rename(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file atomically; numbers that are not finite become null."""
    atomic_write(path, (json.dumps(finite(value), indent=1) + "\n").encode())


def partial_name(path: Path) -> Path:
    """Returns a new temporary name in the folder of a path."""
    return path.with_name(f"{PARTIAL}{secrets.token_hex(4)}-{path.name}")


def remove_partial(folder: Path) -> None:
    """Deletes what interrupted writes have left in a folder."""
    for path in folder.glob(f"{PARTIAL}*"):
        remove(path)


def remove(path: Path) -> None:
    """Deletes a file or a folder. A folder is renamed first, so that no part of it stays."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not path.name.startswith(PARTIAL):
        doomed = partial_name(path)
        os.rename(path, doomed)
        path = doomed
    shutil.rmtree(path)


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_tree(folder: Path) -> None:
    """Flushes all files and folders below a folder to the disk."""
    for root, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(Path(root) / name, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        flush_folder(Path(root))


def sha256_of(path: Path) -> str:
    """Returns the SHA-256 of a file's contents, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def finite(value: object) -> object:
    """Returns a JSON value with null in place of numbers that are not finite."""
    if isinstance(value, dict):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
