"""Where a run folder comes from: origin.json, written when the run is created.

    {"host": ..., "machine": ..., "uid": ..., "code": {file: SHA-256}, "data": SHA-256 or null}

A config can name Python code, which runs when the run is loaded. Code in a folder that was made
on this machine by this user runs as it is; for any other folder the user is asked for trust first.
This protects from running code unawares. It cannot protect from who can write to the folder and
knows this machine's id.
"""

import hashlib
import json
import os
import socket
import uuid
from pathlib import Path

import numpy as np

from bnn_jax.config import own
from bnn_jax.config.schema import Config
from bnn_jax.experiment import user_files
from bnn_jax.experiment.examples import Images, Points
from bnn_jax.experiment.folder import Record, RunError
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.fitting.files import write_json

ORIGIN = "origin.json"


def record(folder: Path, config: Config, examples: Images | Points | Arrays) -> None:
    """Records this machine, this user, the user's files and the data, unless the folder has it."""
    if (folder / ORIGIN).is_file():
        return
    here = _here()
    code = user_files.keep(folder, config)
    write_json(folder / ORIGIN, {**here, "code": code, "data": _hash_of(config, examples)})


def check_trusted(folder: Path, config: Config, *, trust: bool) -> None:
    """Checks that a run may be loaded, which runs the Python code that its config names.

    Raises:
        RunError: there is code, the folder was not made on this machine by this user, and trust is
            False.
    """
    code = user_files.code_of(config)
    if not code or trust or _is_ours(folder):
        return
    raise RunError(
        f"The run in {folder} names Python code ({', '.join(code)}) and was not made on this "
        f"machine by this user: read the code, in {folder / user_files.CODE} if the run keeps it, "
        "and give --trust (in Python trust=True) to run it."
    )


def with_kept_code(folder: Path, config: Config) -> Config:
    """Returns the config of a run with its kept code in place of files that have changed."""
    return user_files.with_kept(folder, config, _code(folder))


def check_same_code(folder: Path, config: Config) -> None:
    """Raises RunError if the user's files have changed since a run was started."""
    user_files.check_unchanged(config, _code(folder))


def check_same_data(folder: Path, config: Config, examples: Images | Points | Arrays) -> None:
    """Checks that own data are those that a run was trained on.

    With others, columns could be encoded in another way, and training examples be held out.

    Raises:
        RunError: they have changed.
    """
    before = data_hash(folder)
    if before is not None and before != _hash_of(config, examples):
        raise RunError(
            f"The data of the run in {folder} have changed since it was trained: restore them, or "
            "train again."
        )


def data_hash(folder: Path) -> str | None:
    """Returns the SHA-256 of a run's own data, or None if it is not recorded."""
    digest = _read(folder).get("data")
    return digest if isinstance(digest, str) else None


def _code(folder: Path) -> user_files.Hashes:
    """The recorded hashes, without names that lead out of the folder."""
    code = _read(folder).get("code")
    if not isinstance(code, dict):
        return {}
    names = {name: digest for name, digest in code.items() if isinstance(digest, str)}
    return {
        n: h for n, h in names.items() if not Path(n).is_absolute() and ".." not in Path(n).parts
    }


def _is_ours(folder: Path) -> bool:
    found = _read(folder)
    return all(found.get(name) == value for name, value in _here().items())


def _here() -> Record:
    return {"host": socket.gethostname(), "machine": _machine(), "uid": os.getuid()}


def _machine() -> str:
    """A hash of this machine's id, which other machines cannot guess."""
    try:
        text = Path("/etc/machine-id").read_text().strip()
    except OSError:
        text = ""
    text = text or f"{uuid.getnode():x}"
    return hashlib.sha256(f"bnn_jax {text}".encode()).hexdigest()[:32]


def _read(folder: Path) -> Record:
    try:
        found = json.loads((folder / ORIGIN).read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _hash_of(config: Config, examples: Images | Points | Arrays) -> str | None:
    """The SHA-256 of own data; None for data sets by name, which do not change."""
    if not isinstance(config.data, own.OwnData):
        return None
    digest = hashlib.sha256()
    for array in (*examples.train, *examples.held_out):
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
