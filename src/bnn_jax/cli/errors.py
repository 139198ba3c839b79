"""The exit codes of the command line, and the errors that they stand for.

| code | meaning |
| --- | --- |
| 0 | success |
| 2 | the config, the arguments, the data or the user's code are wrong, or a package is missing |
| 3 | training diverged |
| 4 | a file could not be written or read: the disk is full, or not accessible |
| 5 | the run is finished, and its deterministic baseline is not |
| 6 | another process of a run on several hosts has ended |
| 130 | interrupted |

Each is reported by one line on stderr. Other errors are bugs and keep their traceback.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import click

from bnn_jax.cli.compiled_code import keep_compiled_code as keep_compiled_code
from bnn_jax.config.errors import ConfigError

DIVERGED, STORAGE, BASELINE_INCOMPLETE, OTHER_PROCESS = 3, 4, 5, 6

STORAGE_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.EROFS,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
)
# Orbax words the system's errors in exceptions of its own.
STORAGE_WORDS = ("No space left on device", "Disk quota exceeded", "Read-only file system")


class Failure(click.ClickException):
    """An error with its exit code; the message is one line."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(" ".join(message.split()))
        self.code = code


@contextmanager
def user_errors() -> Iterator[None]:
    """Turns errors that the user can fix into ConfigError or Failure; others pass through.

    Compiled programs are kept on disk from here on.
    """
    keep_compiled_code()
    from bnn_jax.data import DataError
    from bnn_jax.devices.processes import ProcessError
    from bnn_jax.experiment import BaselineIncomplete, RunError
    from bnn_jax.fitting.checkpoint import CheckpointError
    from bnn_jax.fitting.divergence import Diverged
    from bnn_jax.fitting.lock import LockedError
    from bnn_jax.models.names import NetworkError
    from bnn_jax.networks.user_code import UserCodeError

    try:
        yield
    except BaselineIncomplete as error:
        raise Failure(str(error), BASELINE_INCOMPLETE) from error
    except ProcessError as error:
        raise Failure(str(error), OTHER_PROCESS) from error
    except Diverged as error:
        raise Failure(str(error), DIVERGED) from error
    except (
        DataError,
        RunError,
        UserCodeError,
        NetworkError,
        CheckpointError,
        LockedError,
    ) as error:
        if _is_storage(error.__cause__):
            raise Failure(str(error), STORAGE) from error
        raise ConfigError(str(error)) from error
    except Exception as error:
        if _is_storage(error):
            raise Failure(f"storage: {error}", STORAGE) from error
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise ConfigError(
            f"out of memory ({str(error)[:200]}): lower training.batch_size, the sizes of the "
            "network or of the data."
        ) from error


def _is_storage(error: BaseException | None) -> bool:
    if isinstance(error, OSError) and error.errno in STORAGE_ERRORS:
        return True
    return error is not None and any(words in str(error) for words in STORAGE_WORDS)
