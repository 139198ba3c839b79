"""The command sweep."""

import click

from bnn_jax.cli.errors import user_errors


@click.command(short_help="Train a config with a grid of settings; compares validation scores.")
@click.argument("config", type=click.Path())
@click.argument("settings", nargs=-1, required=True, metavar="KEY=[VALUE,VALUE...]...")
@click.option("--by", default="nll", show_default=True, help="The validation score that decides.")
def sweep(config: str, settings: tuple[str, ...], by: str) -> None:
    """Train the network of CONFIG with each combination of the given values.

    For example: bnn-jax sweep house.yaml inference.learning_rate=[1e-3,1e-2] inference.rank=[5,20].
    A value that is itself a list is given within a list: model.hidden=[[50],[50,50]]. KEY=VALUE
    without a list changes a setting of all runs.

    The runs are compared on validation data (data.validation). Writes sweep.csv, sweep.json and,
    with matplotlib, sweep.png to output.dir. The same call again skips finished runs.
    """
    with user_errors():
        from bnn_jax.experiment import sweep as sweeps

        click.echo(sweeps.as_text(sweeps.sweep(sweeps.read_grid(config, settings), by=by)))
