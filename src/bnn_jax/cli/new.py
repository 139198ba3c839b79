"""The command new."""

from pathlib import Path

import click

from bnn_jax.cli.errors import user_errors


@click.command(short_help="Write a config for own data, which trains at once.")
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--target", metavar="NAME", help="The column to predict; by default the last.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("config.yaml"),
    show_default=True,
    help="The config to write; it must not exist.",
)
def new(data: Path, target: str | None, output: Path) -> None:
    """Look at DATA and write a commented config for it.

    DATA is a CSV, Parquet or npz file, or a folder with a folder of images for each class.
    """
    from bnn_jax.experiment import starter

    with user_errors():
        starter.write(data, output, target=target)
    click.echo(f"{output} is written: train with  bnn-jax train {output}")
