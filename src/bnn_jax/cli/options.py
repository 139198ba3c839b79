"""Options that several commands have."""

import click

as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object, for other programs."
)
trust = click.option(
    "--trust",
    is_flag=True,
    help="Run the Python code that the run names, also if RUN was not made here by you.",
)
