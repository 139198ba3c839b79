"""Damages the checkpoints of a small fit in many ways, and resumes it: every damage is noticed.

    python scripts/faults/damage_checkpoints.py [--cases 200] [--seed 0]

Each case is a copy of the checkpoints of `small_fit`, in which bits are flipped, or a file is cut,
emptied, lengthened, removed or exchanged for one of another checkpoint. In three of four cases the
newest checkpoint is damaged: the fit must warn, name the file, continue from the one before it, and
end bit for bit where the fit without damage does. Else all are damaged: the fit must be refused.
Exits with 1 if a case is not as it must be.
"""

import argparse
import collections
import random
import shutil
import tempfile
import warnings
from pathlib import Path

import jax
import numpy as np
import small_fit

from bnn_jax import Fit
from bnn_jax.fitting.checkpoint import CheckpointError, CheckpointWarning

KINDS = ("flipped", "flipped", "cut", "emptied", "longer", "removed", "exchanged")


def damage(checkpoint: Path, other: Path, kind: str, rng: random.Random) -> Path:
    """Damages a random file of a checkpoint, and returns it."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    file = rng.choice([f for f in files if f.stat().st_size])
    data = bytearray(file.read_bytes())
    if kind == "flipped":
        for _ in range(rng.choice([1, 1, 1, 8])):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del data[rng.randrange(len(data)) :]
    elif kind == "emptied":
        data.clear()
    elif kind == "longer":
        data += bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
    elif kind == "exchanged":
        twin = other / file.relative_to(checkpoint)
        data = bytearray(twin.read_bytes() if twin.is_file() else b"{}")
        data += b" " * (bytes(data) == file.read_bytes())
    if kind == "removed":
        file.unlink()
    else:
        file.write_bytes(bytes(data))
    return file


def outcome(folder: Path, damaged: list[Path], expected: Fit) -> str:
    """Resumes the fit in a folder with damaged files; returns "" or what is wrong."""
    all_damaged = len(damaged) > 1
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CheckpointWarning)
        try:
            result = small_fit.fitted(folder)
        except CheckpointError as error:
            return "" if all_damaged else f"refused: {error}"
    messages = [str(w.message) for w in caught if w.category is CheckpointWarning]
    if all_damaged or not messages:
        return "not noticed"
    # With the contents of another checkpoint, the files are what differs.
    if damaged[0].name not in messages[0] and damaged[0].name != "contents.json":
        return f"{damaged[0].name} is not named: {messages[0]}"
    pairs = zip(*(jax.tree.leaves(fit.posterior) for fit in (result, expected)), strict=True)
    same = all(np.array_equal(a, b) for a, b in pairs)
    return "" if same else "another posterior"


def main() -> None:
    """Runs all cases and prints how many damages were noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    kinds: collections.Counter[str] = collections.Counter()
    failed = 0
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root) / "whole"
        expected = small_fit.fitted(whole)
        checkpoints = sorted(path for path in whole.iterdir() if path.is_dir())
        for case in range(options.cases):
            copy = Path(root) / str(case)
            shutil.copytree(whole, copy)
            paths = [copy / path.name for path in checkpoints]
            kind = KINDS[case % len(KINDS)]
            chosen = paths if case % 4 == 3 else paths[-1:]
            files = [
                damage(path, paths[0 if path != paths[0] else 1], kind, rng) for path in chosen
            ]
            found = outcome(copy, files, expected)
            kinds[kind] += not found
            if found:
                failed += 1
                print(f"case {case}, {kind} {files[0].relative_to(copy)}: {found}")
            shutil.rmtree(copy)
    print(", ".join(f"{count} {kind}" for kind, count in kinds.items()))
    print(f"{options.cases} damaged, {options.cases - failed} noticed")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
