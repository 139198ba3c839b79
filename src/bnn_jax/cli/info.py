"""The command info: what a run folder holds."""

from collections.abc import Mapping
from pathlib import Path

import click

from bnn_jax.cli.errors import user_errors
from bnn_jax.cli.options import as_json


@click.command(short_help="Show the settings, scores and files of a run folder.")
@click.argument("run", type=click.Path())
@as_json
def info(run: str, as_json: bool) -> None:
    """Show the settings, method, network size, scores and files of RUN, a run folder.

    Only its files are read: no data are loaded, and none of the user's code is run.
    """
    with user_errors():
        from bnn_jax.experiment.info import describe

        described = describe(Path(run))
    from bnn_jax.cli.printing import print_json, print_table

    if as_json:
        print_json(described)
    else:
        print_table(["", ""], _rows(described))


def _rows(values: Mapping[str, object], indent: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            if value:
                rows += [(f"{indent}{name}", None), *_rows(value, indent + "  ")]
        elif isinstance(value, list):
            if value:
                rows.append((f"{indent}{name}", ", ".join(map(str, value))))
        elif value is not None:
            rows.append((f"{indent}{name}", value))
    return rows
