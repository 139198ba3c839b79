"""Results of the benchmark: JSON lines and a table."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

Result = Mapping[str, Any]  # values as in JSON


def table(results: Sequence[Result], other: Sequence[Result] = ()) -> str:
    """Returns a text table of the results, with ratios to the times of another run if given."""
    before = {_name(r): r for r in other}
    columns = ["workload", "kind", "variant", "ratio to plain", "ms", "spread", "compile, s"]
    columns.append("roofline")
    grid = Table(box=box.SIMPLE_HEAD)
    for column in [*columns, *(["ms here / there"] if before else [])]:
        grid.add_column(column, justify="left" if column in columns[:3] else "right")
    for result in results:
        cells = [result["workload"], result["kind"], result["variant"]]
        cells += [f"{result['ratio']:.2f}", f"{result['median_ms']:.2f}"]
        cells += [f"{100 * result['spread']:.0f} %", f"{result['compile_seconds']:.1f}"]
        share = result.get("roofline", 0.0)
        cells.append(f"{100 * share:.0f} %" if share else "")
        if before:
            there = before.get(_name(result))
            cells.append(f"{result['median_ms'] / there['median_ms']:.2f}" if there else "")
        grid.add_row(*cells)
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(grid)
    return "\n".join(line.rstrip() for line in capture.get().splitlines())


def collect(results: Iterable[Result], path: Path | None) -> list[Result]:
    """Returns the results as a list, and appends each to the file, if given, when it is ready."""
    kept = []
    for result in results:
        kept.append(result)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(json.dumps(result) + "\n")
    return kept


def read(path: Path) -> list[Result]:
    """Reads the results of a file that `collect` has written.

    Raises:
        ValueError: the file has other content.
    """
    try:
        results = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        for result in results:
            _name(result), result["median_ms"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} must have the JSON lines of a benchmark.") from error
    return results


def _name(result: Result) -> tuple[str, ...]:
    return tuple(result[k] for k in ("workload", "kind", "variant", "precision"))
