"""What `bnn-jax train` does with a mutated config, in this process.

The command runs up to the point where the run folder would be created. It must get there, or refuse
the config by exit code 2 and one line of bounded length, with nothing written, in little time and
memory.
"""

import contextlib
import dataclasses
import io
import signal
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

from config_mutations import BASES, ROWS, Mutation, dumped, put

from bnn_jax import cli
from bnn_jax.cli import errors
from bnn_jax.experiment.folder import RunFolder

MAX_LINE, MAX_SECONDS, MAX_BYTES, HANG = 2100, 5.0, 500e6, 60.0


class Accepted(BaseException):
    """The run folder would be created now."""


class Hang(BaseException):
    """The command takes longer than `HANG`."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the command did: "accepted", "refused", or what is wrong.

    Attributes:
        result: one of these.
        line: what it printed to stderr.
        seconds, memory: the time of the processor, and the growth of the process in bytes.
    """

    result: str
    line: str
    seconds: float
    memory: float


def write_files(folder: Path) -> None:
    """Writes the data of the configs, and a run folder to resume."""
    (folder / "house.csv").write_text("\n".join(ROWS) + "\n")
    (folder / "old").mkdir()
    (folder / "old" / "config.yaml").write_text(dumped(put(BASES[0], "output.dir", "old")))


@contextlib.contextmanager
def stopped_before_training() -> Iterator[None]:
    """Runs of this process stop where they would create their folder."""

    def create(self: RunFolder, config: object) -> None:
        raise Accepted

    kept = RunFolder.create, errors.keep_compiled_code
    RunFolder.create, errors.keep_compiled_code = create, lambda: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        RunFolder.create, errors.keep_compiled_code = kept  # type: ignore[method-assign]


def outcome(mutated: Mutation, folder: Path) -> Outcome:
    """Runs `train` in the folder, which is the current one, and says what it did."""
    (folder / "config.yaml").write_bytes(mutated.text)
    before = _tree(folder)
    errors_of_run = io.StringIO()
    result, started, base_memory = "", time.process_time(), _reset_peak()
    signal.signal(signal.SIGALRM, _hang)
    signal.setitimer(signal.ITIMER_REAL, HANG)
    try:
        with contextlib.redirect_stderr(errors_of_run), contextlib.redirect_stdout(errors_of_run):
            code = cli.main(["train", "config.yaml", *mutated.arguments])
        result = "refused" if code == cli.BAD_INPUT else f"exit code {code}"
    except Accepted:
        result = "accepted"
    except Hang:
        result = "hang"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        result = f"traceback {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"
        errors_of_run.write(" ".join(str(error).split())[:500])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds, memory = time.process_time() - started, _peak() - base_memory
    line = errors_of_run.getvalue()
    if _tree(folder) != before:
        result = "files were written"
    if result == "refused":
        result = _checked(line, seconds, memory)
    return Outcome(result, line, seconds, memory)


def _checked(line: str, seconds: float, memory: float) -> str:
    if not line.startswith("error: ") or line.count("\n") != 1:
        return "not one line"
    if len(line) > MAX_LINE or not line[:-1].isprintable():
        return "a long line, or one with control characters"
    if seconds > MAX_SECONDS:
        return "slow"
    return "much memory" if memory > MAX_BYTES else "refused"


def _hang(*_: object) -> None:
    raise Hang


def _tree(folder: Path) -> list[tuple[str, int]]:
    files = (p for p in sorted(folder.rglob("*")) if "__pycache__" not in p.parts)
    return [(str(p), p.stat().st_mtime_ns if p.is_file() else 0) for p in files]


def _reset_peak() -> float:
    """Sets the peak of the process's memory to its present size, and returns that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024.0 * int(line.split()[1])
    return 0.0
