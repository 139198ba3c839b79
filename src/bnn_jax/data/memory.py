"""The memory of this machine, which what is about to be computed is compared with.

The limit is all of the memory and not what is free: other programs may end.
"""

from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
# Of containers: cgroup versions 2 and 1.
_CGROUPS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
UNKNOWN = float("inf")


def limit() -> float:
    """Returns the bytes of memory and swap that this process can have at most.

    It is infinite where the system does not say.
    """
    system = _meminfo()
    total = system.get("MemTotal", UNKNOWN)
    for file in _CGROUPS:
        try:
            total = min(total, int(file.read_text()))
        except (OSError, ValueError):  # no container, or one without a limit
            continue
    return total + system.get("SwapTotal", 0.0)


def available() -> float | None:
    """Returns the bytes that are free now, or None where the system does not say."""
    return _meminfo().get("MemAvailable")


def in_words(count: float) -> str:
    """Returns a number of bytes as text, such as 3.2 GB."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def shortage(needed: float, most: float | None = None) -> str | None:
    """Returns what is wrong if so many bytes cannot be had, else None.

    Args:
        needed: a lower bound of the bytes.
        most: the limit; None for that of this machine.
    """
    most = limit() if most is None else most
    if needed <= most:
        return None
    free = available()
    now = "" if free is None else f", {in_words(free)} of it free"
    return f"at least {in_words(needed)} of memory, and there are {in_words(most)}{now}"


def _meminfo() -> dict[str, float]:
    """Returns the bytes of each line of /proc/meminfo; empty where there is no such file."""
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        return {}
    words = (line.split() for line in lines)
    return {w[0].rstrip(":"): 1024.0 * int(w[1]) for w in words if len(w) > 1 and w[1].isdigit()}
