"""Networks from users' files: what is loaded, and one clear line for each mistake."""

import hashlib
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from bnn_jax.networks.user_code import UserCodeError, import_file
from bnn_jax.networks.user_file import load_network

NETS = '''
"""Networks of a user."""
from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from flax import linen as nn
from flax import nnx

@dataclasses.dataclass
class Settings:
    width: int = 3

class Net(nn.Module):
    num_outputs: int
    hidden: Sequence[int] = (4,)

    @nn.compact
    def __call__(self, x):
        for units in self.hidden:
            x = nn.relu(nn.Dense(units)(x))
        return nn.Dense(self.num_outputs)(x)

class Linear(nnx.Module):
    def __init__(self, width: int, *, rngs: nnx.Rngs):
        self.layer = nnx.Linear(2, width, rngs=rngs)

    def __call__(self, x):
        return self.layer(x)

class Broken(nnx.Module):
    def __init__(self):
        raise KeyError("no such setting")

def make(num_outputs, **options):
    return Net(num_outputs, **options)

def none():
    return None

ready = Net(2)
number = 3
'''


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    file = tmp_path / "nets.py"
    file.write_text(NETS)
    return file


def test_a_linen_class(nets: Path) -> None:
    spec = {"file": "nets.py", "name": "Net", "args": {"num_outputs": 2, "hidden": [8, 5]}}
    net = load_network(spec, folder=nets.parent)
    assert net.sha256 == hashlib.sha256(nets.read_bytes()).hexdigest()
    assert net.file == nets.resolve()
    assert net.module.hidden == (8, 5)
    assert hash(net.module) == hash(load_network(spec, folder=nets.parent).module)


def test_an_nnx_class_gets_rngs(nets: Path) -> None:
    spec = {"file": str(nets), "name": "Linear", "args": {"width": 3}}
    kernels = [
        np.asarray(nnx.state(load_network(spec, seed=seed).module)["layer"]["kernel"][...])
        for seed in (1, 1, 2)
    ]
    expected = nnx.Linear(2, 3, rngs=nnx.Rngs(1)).kernel[...]
    np.testing.assert_array_equal(kernels[0], expected)
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.any(kernels[0] != kernels[2])


def test_a_function_and_what_the_caller_offers(nets: Path) -> None:
    offered = {"num_outputs": 5, "dtype": "float32"}
    made = load_network({"file": str(nets), "name": "make"}, offered=offered)
    assert made.module.num_outputs == 5
    args = {"num_outputs": 4}
    own = load_network({"file": str(nets), "name": "Net", "args": args}, offered=offered)
    assert own.module.num_outputs == 4


def test_an_installed_module() -> None:
    net = load_network({"import": "bnn_jax.models.networks:MLP", "args": {"hidden": [3]}})
    assert net.module.hidden == (3,)
    assert net.file is not None
    assert net.sha256 == hashlib.sha256(net.file.read_bytes()).hexdigest()


def test_an_error_inside_the_network_names_its_line(nets: Path) -> None:
    net = load_network({"file": str(nets), "name": "Net", "args": {"num_outputs": 2}})
    variables = net.run(
        lambda: jax.eval_shape(net.module.init, jax.random.key(0), np.zeros((1, 3)))
    )
    assert set(variables) == {"params"}
    with pytest.raises(UserCodeError, match=r"^/.*nets.py, line 22: .*, in a call of Net\.$"):
        net.run(lambda: jax.eval_shape(net.module.init, jax.random.key(0), np.float32(1)))


def test_a_file_is_imported_once_and_can_be_pickled(nets: Path) -> None:
    first, second = import_file(nets), import_file(nets)
    assert first.module is second.module
    net = load_network({"file": str(nets), "name": "make", "args": {"num_outputs": 2}}).module
    assert pickle.loads(pickle.dumps(net)) == net
    nets.write_text(NETS.replace("(4,)", "(6,)"))
    changed = import_file(nets)
    assert changed.module is not first.module
    assert (first.module.Net.hidden, changed.module.Net.hidden) == ((4,), (6,))


def test_files_of_one_name_do_not_collide(tmp_path: Path) -> None:
    for folder, width in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(f"width = {width}")
    modules = [import_file(tmp_path / folder / "nets.py").module for folder in ("a", "b")]
    assert [m.width for m in modules] == [1, 2]


def test_a_file_may_import_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_a_test.py").write_text("width = 7")
    (tmp_path / "nets.py").write_text("from neighbour_of_a_test import width")
    before = list(sys.path)
    assert import_file(tmp_path / "nets.py").module.width == 7
    assert sys.path == before


def one_line(spec: dict[str, Any], folder: Path) -> str:
    with pytest.raises(UserCodeError) as caught, jax.ensure_compile_time_eval():
        load_network(spec, folder=folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith((".", "?"))
    return message


SPECS = {
    "empty": ({}, "A network must be"),
    "unknown key": ({"file": "nets.py", "nam": "Net"}, "'nam'.*did you mean 'name'"),
    "no name": ({"file": "nets.py"}, "got the keys file"),
    "both": (
        {"file": "nets.py", "name": "Net", "import": "a:B"},
        "got the keys file, name, import",
    ),
    "name with import": ({"import": "a:B", "name": "Net"}, "got the keys import, name"),
    "file is a number": ({"file": 3, "name": "Net"}, "'file' of a network must be text, got 3"),
    "args is a list": ({"file": "nets.py", "name": "Net", "args": [1]}, "'args'.*mapping"),
    "args with numbers": ({"file": "nets.py", "name": "Net", "args": {1: 2}}, "'args'.*mapping"),
    "no such file": (
        {"file": "net.py", "name": "Net"},
        "net.py does not exist, did you mean 'nets",
    ),
    "no such folder": ({"file": "no/net.py", "name": "Net"}, "there is no folder"),
    "not Python": ({"file": "nets.txt", "name": "Net"}, r"name must end in \.py"),
    "no such class": (
        {"file": "nets.py", "name": "net"},
        "did you mean 'Net'.*Net, Linear, Broken",
    ),
    "not a network": ({"file": "nets.py", "name": "Settings"}, "class, or a function.*Settings"),
    "a number": ({"file": "nets.py", "name": "number"}, "an object of type int"),
    "an instance": ({"file": "nets.py", "name": "ready"}, "already a network"),
    "returns none": ({"file": "nets.py", "name": "none"}, "must return .*NoneType"),
    "wrong argument": (
        {"file": "nets.py", "name": "Net", "args": {"hiden": 3}},
        "no argument 'hiden', did you mean 'hidden'. It takes num_outputs, hidden",
    ),
    "no arguments": ({"file": "nets.py", "name": "Broken", "args": {"a": 1}}, "It takes none"),
    "missing argument": ({"file": "nets.py", "name": "Net"}, "needs the argument 'num_outputs'"),
    "nnx wrong argument": (
        {"file": "nets.py", "name": "Linear", "args": {"features": 3}},
        "no argument 'features'.*It takes width",
    ),
    "rngs given": ({"file": "nets.py", "name": "Linear", "args": {"rngs": 0}}, "It takes width"),
    "raises": (
        {"file": "nets.py", "name": "Broken"},
        r"^/.*nets.py, line 34: KeyError: 'no such setting', in a call of Broken",
    ),
    "function raises": (
        {"file": "nets.py", "name": "make", "args": {"num_outputs": 2, "depth": 3}},
        "line 37: TypeError: .*depth.*make",
    ),
    "import without class": ({"import": "bnn_jax.models"}, r"package.module:MyNet, got"),
    "import of no module": ({"import": "no_such_package.nets:Net"}, "no module 'no_such_package'"),
    "import of no submodule": ({"import": "bnn_jax.no:Net"}, "no module 'bnn_jax.no'"),
    "import of no class": ({"import": "bnn_jax.models.networks:LeNet"}, "did you mean 'LeNet5'"),
    "import of no name": ({"import": "bnn jax:Net"}, "must be named as in package.module"),
}


@pytest.mark.parametrize("case", SPECS)
def test_a_wrong_specification_is_one_line(case: str, nets: Path) -> None:
    spec, expected = SPECS[case]
    message = one_line(spec, nets.parent)
    assert re.search(expected, message), message


FILES = {
    "syntax": ("x = 1\ndef f(:\n", r"nets.py, line 2: SyntaxError"),
    "indentation": ("if True:\nx = 1\n", r"nets.py, line 2: IndentationError"),
    "missing package": ("\nimport no_such_package\n", "line 2: ModuleNotFoundError.*no_such_pack"),
    "missing name": ("from flax import no_such_name\n", "line 1: ImportError"),
    "undefined": ("\n\nclass Net(Base): pass\n", "line 3: NameError: name 'Base'"),
    "at a call": ("def f():\n    1 / 0\nf()\n", "line 2: ZeroDivisionError"),
    "in a library": ("import json\n\njson.loads('{')\n", "line 3: JSONDecodeError"),
    "two lines": ("raise ValueError('first\\nsecond')\n", "line 1: ValueError: first second"),
    "exits": ("import sys\nsys.exit(1)\n", "line 2: SystemExit"),
    "null bytes": ("x = '\0'\n", "nets.py.*(SyntaxError|ValueError)"),
    "no classes": ("x = 1\n", "has no network 'Net'. It defines no network"),
    "only imported": ("from flax import linen\n", "It defines no network"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_broken_file_is_one_line_with_its_place(case: str, tmp_path: Path) -> None:
    content, expected = FILES[case]
    (tmp_path / "nets.py").write_text(content)
    loaded = set(sys.modules)
    message = one_line({"file": "nets.py", "name": "Net"}, tmp_path)
    assert re.search(expected, message), message
    if "has no network" not in message:  # a file that failed leaves nothing behind
        assert not {m for m in set(sys.modules) - loaded if m.startswith("bnn_jax_user")}


def test_a_file_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_bytes("name = 'é'\n".encode("latin-1"))
    assert "SyntaxError" in one_line({"file": "nets.py", "name": "Net"}, tmp_path)
