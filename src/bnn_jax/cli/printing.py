"""What the commands print: records as indented lines, tables, JSON."""

import json
from collections.abc import Mapping, Sequence

import click
from rich import box
from rich.console import Console
from rich.table import Table

from bnn_jax.fitting.files import finite


def print_json(value: object) -> None:
    """Prints one JSON value; numbers that are not finite become null."""
    click.echo(json.dumps(finite(value), indent=2))


def print_record(record: Mapping[str, object], *, as_json: bool = False) -> None:
    """Prints a record, one value per line, those of a group indented under its name."""
    if as_json:
        print_json(record)
        return
    for line in _lines(record):
        click.echo(line)
    findings = record.get("diagnosis")
    for finding in findings if isinstance(findings, list) else []:
        click.echo(f"warning: {finding}", err=True)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints a table; numbers are on the right, and what is None is empty.

    Without names of columns there is no header.
    """
    grid = Table(box=box.SIMPLE_HEAD, show_header=any(columns))
    for i, name in enumerate(columns):
        is_text = any(isinstance(row[i], str) for row in rows)
        grid.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*("" if value is None else shown(value) for value in row))
    # Wide enough for every cell: other programs read tables by line.
    console = Console(width=1000, color_system=None, markup=False)
    with console.capture() as capture:
        console.print(grid)
    for line in capture.get().splitlines():
        if line.strip():
            click.echo(line.rstrip())


def shown(value: object) -> str:
    """Returns a value as text; numbers with six digits."""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _lines(values: Mapping[str, object], indent: str = "") -> list[str]:
    width = max((len(str(key)) for key, value in values.items() if _is_plain(value)), default=0)
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif _is_plain(value):
            lines.append(f"{indent}{key:<{width}}  {shown(value)}")
    return lines


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float)
