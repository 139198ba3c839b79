"""The command compare: several runs on the same data side by side."""

from pathlib import Path

import click

from bnn_jax.cli.errors import user_errors
from bnn_jax.cli.options import as_json


@click.command(short_help="Compare runs on the same data in one table.")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=click.Path())
@as_json
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(),
    help="Draw the training and held-out NLL of all runs to FILE, ending in .png; needs "
    "matplotlib.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
def compare(runs: tuple[str, ...], as_json: bool, output: str | None, overwrite: bool) -> None:
    """Compare the finished runs in two or more run folders, trained on the same data.

    Only the files of the folders are read: nothing is evaluated again, and no code is run.
    """
    paths = [Path(run) for run in runs]
    with user_errors():
        from bnn_jax._extras import optional_import
        from bnn_jax.experiment import comparison
        from bnn_jax.experiment.predictions import check_output

        if output is not None:
            file = check_output(
                Path(output), source=paths[0], overwrite=overwrite, suffixes=(".png",)
            )
        rows = comparison.compare(paths)
        if output is not None:
            histories = comparison.histories(paths)
            with optional_import("The figure of compare"):
                from bnn_jax.report.figures.comparison import comparison as draw
                from bnn_jax.report.figures.comparison import png_bytes
            from bnn_jax.fitting.files import atomic_write

            names = comparison.labels(rows)
            held_out = str(rows[0]["evaluated_on"])
            atomic_write(file, png_bytes(draw(histories, names, held_out=held_out)))
    from bnn_jax.cli.printing import print_json, print_table

    if comparison.seeds_differ(rows):
        click.echo("note: the runs have other seeds, so their held-out examples differ", err=True)
    if as_json:
        print_json(rows)
        return
    shown = {key: title for key, title in comparison.COLUMNS.items() if any(key in r for r in rows)}
    keys = ["run", "method", *shown, "seconds", "epochs", "seed"]
    click.echo(f"data  {rows[0]['data']}, {rows[0]['evaluated_on']}")
    print_table([shown.get(key, key) for key in keys], [[r.get(k) for k in keys] for r in rows])
