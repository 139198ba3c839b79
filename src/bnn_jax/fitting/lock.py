"""An exclusive lock of a folder: one process at a time writes there.

The file `lock` in the folder names the host, the process and the time. The operating system holds
the lock (flock) and releases it when the process ends, so the lock of a process that is gone is
taken over. File systems without flock are served by the numbers in the file: the process must be
alive, and must have started when the file says so.
"""

import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "lock"


class LockedError(RuntimeError):
    """Another process uses the folder; the message names its host and process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which is created if it does not exist.

    Raises:
        LockedError: a live process holds the lock, or one of another host that may be alive.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME
    descriptor = _acquired(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquired(path: Path) -> int:
    """Returns the open lock file, which names this process."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        descriptor = os.open(path, flags, 0o666)
        try:
            free = _flock(descriptor)
            owner = _read(descriptor)
            if free is False or (owner and _may_be_alive(owner, locks_work=bool(free))):
                raise LockedError(_message(path, owner))
            if _is_still_there(path, descriptor):
                _write(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its former holder has deleted it: there may be a new one


def _flock(descriptor: int) -> bool | None:
    """Takes the system's lock. Returns False if it is taken, None if there are no such locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOLCK, errno.ENOSYS, errno.EINVAL):
            return None
        raise
    return True


def _may_be_alive(owner: dict[str, Any], *, locks_work: bool) -> bool:
    if owner.get("host") != socket.gethostname():
        return True
    if locks_work:
        return False
    pid = owner.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _started(pid) == owner.get("process_start")


def _started(pid: int) -> int | None:
    """Returns when a process started, in clock ticks since the boot; None without /proc."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _is_still_there(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _write(descriptor: int) -> None:
    owner = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "process_start": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(owner) + "\n").encode(), 0)
    os.fsync(descriptor)


def _message(path: Path, owner: dict[str, Any]) -> str:
    who = f"process {owner.get('pid', 'unknown')} on {owner.get('host', 'an unknown host')}"
    cure = "wait for it, stop it, or name another folder"
    if owner.get("host") not in (None, socket.gethostname()):
        cure += f"; if it is gone, delete {path}"
    return f"{path.parent} is in use by {who} since {owner.get('since', 'just now')}: {cure}."
