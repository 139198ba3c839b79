"""Runs `bnn-jax train` on mutated configs, and prints each that is not handled.

    python scripts/faults/mutate_configs.py [--count 5000] [--first 0] [--accepted]

A config must be accepted, or refused by exit code 2 and one line of bounded length, with nothing
written, within 5 seconds of the processor and 500 MB. Exits with 1 if one is not. Mutation `number`
is always the same (tests/faults/config_mutations.py). Memory is limited, so that a run that asks
for too much fails in place of the machine.
"""

import argparse
import collections
import os
import resource
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "faults"))

import config_mutations
import config_outcomes

HEADROOM = 6 * 2**30  # of address space, over what the process has before


def limit_memory() -> None:
    """Limits the address space of this process."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + HEADROOM, size + HEADROOM))


def main() -> None:
    """Runs all mutations, and prints the failures and a table of the outcomes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--accepted", action="store_true", help="print those that are accepted too")
    options = parser.parse_args()
    table: collections.Counter[tuple[str, str]] = collections.Counter()
    failed, slowest, largest = 0, 0.0, 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        config_outcomes.write_files(folder)
        with config_outcomes.stopped_before_training():
            # The first run loads and compiles what the others use.
            config_outcomes.outcome(config_mutations.unchanged(), folder)
            limit_memory()
            for number in range(options.first, options.first + options.count):
                mutated = config_mutations.mutation(number)
                found = config_outcomes.outcome(mutated, folder)
                fine = found.result in ("accepted", "refused")
                table[mutated.kind, found.result if fine else "failed"] += 1
                if found.result == "refused":
                    slowest, largest = max(slowest, found.seconds), max(largest, found.memory)
                if not fine or (options.accepted and found.result == "accepted"):
                    failed += not fine
                    print(
                        f"{number} {mutated.kind}: {found.result} {found.seconds:.1f} s "
                        f"{found.memory / 1e6:.0f} MB {str(mutated.arguments)[:200]} "
                        f"{found.line[:300]!r}",
                        flush=True,
                    )
        os.chdir("/")
    for kind in config_mutations.KINDS:
        counts = [f"{table[kind, r]:5d} {r}" for r in ("refused", "accepted", "failed")]
        print(f"{kind:15s} {'  '.join(counts)}")
    print(
        f"{options.count} mutations, {failed} failed; slowest refusal {slowest:.1f} s, "
        f"most memory of a refusal {largest / 1e6:.0f} MB"
    )
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
