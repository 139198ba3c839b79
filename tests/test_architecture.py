"""The architecture: the order of imports, the dependencies of the core, the sizes of files."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import bnn_jax

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "bnn_jax"

# From low to high: a module imports from its own entry and from lower layers only. Entries that
# share a layer do not import each other.
LAYERS = [
    ["_compiler", "_extras", "_parameters", "devices"],
    ["noise"],
    ["gaussian"],
    ["priors"],
    ["likelihoods"],
    ["distributions"],
    ["objective", "optimizers"],
    ["interpreter"],
    ["functional"],
    ["train"],
    ["posteriors"],
    ["moments"],
    ["networks", "compression"],
    ["bnn_layers"],
    ["transforms"],
    ["predictive"],
    ["mindspore", "export"],
    ["dpn"],
    ["infer"],
    ["toolbox"],
    ["models", "data"],
    ["fitting"],
    ["config"],
    ["experiment"],
    ["report"],
    ["benchmark"],
    ["cli", "experimental"],
]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}

# The functional core; `distributions` also needs NumPyro.
CORE = [*(name for layer in LAYERS[:12] for name in layer if name != "distributions"), "predictive"]
CORE_DEPENDENCIES = {"jax", "jaxtyping", "numpy", "optax"}

MAX_FLAT_MODULES, MAX_FILE, MAX_TEST_FILE, MAX_FUNCTION = 12, 300, 400, 60


def module_name(path: Path) -> str:
    """The name below bnn_jax, such as `data.arrays`; "" is the package itself."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


TREES = {module_name(path): ast.parse(path.read_text(), str(path)) for path in SOURCE.rglob("*.py")}


def imported(tree: ast.AST) -> Iterator[str]:
    """Absolute names of imported modules; functions and TYPE_CHECKING blocks included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports must be absolute"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(name: str) -> set[str]:
    """The modules of bnn_jax that a module imports, named as by `module_name`."""
    found = set()
    for target in imported(TREES[name]):
        package, _, inner = target.partition(".")
        if package != "bnn_jax":
            continue
        while inner not in TREES:
            inner, _, attribute = inner.rpartition(".")
            if not inner:
                assert attribute in bnn_jax._HOMES, f"{name} imports the unknown {target}"
                inner = bnn_jax._HOMES[attribute]
        found.add(inner)
    return found


def modules() -> list[str]:
    return sorted(name for name in TREES if name)


@pytest.mark.parametrize("name", modules())
def test_imports_go_downwards(name: str) -> None:
    entry = name.partition(".")[0]
    assert entry in LEVELS, f"add {entry} to LAYERS and to docs/design.md"
    for target in own_imports(name):
        other = target.partition(".")[0]
        assert other == entry or LEVELS[other] < LEVELS[entry], f"{name} imports {target}"


def test_every_layer_exists() -> None:
    assert set(LEVELS) == {name.partition(".")[0] for name in modules()}


def test_no_module_imports_itself_through_others() -> None:
    finished: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"import cycle: {' -> '.join([*path, name])}"
        if name not in finished:
            for target in own_imports(name):
                visit(target, (*path, name))
            finished.add(name)

    for name in modules():
        visit(name, ())


@pytest.mark.parametrize("name", [n for n in modules() if n.partition(".")[0] in CORE])
def test_the_core_imports_jax_and_optax_only(name: str) -> None:
    packages = {target.partition(".")[0] for target in imported(TREES[name])}
    assert packages <= CORE_DEPENDENCIES | {"bnn_jax"} | sys.stdlib_module_names


def test_the_core_does_not_load_flax() -> None:
    names = [n for n in CORE if not n.startswith("_")]
    public = ["predict", "functional", "train", "priors", "likelihoods", "posteriors"]
    program = (
        "import sys, importlib, bnn_jax\n"
        "assert 'jax' not in sys.modules\n"
        f"for name in {names}: importlib.import_module('bnn_jax.' + name)\n"
        f"for name in {public}: getattr(bnn_jax, name)\n"
        "unwanted = {'flax', 'pydantic', 'rich', 'tensorflow_datasets', 'tqdm'}\n"
        "assert not unwanted & set(sys.modules), unwanted & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_few_modules_lie_flat() -> None:
    assert len(list(SOURCE.glob("*.py"))) <= MAX_FLAT_MODULES


def test_every_folder_says_what_belongs_in_it() -> None:
    for name, tree in TREES.items():
        assert ast.get_docstring(tree), f"bnn_jax.{name} has no docstring"


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of a function, without decorators and docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def python_files() -> list[Path]:
    return [
        path for folder in ("src", "tests", "scripts") for path in ROOT.glob(f"{folder}/**/*.py")
    ]


def test_no_file_is_too_long() -> None:
    long = set()
    for path in python_files():
        name = path.relative_to(ROOT).as_posix()
        limit = MAX_TEST_FILE if name.startswith("tests/") else MAX_FILE
        if len(path.read_text().splitlines()) > limit:
            long.add(name)
    assert not long, long


def test_no_function_is_too_long() -> None:
    long = set()
    for path in python_files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (
                length(node) > MAX_FUNCTION
            ):
                long.add(f"{path.relative_to(ROOT).as_posix()}: {node.name}")
    assert not long, long
