"""The user's Python files of a run, kept in its folder so that it is loaded with the same code.

    code/model/nets.py        the file that model.file names, and what it imports beside itself
    code/data/load_data.py    the same for data.file

The SHA-256 of each copy is recorded in origin.json (see `origin`). While the original files are
unchanged they are used, for code may read other files beside itself; else the copies are.
"""

import sys
from pathlib import Path

from bnn_jax.config import own
from bnn_jax.config.schema import Config
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting import files

CODE = "code"
Hashes = dict[str, str]  # {path below code/: SHA-256}


def named_files(config: Config) -> dict[str, Path]:
    """Returns the Python files that a config names: {section: file}."""
    found: dict[str, Path] = {}
    if isinstance(config.model, own.FileNetwork):
        found["model"] = config.model.file
    if isinstance(config.data, own.PythonData):
        found["data"] = config.data.file
    return found


def code_of(config: Config) -> list[str]:
    """Returns each setting that makes Python code run when the run is loaded, with its value."""
    found = [f"{section}.file {file}" for section, file in named_files(config).items()]
    if isinstance(config.model, own.ImportedNetwork):
        found.append(f"model.import {config.model.imported}")
    return found


def keep(folder: Path, config: Config) -> Hashes:
    """Copies the user's files into the run folder, and returns their hashes.

    They must have been imported, so that the files that they import are known.
    """
    hashes: Hashes = {}
    for section, file in named_files(config).items():
        root = file.expanduser().resolve().parent
        for source in (file.expanduser().resolve(), *_imported_from(root)):
            name = f"{section}/{source.relative_to(root).as_posix()}"
            copy = folder / CODE / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            files.atomic_write(copy, source.read_bytes())
            hashes[name] = files.sha256_of(copy)
    return hashes


def with_kept(folder: Path, config: Config, hashes: Hashes) -> Config:
    """Returns the config with the kept files in place of those that have changed.

    Raises:
        RunError: a kept file is needed and damaged or missing.
    """
    changed: dict[str, object] = {}
    for section, file in named_files(config).items():
        original = file.expanduser().resolve()
        own_hashes = {n: h for n, h in hashes.items() if n.startswith(f"{section}/")}
        if not own_hashes or changed_file(original.parent, section, own_hashes) is None:
            continue
        damaged = changed_file(folder / CODE / section, section, own_hashes)
        if damaged is not None:
            raise RunError(
                f"{damaged} is not the file that the run was trained with: it was changed or "
                "removed. Restore it from a copy of the run folder, or train again."
            )
        copy = folder / CODE / section / original.name
        kept = getattr(config, section).model_copy(update={"file": copy})
        changed[section] = kept
    return config.model_copy(update=changed)


def check_unchanged(config: Config, hashes: Hashes) -> None:
    """Checks that the user's files are those that a run was started with.

    Raises:
        RunError: one has changed.
    """
    for section, file in named_files(config).items():
        own_hashes = {n: h for n, h in hashes.items() if n.startswith(f"{section}/")}
        changed = changed_file(file.expanduser().resolve().parent, section, own_hashes)
        if changed is not None:
            raise RunError(
                f"{changed} has changed since the run was started: restore it from the folder "
                f"{CODE} of the run, or start a new run in another output.dir."
            )


def changed_file(root: Path, section: str, hashes: Hashes) -> Path | None:
    """Returns the first file below a folder that is not as recorded, or None."""
    for name, digest in hashes.items():
        file = root / name.removeprefix(f"{section}/")
        if not file.is_file() or files.sha256_of(file) != digest:
            return file
    return None


def _imported_from(root: Path) -> list[Path]:
    """The files below a folder that this process has imported, without installed packages."""
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        top = name.partition(".")[0]
        if file is None or not file.endswith(".py") or top.startswith(("bnn_jax", "__main__")):
            continue
        path = Path(file).resolve()
        if path.is_relative_to(root) and "site-packages" not in path.parts and path.is_file():
            found.add(path)
    return sorted(found)
