"""The group of commands, with train, evaluate and benchmark; the others have files of their own."""

from pathlib import Path

import click

from bnn_jax.cli.compare import compare
from bnn_jax.cli.errors import user_errors
from bnn_jax.cli.export import export
from bnn_jax.cli.info import info
from bnn_jax.cli.new import new
from bnn_jax.cli.options import as_json, trust
from bnn_jax.cli.predict import predict
from bnn_jax.cli.printing import print_record
from bnn_jax.cli.sweep import sweep
from bnn_jax.config.errors import ConfigError


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(package_name="bnn-jax")
def cli() -> None:
    """Bayesian neural networks on JAX: train from a YAML config, evaluate and use the run."""


@cli.command(short_help="Train and evaluate the network of a config; writes a run folder.")
@click.argument("config", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="Continue the interrupted run in output.dir.")
@as_json
def train(config: str, overrides: tuple[str, ...], resume: bool, as_json: bool) -> None:
    """Train and evaluate the network of CONFIG, a YAML file, and write a run folder.

    KEY=VALUE overrides one setting, for example training.epochs=2, output.dir=runs/short or
    model.hidden=[400,400].
    """
    from bnn_jax.config.schema import load

    settings = load(config, overrides)
    with user_errors():
        from bnn_jax import experiment
        from bnn_jax.devices.processes import is_first

        summary = experiment.train(settings, resume=resume)
        if not is_first():
            return
        if settings.repeated is None or as_json:
            print_record(summary, as_json=as_json)
        else:
            click.echo(experiment.table(summary))


@cli.command(short_help="Evaluate the trained network of a run folder; writes a report.")
@click.argument("run", type=click.Path())
@click.argument("overrides", nargs=-1, metavar="[evaluation.KEY=VALUE]...")
@click.option(
    "--ood",
    multiple=True,
    metavar="NAME[=FOLDER]",
    help="Out-of-distribution images: a data set for which the report shows how well uncertainty "
    "separates them from the test images. FOLDER has the original files. Can be repeated.",
)
@click.option(
    "--test",
    is_flag=True,
    help="Score the test examples, also of a run that was trained with a validation part.",
)
@click.option("--no-report", is_flag=True, help="Do not write a report, which needs matplotlib.")
@trust
@as_json
def evaluate(
    run: str,
    overrides: tuple[str, ...],
    ood: tuple[str, ...],
    test: bool,
    no_report: bool,
    trust: bool,
    as_json: bool,
) -> None:
    """Evaluate the network in RUN, a run folder, on the data of its config.

    Writes the metrics to RUN/summary.json and a report with figures to RUN/report/index.html.

    evaluation.KEY=VALUE overrides one setting, for example evaluation.num_samples=128.
    """
    if ood and no_report:
        raise ConfigError("--ood has no effect with --no-report: give one of them")
    folder = Path(run)
    with user_errors():
        from bnn_jax import experiment

        if no_report:
            summary = experiment.evaluate(folder, overrides, trust=trust, test=test)
            print_record(summary, as_json=as_json)
            return
        from bnn_jax.report import of_run as run_report

        run_report.check(folder, ood=ood)
        loaded = experiment.load(folder, overrides, trust=trust, test=test)
        summary = experiment.summarise(loaded, folder)
        if not run_report.shows(loaded):
            print_record(summary, as_json=as_json)
            note = "There is no report for these targets, only for classes and one number."
            click.echo(note, err=True)
            return
        run_report.write(folder, loaded, ood=ood)
        report = str(folder / "report" / "index.html")
        print_record(summary | {"report": report}, as_json=as_json)


@cli.command(short_help="Time Bayesian training and prediction relative to the plain networks.")
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    help="train, epoch or predict; the default is all. Can be repeated.",
)
@click.option("--precision", default="float32", show_default=True, help="float32 or bfloat16.")
@click.option("--rounds", default=30, show_default=True, help="Timed rounds, each case once.")
@click.option("--samples", default=32, show_default=True, help="Weight samples per prediction.")
@click.option("--kl-every", default=10, show_default=True, help="Steps between values of the KL.")
@click.option("--generator", help="Noise generator: threefry, threefry13, hash, rbg or jax.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Append a JSON line per case.",
)
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="File of an earlier --output; the table shows ratios to its times.",
)
def benchmark(
    workloads: tuple[str, ...],
    kinds: tuple[str, ...],
    precision: str,
    rounds: int,
    samples: int,
    kl_every: int,
    generator: str | None,
    output: Path | None,
    compare: Path | None,
) -> None:
    """Time a step, an epoch and a prediction of each WORKLOAD, alternating with the plain network.

    WORKLOADs are W1 and W2, dense networks; W3, LeNet-5; W4, a ResNet-20; W5, a transformer. The
    default is all. A step with 4 samples is compared with 4 plain steps, and a prediction with as
    many plain forward passes as it has samples.
    """
    from bnn_jax import noise
    from bnn_jax.benchmark import results, run

    try:
        other = results.read(compare) if compare else []
        with noise.generator(generator):
            timed = run.run(
                workloads or run.NAMES,
                kinds=kinds or run.KINDS,
                precision=precision,
                rounds=rounds,
                samples=samples,
                kl_every=kl_every,
            )
            found = results.collect(timed, output)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    click.echo(results.table(found, other))


for command in (predict, export, info, compare, sweep, new):
    cli.add_command(command)
