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
from bnn_jax import cli
from bnn_jax.config import Config

CONFIGS = Path(__file__).parents[1] / "configs"
LENET = str(CONFIGS / "lenet5.yaml")

keep_compiled_code = cli._keep_compiled_code

# An override that breaks the config; the key that the message must name; the cure it must give.
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
    ("prior.name=laplace", "prior.std", "with name laplace knows name, loc, scale"),
    ("prior={name: scale_mixture, pi: 1, std1: 1, std2: 1}", "prior.pi", "between 0 and 1"),
    ("posterior.mean_std=0.3", "posterior.mean_std", "set posterior.mean_init to normal"),
    ("posterior={mean_init: normal, mean_std: null}", "posterior.mean_std", "give a number > 0"),
    ("posterior.where=conv1/*", "posterior.where", "a list, each a pattern such as 'conv1/*'"),
    ("estimator=flipot", "estimator", "did you mean 'flipout'"),
    ("estimator={'fc*': flip}", "estimator", "one of reparam, local_reparam, flipout"),
    ("estimator={'*': reparam, 'fc*': flipout}", "estimator", "move '*' to the end"),
    ("estimator=local_reparam", "estimator", "use flipout there"),
    ("objective.dnn_factor=1", "objective.dnn_factor", "remove one of the two"),
    ("objective.num_data=null", "objective.dnn_factor", "set objective.num_data to train"),
    ("objective.num_data=test", "objective.num_data", "train, or a whole number >= 1, or null"),
    ("objective={dnn_factor: 1}", "objective.bnn_factor", "give both"),
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
    ("evaluation.twin_epochs=0", "evaluation.twin_epochs", "a whole number >= 1, or null"),
    ("output.dir=null", "output.dir", "a path, got null"),
    ("output.dir=[a", "output.dir", "expected ',' or ']'"),
    ("training.epochs", "training.epochs", "must read section.key=value"),
    ("training.epochs=", "training.epochs", "must read section.key=value"),
    ("seed.x=1", "seed", "give it whole as seed=value"),
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
]


@pytest.fixture(autouse=True)
def no_compilation_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command sets it for its process, which is here that of all tests."""
    monkeypatch.setattr(cli, "_keep_compiled_code", lambda: None)


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
@pytest.mark.parametrize(("override", "key", "cure"), BROKEN_OVERRIDES)
def test_a_broken_config_is_told_in_one_line(
    override: str, key: str, cure: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(["train", LENET, override], capsys)
    assert key in message.replace(repr(override), "") or f"override {override!r}" in message
    assert cure in message


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(("arguments", "words"), BROKEN_CALLS)
def test_a_broken_call_is_told_in_one_line(
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


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("bnn-jax, version ")


class RunError(Exception):
    """Stands for the experiment's."""


@pytest.fixture
def experiment(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A stand-in for the module that does the work; it keeps its calls, and fails on demand."""
    stub: Any = ModuleType("bnn_jax.experiment")
    stub.RunError, stub.calls, stub.failure = RunError, [], None
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

    stub.train = stub.evaluate = work
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


def test_evaluate_passes_the_run_and_the_overrides_on(experiment: Any) -> None:
    assert cli.main(["evaluate", "runs/x", "evaluation.num_samples=3"]) == 0
    assert experiment.calls == [((Path("runs/x"), ("evaluation.num_samples=3",)), {})]


def test_what_the_user_can_mend_is_told_in_one_line(
    experiment: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.failure = RunError("runs/x is not empty:\nchoose another output.dir")
    assert "runs/x is not empty: choose" in refused(["train", LENET], capsys)
    from bnn_jax.data import DataError

    experiment.failure = DataError("no such data set")
    assert "no such data set" in refused(["evaluate", "runs/x"], capsys)


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
    (["train", LENET, "training.batch_size=5000"], ["training.batch_size", "5000"]),
    (["train", LENET, "data.validation=5000"], ["data.validation", "lower it"]),
    (["train", LENET, "data.mean=[0, 0]"], ["data.mean"]),
    (["train", LENET, "data.image_size=null"], ["data.image_size"]),
    (["train", LENET, "posterior.where=[conv9/*]"], ["posterior.where", "conv9/*", "conv1"]),
    (["train", LENET, "estimator={'conv9*': flipout, '*': reparam}"], ["estimator", "conv9*"]),
    (["train", LENET, f"output.dir={CONFIGS}"], ["output.dir", "configs"]),
    (["train", LENET, "output.dir=no/run", "--resume"], ["no/run", "not a run folder"]),
    (
        ["train", LENET, "data.name=mnist", "data.manual_dir=no/files", "data.data_dir=no/data"],
        ["no/files"],
    ),
    (["evaluate", "no/run"], ["no/run"]),
    (["evaluate", str(CONFIGS)], ["configs"]),
]


@pytest.mark.usefixtures("empty")
@pytest.mark.parametrize(("arguments", "words"), BROKEN_RUNS)
def test_a_broken_run_is_told_before_anything_is_written(
    arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    message = refused(arguments, capsys)
    for word in words:
        assert word in message
