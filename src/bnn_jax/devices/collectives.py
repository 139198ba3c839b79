"""The bytes that a compiled program sends between devices, from its HLO text.

compiled = jax.jit(step).lower(state, key, batch).compile()
collective_bytes(compiled.as_text())    # {"all-reduce": 1_234, ...}
"""

import math
import re
from collections import Counter

KINDS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$")
_COLLECTIVE = re.compile(rf"= (.*?) ({'|'.join(KINDS)})(-start)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\w*\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


def collective_bytes(hlo: str) -> dict[str, int]:
    """Returns the bytes of the results of a program's collectives on each device, by operation.

    An operation in a loop counts as often as the loop runs.

    Args:
        hlo: the text of a compiled program, `compiled.as_text()`.

    Raises:
        ValueError: a loop with a collective runs a number of times that the program does not state.
    """
    computations, entry = _parsed(hlo)
    return dict(sorted(_total(entry, computations).items()))


def _parsed(hlo: str) -> tuple[dict[str, list[str]], str]:
    """Returns the lines of each computation, and the name of the first to run."""
    computations: dict[str, list[str]] = {}
    entry, lines = "", list[str]()
    for line in hlo.splitlines():
        if (found := _COMPUTATION.match(line)) and not line.startswith("HloModule"):
            lines = computations[found[1]] = []
            if line.startswith("ENTRY"):
                entry = found[1]
        else:
            lines.append(line)
    if not entry:
        raise ValueError("hlo must be the text of a compiled program, and has no ENTRY.")
    return computations, entry


def _total(name: str, computations: dict[str, list[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for line in computations.get(name, ()):
        if found := _COLLECTIVE.search(line):
            total[found[2]] += _bytes(found[1], is_pair=bool(found[3]) and "gather" in found[2])
        called = _CALLED.findall(line)
        for branches in _BRANCHES.findall(line):
            called += re.findall(r"[\w.\-]+", branches)
        for other in called:
            inner = _total(other, computations)
            if inner and " while(" in line:
                trips = _TRIPS.search(line)
                if trips is None:
                    raise ValueError(
                        f"The loop {other} has collectives ({', '.join(inner)}) and runs an "
                        "unknown number of times."
                    )
                inner = Counter({kind: int(trips[1]) * n for kind, n in inner.items()})
            total += inner
    return total


def _bytes(shape: str, *, is_pair: bool) -> int:
    """Returns the bytes of an array or a tuple; of (operand, result), those of the result."""
    sizes = [
        math.prod(int(n) for n in dimensions.split(",") if n) * _item_bytes(dtype)
        for dtype, dimensions in _ARRAY.findall(shape)
    ]
    return sizes[-1] if is_pair else sum(sizes)


def _item_bytes(dtype: str) -> int:
    bits = re.search(r"\d+", dtype)
    return 1 if bits is None else max(1, int(bits[0]) // 8)
