"""The command predict: new examples in, a file of predictions with their uncertainty out."""

from pathlib import Path

import click

from bnn_jax.cli.errors import user_errors
from bnn_jax.cli.options import trust


@click.command(short_help="Predict new examples with a trained run; writes a CSV or npz file.")
@click.argument("run", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[evaluation.KEY=VALUE]...")
@click.option(
    "--input",
    "source",
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="A table with the run's input columns, an npz file with an array x, or a folder of "
    "images.",
)
@click.option(
    "--output",
    required=True,
    metavar="FILE",
    type=click.Path(),
    help="The file to write, ending in .csv or .npz.",
)
@click.option("--overwrite", is_flag=True, help="Replace the file if it exists.")
@trust
def predict(
    run: str,
    overrides: tuple[str, ...],
    source: str,
    output: str,
    overwrite: bool,
    trust: bool,
) -> None:
    """Predict new examples with the network in RUN, a run folder.

    A regression gives mean, std (total), aleatoric_std, epistemic_std, and the quantiles q05 and
    q95, in the units of the targets. Classes give class, its probability, p_NAME for each class,
    entropy (total), expected_entropy (aleatoric) and mutual_information (epistemic), in nats.

    evaluation.KEY=VALUE overrides one setting, for example evaluation.num_samples=128.
    """
    with user_errors():
        from bnn_jax import experiment
        from bnn_jax.experiment import new_inputs, predictions

        file = predictions.check_output(Path(output), source=Path(source), overwrite=overwrite)
        loaded = experiment.load(Path(run), overrides, trust=trust)
        inputs = new_inputs.read(loaded, Path(source))
        columns = predictions.predict(loaded, inputs)
        predictions.write(file, columns)
    click.echo(f"{len(inputs.x)} predictions: {file}")
