"""The command `bnn-jax`: it reads the command line, and `bnn_jax.experiment` does the work.

Exit codes: 0 done; 2 the config, the call or the data is wrong, told in one line on stderr before
anything is written; 130 interrupted.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from bnn_jax.config.errors import ConfigError

BAD_INPUT, INTERRUPTED = 2, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(package_name="bnn-jax")
def cli() -> None:
    """Bayesian neural networks on JAX: train one from a YAML config, evaluate and report a run."""


@cli.command(short_help="Train the network of a config, evaluate it, leave a run folder.")
@click.argument("config")
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--resume", is_flag=True, help="Continue the interrupted run in output.dir.")
def train(config: str, overrides: tuple[str, ...], resume: bool) -> None:
    """Train the network that CONFIG (a YAML file) describes, and leave a run folder.

    KEY=VALUE changes one setting, for instance training.epochs=2, output.dir=runs/short or
    model.hidden=[400,400].
    """
    from bnn_jax.config.schema import load

    settings = load(config, overrides)
    with _mistakes_in_one_line():
        from bnn_jax import experiment

        _print_summary(experiment.train(settings, resume=resume))


@cli.command(short_help="Evaluate the trained network of a run folder again, and report on it.")
@click.argument("run")
@click.argument("overrides", nargs=-1, metavar="[evaluation.KEY=VALUE]...")
@click.option(
    "--ood",
    multiple=True,
    metavar="NAME[=FOLDER]",
    help="Images of another data set, to report how well the network tells them from its own; "
    "FOLDER holds its original files. Give it once for each data set.",
)
@click.option("--no-report", is_flag=True, help="Leave the report out; it needs matplotlib.")
def evaluate(run: str, overrides: tuple[str, ...], ood: tuple[str, ...], no_report: bool) -> None:
    """Evaluate the network in RUN, a run folder, on the data of its config.

    The numbers go to RUN/summary.json, and a report with figures to RUN/report/index.html.

    evaluation.KEY=VALUE changes one setting, for instance evaluation.num_samples=128.
    """
    if ood and no_report:
        raise ConfigError("--ood is for the report that --no-report leaves out: give one of them")
    folder = Path(run)
    with _mistakes_in_one_line():
        from bnn_jax import experiment

        if no_report:
            _print_summary(experiment.evaluate(folder, overrides))
            return
        from bnn_jax.report import of_run as run_report

        run_report.check(folder, ood=ood)
        loaded = experiment.load(folder, overrides)
        summary = experiment.summarise(loaded, folder)
        run_report.write(folder, loaded, ood=ood)
        _print_summary(summary | {"report": str(folder / "report" / "index.html")})


@cli.command(short_help="Time Bayesian training and prediction against the plain networks.")
@click.argument("workloads", nargs=-1, metavar="[WORKLOAD]...")
@click.option("--kind", "kinds", multiple=True, help="train, epoch or predict; by default all.")
@click.option("--precision", default="float32", show_default=True, help="float32 or bfloat16.")
@click.option("--rounds", default=30, show_default=True, help="Timed rounds, each case once.")
@click.option("--samples", default=32, show_default=True, help="Weight samples of a prediction.")
@click.option(
    "--kl-every", default=10, show_default=True, help="Steps from a KL value to the next."
)
@click.option("--generator", help="Of the noise: threefry, threefry13, hash, rbg or jax.")
@click.option("--output", type=click.Path(path_type=Path), help="Add a JSON line for each case.")
@click.option(
    "--compare",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The JSON lines of another run, to show ratios to its times.",
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
    """Time a step, an epoch and a prediction of WORKLOADs, in turns with the plain networks.

    WORKLOADs are W1 and W2, dense networks; W3, LeNet-5; W4, a ResNet-20; W5, a transformer; by
    default all. The ratio of a step with 4 samples is to 4 plain steps, that of a prediction to as
    many plain passes.
    """
    from bnn_jax import noise
    from bnn_jax.benchmark import run as benchmarks

    try:
        other = benchmarks.read(compare) if compare else []
        with noise.generator(generator):
            results = benchmarks.run(
                workloads or benchmarks.NAMES,
                kinds=kinds or benchmarks.KINDS,
                precision=precision,
                rounds=rounds,
                samples=samples,
                kl_every=kl_every,
            )
            found = benchmarks.collect(results, output)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    click.echo(benchmarks.table(found, other))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Args:
        arguments: the words after `bnn-jax`; None takes those of the process.
    """
    try:
        cli.main(args=arguments, prog_name="bnn-jax", standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (click.ClickException, ConfigError) as error:
        message = _told_by_click(error) if isinstance(error, click.UsageError) else str(error)
        print(f"error: {message}", file=sys.stderr)
        return BAD_INPUT
    return 0


def _told_by_click(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "bnn-jax"
    return f"{error.format_message().rstrip('.')}: see {command} --help"


@contextmanager
def _mistakes_in_one_line() -> Iterator[None]:
    """Pass on what the user can mend as a message, and all else as it is."""
    _keep_compiled_code()
    from bnn_jax.data import DataError
    from bnn_jax.experiment import RunError

    try:
        yield
    except (DataError, RunError) as error:
        raise ConfigError(str(error)) from error


def _keep_compiled_code() -> None:
    """Compile each program once per machine; a second run starts from the kept code."""
    import jax

    given = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    if given is None:
        folder = Path.home() / ".cache" / "bnn_jax" / "xla"
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def _print_summary(summary: Mapping[str, Any]) -> None:
    """The numbers of a run, one line each, those of a group under its name."""
    for line in _lines(summary):
        click.echo(line)


def _lines(values: Mapping[str, Any], indent: str = "") -> list[str]:
    width = max((len(str(key)) for key, value in values.items() if _is_plain(value)), default=0)
    lines: list[str] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_lines(value, indent + "  ")]
        elif _is_plain(value):
            shown = f"{value:.6g}" if isinstance(value, float) else str(value)
            lines.append(f"{indent}{key:<{width}}  {shown}")
    return lines


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)


if __name__ == "__main__":
    sys.exit(main())
