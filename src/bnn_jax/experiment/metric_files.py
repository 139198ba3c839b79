"""The metrics of a run in other forms than metrics.jsonl, on request (`output.metrics`).

    metrics.csv     a line for each epoch
    tensorboard/    event files, written by tensorboardX

Scores of held-out examples have names such as test/nll.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bnn_jax._extras import optional_import
from bnn_jax.fitting.files import atomic_write

Record = dict[str, Any]
Writer = Callable[[Sequence[Record]], None]


def check(forms: Sequence[str]) -> None:
    """Raises MissingExtra if a form needs a package that is not installed."""
    if "tensorboard" in forms:
        with optional_import("output.metrics tensorboard"):
            import tensorboardX  # noqa: F401


@contextmanager
def writer(folder: Path, forms: Sequence[str]) -> Iterator[Writer]:
    """Opens the files of these forms.

    Args:
        folder: the run folder.
        forms: "csv", "tensorboard".

    Yields:
        A function of the history of all epochs, to call after each.
    """
    with ExitStack() as files:
        writers: list[Writer] = []
        if "csv" in forms:
            writers.append(lambda history: write_csv(folder / "metrics.csv", history))
        if "tensorboard" in forms:
            writers.append(files.enter_context(_events(folder / "tensorboard")))

        def write(history: Sequence[Record]) -> None:
            for each in writers:
                each(history)

        yield write


def write_csv(file: Path, history: Sequence[Record]) -> None:
    """Writes a line for each epoch; a score that an epoch lacks is empty."""
    lines = [flat(line) for line in history]
    names = list(dict.fromkeys(name for line in lines for name in line))
    text = io.StringIO()
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    table.writerows(lines)
    atomic_write(file, text.getvalue().encode())


def flat(line: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Returns the numbers of an epoch, those of a group as group/name."""
    found: dict[str, float] = {}
    for name, value in line.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found[f"{prefix}{name}"] = value
    return found


@contextmanager
def _events(folder: Path) -> Iterator[Writer]:
    import tensorboardX

    opened: list[Any] = []

    def write(history: Sequence[Record]) -> None:
        line = flat(history[-1])
        epoch = int(line.pop("epoch"))
        if not opened:
            # A continued run replaces what it had written after its checkpoint.
            purge = epoch if len(history) > 1 else None
            opened.append(tensorboardX.SummaryWriter(str(folder), purge_step=purge))
        for name, value in line.items():
            opened[0].add_scalar(name, value, epoch)
        opened[0].flush()

    try:
        yield write
    finally:
        for events in opened:
            events.close()
