"""The package as users install it: lazy public names, optional dependencies, import time."""

import ast
import re
import statistics
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import bnn_jax
from bnn_jax._extras import EXTRAS

ROOT = Path(__file__).parents[1]

# Flax itself depends on these two.
WITH_FLAX = {"rich", "yaml"}
OPTIONAL = sorted({package for packages in EXTRAS.values() for package in packages} - WITH_FLAX)

# Imports fail for the packages of all extras, as if they were not installed.
WITHOUT_EXTRAS = f"""
import sys
for name in {OPTIONAL}:
    sys.modules[name] = None
import bnn_jax
"""


def run(program: str) -> str:
    """Runs a program in a fresh process; returns its standard output and error."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_every_public_name_works_after_the_import_of_the_package() -> None:
    run(f"import bnn_jax\nfor name in {sorted(bnn_jax._HOMES)}: getattr(bnn_jax, name)")


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(bnn_jax._HOMES))
def test_every_public_name_works_first_in_a_fresh_process(name: str) -> None:
    run(f"import bnn_jax; assert '{name}' in dir(bnn_jax); bnn_jax.{name}")


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "src/bnn_jax/__init__.py").read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    declared = {
        alias.asname
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == set(bnn_jax._HOMES)


def test_predict_is_the_function() -> None:
    assert callable(bnn_jax.predict)
    assert bnn_jax.predict is not sys.modules["bnn_jax.predictive"]


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'predictions'"):
        bnn_jax.predictions  # noqa: B018


def test_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", bnn_jax.__version__)


def test_the_extras_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(EXTRAS) == set(extras) - {"all", "test"}
    aliases = {"pyyaml": "yaml", "pillow": "PIL", "scikit-learn": "sklearn"}
    for extra, packages in EXTRAS.items():
        names = {re.split(r"[>\[]", line)[0] for line in extras[extra]} - {"bnn-jax"}
        listed = {aliases.get(name, name.replace("-", "_")) for name in names}
        assert set(packages) == listed - ({"PIL"} if extra == "plot" else set())


def test_the_core_works_without_extras() -> None:
    run(
        WITHOUT_EXTRAS
        + """
import jax, optax
from flax import linen as nn
key, x = jax.random.key(0), jax.numpy.ones((4, 3))
network = nn.Dense(2)
model = bnn_jax.to_bnn(network, network.init(key, x))
str(model.report(x))
y = jax.numpy.zeros(4, "int32")
likelihood = bnn_jax.likelihoods.Categorical()
step = bnn_jax.train.build_step(
    model.forward(), likelihood.nll, optax.adam(1e-3), model.prior, num_data=4
)
step(bnn_jax.train.init(model.posterior, optax.adam(1e-3)), key, (x, y))
bnn_jax.predict(key, model, x, 2, likelihood=likelihood)
bnn_jax.data.CURVES["blundell_curve"].draw(3, seed=0)
for name in ("infer", "dpn", "toolbox", "mindspore", "models", "bnn_layers", "transforms"):
    getattr(bnn_jax, name)
import bnn_jax.fitting.loop
"""
    )


EXPORT = "bnn_jax.export.{}('no/such/folder', None, None, None, None, kind='mean')"


@pytest.mark.parametrize(
    ("call", "package", "extra"),
    [
        ("bnn_jax.config", "pydantic", "cli"),
        ("bnn_jax.experiment", "pydantic", "cli"),
        ("bnn_jax.distributions", "numpyro", "distributions"),
        (EXPORT.format("stablehlo"), "flatbuffers", "export"),
        (EXPORT.format("onnx"), "jax2onnx", "onnx"),
        (EXPORT.format("savedmodel"), "tensorflow", "savedmodel"),
        ("bnn_jax.data.load('digits')", "sklearn", "data"),
        ("bnn_jax.data.load('mnist', data_dir='no/such/folder')", "tensorflow_datasets", "data"),
        (
            "bnn_jax.data.stream([(np.zeros((2, 2, 1), np.uint8), 0)], batch_size=1, seed=0)",
            "grain",
            "data",
        ),
    ],
)
def test_a_missing_package_is_named_with_its_extra(call: str, package: str, extra: str) -> None:
    said = run(
        WITHOUT_EXTRAS
        + f"""
import numpy as np
try:
    {call}
except ModuleNotFoundError as error:
    print(error)
"""
    )
    assert f"needs {package}, which is not installed: pip install 'bnn-jax[{extra}]'" in said


@pytest.mark.parametrize("arguments", [[], ["train", "configs/lenet5.yaml"], ["benchmark"]])
def test_the_command_without_its_extra(arguments: list[str]) -> None:
    said = run(
        WITHOUT_EXTRAS
        + f"""
from bnn_jax.cli import main
assert main({arguments}) == 2
"""
    )
    assert said.startswith("error: The command bnn-jax needs ")
    assert said.strip().endswith("pip install 'bnn-jax[cli]'")
    assert said.count("\n") == 1


@pytest.mark.slow
def test_import_time() -> None:
    programs = {
        "theirs": "import jax, flax.nnx, optax",
        "ours": "import bnn_jax",
    }
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(5):
        for name, program in programs.items():
            started = time.perf_counter()
            run(program)
            seconds[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    assert medians["ours"] < 1.2 * medians["theirs"], medians
