"""The command line: broken calls told in one line, good ones passed on."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import pytest

import bnn_jax
from bnn_jax import cli, report
from bnn_jax.cli import errors
from bnn_jax.config.schema import Config

CONFIGS = Path(__file__).parents[1] / "configs"
LENET = str(CONFIGS / "lenet5.yaml")
CURVE = str(CONFIGS / "blundell_curve.yaml")

keep_compiled_code = errors.keep_compiled_code

# An invalid override; the key that the message must name; the correction that it must suggest.
BROKEN_OVERRIDES = [
    ("optimizer.learning_rat=1", "optimizer.learning_rat", "did you mean 'learning_rate'"),
    ("optimiser.name=sgd", "optimiser", "did you mean 'optimizer'"),
    ("epochs=3", "epochs", "did you mean 'training.epochs'"),
    ("training.learning_rate=0.1", "training.learning_rate", "'optimizer.learning_rate'"),
    ("optimizer.learning_rate=fast", "optimizer.learning_rate", "a number > 0, got 'fast'"),
    ("optimizer.learning_rate=-1e-3", "optimizer.learning_rate", "a number > 0, got -0.001"),
    ("optimizer.learning_rate=true", "optimizer.learning_rate", "a number > 0, got true"),
    ("optimizer.learning_rate=null", "optimizer.learning_rate", "a number > 0, got null"),
    ("optimizer.name=adamm", "optimizer.name", "did you mean 'adam'"),
    ("optimizer.momentum=0.9", "optimizer.momentum", "set optimizer.name to sgd"),
    ("optimizer.weight_decay=0.1", "optimizer.weight_decay", "set optimizer.name to adamw"),
    ("optimizer.average=1", "optimizer.average", "between 0 and 1, both excluded, or null"),
    ("optimizer.warmup_epochs=1000", "optimizer.warmup_epochs", "lower it"),
    ("training.epochs=0", "training.epochs", "a whole number >= 1, got 0"),
    ("training.epochs=2.5", "training.epochs", "a whole number >= 1, got 2.5"),
    ("training.dtype=float16", "training.dtype", "one of float32, bfloat16"),
    ("training=3", "training", "a section with the keys epochs, batch_size"),
    ("seed=-1", "seed", "a whole number from 0"),
    ("data=null", "data", "a section with the keys name"),
    ("data.mean=[]", "data.mean", "a number, or a list"),
    ("data.std=0", "data.std", "a number > 0"),
    ("data.image_size=8", "data.image_size", "set data.image_size to 32"),
    ("data={name: digits, mean: [0, 0], std: [1, 1, 1]}", "data.mean", "one value per channel"),
    ("data={name: digits, train_examples: 9, validation: 9}", "data.validation", "lower"),
    ("data.train_examples=9", "training.batch_size", "lower it"),
    ("model={name: mlp}", "model.hidden", "set it to a list"),
    ("model={name: mlp, hidden: [400, 0]}", "model.hidden", "each a whole number >= 1"),
    ("model.name=lenet", "model.name", "did you mean 'lenet5'"),
    ("model=lenet5", "model", "a section such as {name: lenet5, ...}"),
    ("prior={std: 1}", "prior.name", "one of normal, scale_mixture, laplace, student_t"),
    ("prior.name=laplace", "prior.std", "with name laplace has the keys name, loc, scale"),
    ("prior={name: scale_mixture, pi: 1, std1: 1, std2: 1}", "prior.pi", "between 0 and 1"),
    ("posterior.mean_std=0.3", "posterior.mean_std", "set posterior.mean_init to normal"),
    (
        "posterior={mean_init: normal, mean_std: null}",
        "posterior.mean_std",
        "set it to a number > 0",
    ),
    ("posterior.where=conv1/*", "posterior.where", "a list, each a pattern such as 'conv1/*'"),
    ("estimator=flipot", "estimator", "did you mean 'flipout'"),
    ("estimator={'fc*': flip}", "estimator", "one of reparam, local_reparam, flipout"),
    ("estimator={'*': reparam, 'fc*': flipout}", "estimator", "move '*' to the end"),
    ("estimator={'*': local_reparam}", "estimator", "use flipout there"),
    ("objective.dnn_factor=1", "objective.dnn_factor", "remove one of the two"),
    ("objective.num_data=null", "objective.dnn_factor", "set objective.num_data to train"),
    ("objective.num_data=test", "objective.num_data", "train, or a whole number >= 1, or null"),
    ("objective={dnn_factor: 1}", "objective.bnn_factor", "set both"),
    ("objective.antithetic=true", "objective.num_samples", "set it to 2"),
    ("objective.antithetic=yes", "objective.antithetic", "true or false, got 'yes'"),
    ("objective.kl_schedule=blundell", "objective.kl_schedule", "{name: constant, ...}"),
    ("objective.kl_schedule.name=lin", "objective.kl_schedule.name", "did you mean 'linear'"),
    ("objective.kl_schedule={name: linear}", "objective.kl_schedule.warmup_epochs", "> 0"),
    (
        "objective.kl_schedule={name: linear, warmup_epochs: 999}",
        "objective.kl_schedule.warmup_epochs",
        "lower it",
    ),
    ("evaluation.baseline_epochs=0", "evaluation.baseline_epochs", "a whole number >= 1, or null"),
    ("output.dir=null", "output.dir", "a path, got null"),
    ("output.dir=[a", "output.dir", "expected ',' or ']'"),
    ("training.epochs", "training.epochs", "must have the form section.key=value"),
    ("training.epochs=", "training.epochs", "must have the form section.key=value"),
    ("seed.x=1", "seed", "set it as a whole with seed=value"),
    ("padding=2", "padding", "did you mean 'data.padding'"),
    ("data={}", "data.name", "is missing: set it to a name"),
    (
        "data.name=blundell_curve",
        "data.image_size",
        "has the keys name, train_examples, test_examples",
    ),
    ("data={name: blundell_curve}", "data.train_examples", "set it to a whole number >= 1"),
    ("data={name: blundell_curve, train_examples: 99}", "likelihood", "{name: normal, std: 0.1}"),
    ("likelihood={name: normal, std: 1}", "likelihood", "set likelihood to {name: categorical}"),
    ("likelihood.name=norm", "likelihood.name", "did you mean 'normal'"),
    ("likelihood=normal", "likelihood", "a section such as {name: categorical, ...}"),
]

# The same of a config for a curve.
BROKEN_CURVES = [
    ("data.padding=2", "data.padding", "has the keys name, train_examples, test_examples"),
    ("data.validation=20", "data.validation", "with name blundell_curve has the keys"),
    ("data.train_exampels=9", "data.train_exampels", "did you mean 'train_examples'"),
    ("data.train_examples=5", "training.batch_size", "(data.train_examples): lower it"),
    ("data.test_examples=0", "data.test_examples", "a whole number >= 1, got 0"),
    ("model={name: lenet5}", "model.name", "set model to {name: mlp"),
    ("likelihood={name: categorical}", "likelihood", "{name: normal, std: 0.1}"),
    (
        "likelihood={name: normal, df: 3}",
        "likelihood.df",
        "with name normal has the keys name, std",
    ),
    ("likelihood.std=0", "likelihood.std", "a number > 0, or null"),
    ("likelihood={name: student_t}", "likelihood.df", "is missing: set it to a number > 2"),
    ("likelihood={name: student_t, df: 2}", "likelihood.df", "a number > 2 (at 2"),
    ("evaluation.ece_bins=10", "evaluation.ece_bins", "no effect with data.name blundell_curve"),
    ("evaluation.temperature=2", "evaluation.temperature", "data.name blundell_curve"),
    ("evaluation.ood_temperature=2", "evaluation.ood_temperature", "data.name blundell_curve"),
]

# Other broken calls, and what the message must say.
BROKEN_CALLS = [
    ([], ["Missing command", "bnn-jax --help"]),
    (["fit"], ["No such command 'fit'", "bnn-jax --help"]),
    (["train"], ["Missing argument 'CONFIG'", "bnn-jax train --help"]),
    (["train", LENET, "--epochs=3"], ["--epochs", "bnn-jax train --help"]),
    (["train", "no/such.yaml"], ["no config file no/such.yaml", "give the path"]),
    (["train", str(CONFIGS / "lenet.yaml")], ["no config file", "did you mean"]),
    (["evaluate"], ["Missing argument 'RUN'", "bnn-jax evaluate --help"]),
    (["evaluate", "x", "--ood"], ["--ood", "requires an argument", "--help"]),
    (["evaluate", "x", "--ood", "mnist", "--no-report"], ["--ood", "--no-report", "give one"]),
]


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process, which is here that of all tests."""
    monkeypatch.setattr(errors, "keep_compiled_code", lambda: None)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory that the call must leave empty."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.rglob("*")) == []


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command; it must exit with 2 and one line on stderr, which is returned."""
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(
    ("path", "override", "key", "correction"),
    [(LENET, *broken) for broken in BROKEN_OVERRIDES]
    + [(CURVE, *broken) for broken in BROKEN_CURVES],
)
def test_an_invalid_config_is_reported_in_one_line(
    path: str, override: str, key: str, correction: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["train", path, override], capsys)
    assert key in message.replace(repr(override), "") or f"override {override!r}" in message
    assert correction in message


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(("arguments", "words"), BROKEN_CALLS)
def test_an_invalid_call_is_reported_in_one_line(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments, capsys)
    for word in words:
        assert word in message


def test_the_process_itself_exits_with_2(empty: Path) -> None:
    command = [sys.executable, "-m", "bnn_jax.cli", "train", LENET, "training.epoch=2"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=empty, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "did you mean 'epochs'" in done.stderr


@pytest.mark.parametrize("words", [["--help"], ["train", "-h"], ["evaluate", "--help"]])
def test_help_comes_before_the_slow_imports(words: list[str]) -> None:
    program = (
        "import sys; from bnn_jax import cli; code = cli.main(sys.argv[1:]); "
        "sys.exit(code or 3 * ('bnn_jax.experiment' in sys.modules))"
    )
    command = [sys.executable, "-c", program, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: bnn-jax" in done.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bnn-jax, version ")


class RunError(Exception):
    """Stands for the experiment's."""


class BaselineIncomplete(RunError):
    """Stands for the experiment's."""


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the module that does the work; it keeps its calls, and fails on demand."""
    stub: Any = ModuleType("bnn_jax.experiment")
    stub.RunError, stub.calls, stub.failure = RunError, [], None
    stub.BaselineIncomplete = BaselineIncomplete
    summary = {
        "run": "runs/x",
        "test": {"accuracy": 0.987654321, "nll": 0.05, "examples": 360},
        "kl_by_layer": {"fc1": 12.0},
    }

    def work(*arguments: Any, **options: Any) -> dict[str, Any]:
        stub.calls.append((arguments, options))
        if stub.failure is not None:
            raise stub.failure
        return summary

    stub.train = stub.evaluate = stub.load = stub.summarise = work
    monkeypatch.setitem(sys.modules, "bnn_jax.experiment", stub)
    monkeypatch.setattr(bnn_jax, "experiment", stub, raising=False)
    return stub


def test_train_passes_the_config_on_and_prints_the_summary(
    experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["train", LENET, "--resume", "training.epochs=2", "output.dir=x"]) == 0
    (((settings,), options),) = experiment.calls
    assert isinstance(settings, Config)
    assert (settings.training.epochs, settings.output.dir) == (2, Path("x"))
    assert options == {"resume": True}
    assert capsys.readouterr().out.splitlines() == [
        "run  runs/x",
        "test:",
        "  accuracy  0.987654",
        "  nll       0.05",
        "  examples  360",
        "kl_by_layer:",
        "  fc1  12",
    ]


@pytest.fixture
def run_report(experiment: Any, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the module that reports; its calls are among the experiment's."""
    stub: Any = ModuleType("bnn_jax.report.of_run")
    stub.check = lambda *a, **k: experiment.calls.append(("check", a, k))
    stub.write = lambda *a, **k: experiment.calls.append(("write", a, k))
    stub.shows = lambda run: True
    monkeypatch.setitem(sys.modules, "bnn_jax.report.of_run", stub)
    monkeypatch.setattr(report, "of_run", stub, raising=False)
    return stub


def test_evaluate_without_a_report_passes_the_run_and_the_overrides_on(experiment: Any) -> None:
    words = ["evaluate", "runs/x", "--no-report", "--test", "evaluation.num_samples=3"]
    assert cli.main(words) == 0
    options = {"trust": False, "test": True}
    assert experiment.calls == [((Path("runs/x"), ("evaluation.num_samples=3",)), options)]


@pytest.mark.usefixtures("run_report")
def test_evaluate_checks_the_report_first_and_writes_it_last(
    experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "runs/x", "--ood", "kmnist", "evaluation.num_samples=3", "--ood", "a=b"]
    assert cli.main(words) == 0
    check, load, summarise, write = experiment.calls
    run, ood = Path("runs/x"), {"ood": ("kmnist", "a=b")}
    assert check == ("check", (run,), ood)
    assert load == ((run, ("evaluation.num_samples=3",)), {"trust": False, "test": False})
    loaded = summarise[0][0]
    assert summarise == ((loaded, run), {})
    assert write == ("write", (run, loaded), ood)
    assert "report  runs/x/report/index.html" in capsys.readouterr().out.splitlines()


def test_evaluate_without_matplotlib_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from bnn_jax.report import of_run as run_report

    monkeypatch.setattr(run_report, "find_spec", lambda name: None)
    message = refused(["evaluate", str(tmp_path)], capsys)
    assert "pip install 'bnn-jax[plot]'" in message
    assert "--no-report" in message


@pytest.mark.parametrize(
    ("config", "ood", "words"),
    [
        (CURVE, "mnist", ["--ood mnist", "blundell_curve", "leave --ood out"]),
        (LENET, "digits", ["--ood digits", "trained on"]),
        (LENET, "=x", ["NAME=FOLDER"]),
    ],
)
def test_other_images_of_a_wrong_shape_are_reported_first(
    config: str, ood: str, words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(Path(config).read_text())
    message = refused(["evaluate", str(tmp_path), "--ood", ood], capsys)
    for word in words:
        assert word in message
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_user_errors_are_reported_in_one_line(
    experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.failure = RunError("runs/x is not empty:\nchoose another output.dir")
    assert "runs/x is not empty: choose" in refused(["train", LENET], capsys)
    from bnn_jax.data import DataError

    experiment.failure = DataError("no such data set")
    assert "no such data set" in refused(["evaluate", "runs/x", "--no-report"], capsys)


def test_a_bug_keeps_its_traceback(experiment: Any) -> None:
    experiment.failure = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["train", LENET])


def test_an_interrupt_exits_with_130(experiment: Any, capsys: pytest.CaptureFixture[str]) -> None:
    experiment.failure = KeyboardInterrupt()
    assert cli.main(["train", LENET]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


@pytest.mark.parametrize("given", [None, "/elsewhere"])
def test_compiled_code_is_kept_where_the_user_says(given: str | None) -> None:
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    try:
        jax.config.update(names[0], given)
        keep_compiled_code()
        folder = Path(jax.config.jax_compilation_cache_dir)
    finally:
        for name, value in before.items():
            jax.config.update(name, value)
    assert folder == Path(given or Path.home() / ".cache/bnn_jax/xla")


# Calls that are refused once the data and the run folders are looked at.
BROKEN_RUNS = [
    (["train", LENET, "data.name=digitz"], ["digitz", "digits"]),
    (["train", LENET, "data.name=blundell_curv"], ["Did you mean 'blundell_curve'"]),
    (["train", LENET, "training.batch_size=5000"], ["training.batch_size", "5000"]),
    (["train", LENET, "data.validation=5000"], ["data.validation", "lower it"]),
    (["train", LENET, "data.mean=[0, 0]"], ["data.mean"]),
    (["train", LENET, "data.image_size=null"], ["data.image_size"]),
    (["train", LENET, "posterior.where=[conv9/*]"], ["posterior.where", "conv9/*", "conv1"]),
    (["train", LENET, "estimator={'conv9*': flipout, '*': reparam}"], ["estimator", "conv9*"]),
    (["train", LENET, f"output.dir={CONFIGS}"], ["output.dir", "configs"]),
    (["train", LENET, f"output.dir={CONFIGS}", "--resume"], ["output.dir", "configs"]),
    (
        ["train", LENET, "data.name=mnist", "data.manual_dir=no/files", "data.data_dir=no/data"],
        ["no/files"],
    ),
    (["evaluate", "no/run"], ["no/run"]),
    (["evaluate", str(CONFIGS)], ["configs"]),
]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(("arguments", "words"), BROKEN_RUNS)
def test_a_broken_run_is_reported_before_any_file_is_written(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments, capsys)
    for word in words:
        assert word in message
