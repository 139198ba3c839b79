"""The command export: the network of a run as a file that runs without bnn_jax."""

from pathlib import Path

import click

from bnn_jax.cli.errors import user_errors
from bnn_jax.cli.options import trust


@click.command(short_help="Export the network of a run: StableHLO, ONNX or SavedModel.")
@click.argument("run", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[evaluation.KEY=VALUE]...")
@click.option(
    "--output", required=True, metavar="FOLDER", type=click.Path(), help="A new or empty folder."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["stablehlo", "onnx", "savedmodel"]),
    default="stablehlo",
    show_default=True,
)
@click.option(
    "--kind",
    type=click.Choice(["mean", "members", "one_pass", "sampled"]),
    default="members",
    show_default=True,
    help="The network at the posterior mean; fixed weight samples; the prediction in one pass "
    "without sampling; or new weight samples at each call (stablehlo only).",
)
@click.option("--units", metavar="TEXT", help="Units of the inputs, for the card.")
@click.option("--target-units", metavar="TEXT", help="Units of the targets, for the card.")
@trust
def export(
    run: str,
    overrides: tuple[str, ...],
    output: str,
    form: str,
    kind: str,
    units: str | None,
    target_units: str | None,
    trust: bool,
) -> None:
    """Export the network in RUN, a run folder, as a program that runs without bnn_jax.

    Writes the program and card.json to FOLDER. Inputs and outputs are those of the command predict,
    in their own units; of a table, the encoded features in the order of the card.

    evaluation.KEY=VALUE overrides one setting, for example evaluation.num_samples=128.
    """
    folder = Path(output)
    with user_errors():
        from bnn_jax import experiment
        from bnn_jax.experiment import exporting

        exporting.check(overrides, folder=folder, form=form, kind=kind)
        loaded = experiment.load(Path(run), overrides, trust=trust)
        written = exporting.export_run(
            loaded, folder, form=form, kind=kind, units=units, target_units=target_units
        )
    click.echo(f"exported: {written}")
