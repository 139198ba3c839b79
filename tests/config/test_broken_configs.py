"""Broken configs and data: each is refused with one line, exit code 2, and nothing written."""

from pathlib import Path

import numpy as np
import pytest

from bnn_jax import cli
from bnn_jax.cli import errors

RNG = np.random.default_rng(0)
CONFIG = """
data: {format: table, path: house.csv, targets: price, task: regression, validation: 0.2}
model: {name: mlp, hidden: [4]}
likelihood: {name: normal, std: 0.5}
prior: {name: normal, std: 1.0}
inference: {name: map, learning_rate: 1.0e-2}
training: {epochs: 1, batch_size: 8}
output: {dir: run}
"""
ROWS = [
    "size,rooms,city,price",
    *(f"{20 + i}.5,{i % 4},{'AB'[i % 2]},{1000 + 9 * i}.5" for i in range(30)),
]
NETS = """
from flax import linen as nn
import jax.numpy as jnp

class Good(nn.Module):
    num_outputs: int
    width: int = 4
    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_outputs)(nn.relu(nn.Dense(self.width)(x)))

class Flat(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)[:, 0]

class Wide(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(7)(x)

class Fails(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(x) @ jnp.ones((5, 1))

class Sorts(nn.Module):
    @nn.compact
    def __call__(self, x):
        return jnp.sort(nn.Dense(1)(x), axis=0)

class Needs(nn.Module):
    depth: int
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(x)

number = 3
def nothing():
    return None
"""
LOADERS = """
import numpy as np
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(30, 3)).astype(np.float32), rng.normal(size=30).astype(np.float32)
def good(): return X, Y
def ragged(): return X, Y[:-1]
def nan():
    x = X.copy(); x[4, 1] = np.nan
    return x, Y
def infinite():
    y = Y.copy(); y[2] = np.inf
    return X, y
def fails(): return 1 / 0
def single(): return X
def empty(): return X[:0], Y[:0]
def gap(): return X, np.array([0, 2] * 15)
def one(): return X, np.zeros(30, int)
def negative(): return X, np.array([-1, 0] * 15)
def keys(): return {"train": (X, Y), "tset": (X, Y)}
def text(): return np.array([["a"] * 3] * 30), Y
def tokens(): return np.full((30, 3), -1), np.array([0, 1] * 15)
"""
BINARY = "task: classification, targets: y"


def table(rows: list[str]) -> str:
    return "\n".join(rows) + "\n"


def changed(row: int, text: str) -> str:
    return table([*ROWS[:row], text, *ROWS[row + 1 :]])


FILES = {
    "house.csv": table([",".join(r.split(",")[:2] + r.split(",")[3:]) for r in ROWS]),
    "city.csv": table(ROWS),
    "ragged.csv": changed(5, "1,2,A"),
    "long.csv": changed(5, "1,2,A,4,5"),
    "words.csv": changed(7, "many,2,A,4.5"),
    "comma.csv": changed(7, '"1,5",2,A,4.5'),
    "nan.csv": changed(7, "nan,2,A,4.5"),
    "target.csv": changed(7, "1.5,2,A,"),
    "infinite.csv": changed(7, "inf,2,A,4.5"),
    "huge.csv": changed(7, "1e99,2,A,4.5"),
    "twice.csv": changed(0, "size,size,city,price"),
    "nameless.csv": changed(0, "size,,city,price"),
    "headless.csv": table(ROWS[1:]),
    "header.csv": ROWS[0] + "\n",
    "empty.csv": "",
    "semicolon.csv": table([row.replace(",", ";") for row in ROWS]),
    "quote.csv": changed(5, '1.5,2,"A,4.5'),
    "one_class.csv": table(["x,y", *["1.5,a"] * 20]),
    "classes.csv": table(["x,y", *[f"{i}.5,{i % 3}" for i in range(20)]]),
    "gap.csv": table(["x,y", *[f"{i}.5,{i % 2 * 2}" for i in range(20)]]),
    "negative.csv": table(["x,y", *[f"{i}.5,{i % 2 - 1}" for i in range(20)]]),
    "half.csv": table(["x,y", *[f"{i}.5,{i % 2 / 2}" for i in range(20)]]),
    "blank.csv": table(["x,y", *[f"{i}.5,{'' if i == 9 else 'ab'[i % 2]}" for i in range(20)]]),
    "few.csv": table(ROWS[:4]),
    "nets.py": NETS,
    "loaders.py": LOADERS,
    "imports.py": "import os\nimport no_such_package\n",
    "syntax.py": "class Net(:\n    pass\n",
    "raises.py": "x = 1\nraise ValueError('not today')\n",
}
PLAIN = "task: regression, targets: price, inputs: [size, rooms]"

# Overrides, and words of the message.
DATA = [
    (["data.path=no.csv"], "no.csv"),
    (["data.path=."], "CSV file"),
    (["data.targets=prize"], "no column 'prize'"),
    (["data.targets=[price, price]"], "twice"),
    (["data.targets=[]"], "data.targets"),
    (["data.inputs=[size, room]"], "no column 'room'"),
    (["data.inputs=[size, size]"], "twice"),
    (["data.inputs=[size, price]"], "both an input and a target"),
    (["data.inputs=size"], "data.inputs"),
    (["data.categorical=[town]"], "town"),
    (["data.categorical=rooms"], "data.categorical"),
    (["data.missing=zero"], "data.missing"),
    (["data.missing={town: mean}"], "town"),
    (["data.task=classify"], "data.task"),
    (["data.task=counts", "likelihood={name: poisson}"], "must be a count"),
    (["data.task=classification"], "likelihood"),
    (["data.task=binary", "likelihood={name: bernoulli}"], "30 classes"),
    (["data.class_names=[a, b]"], "class_names"),
    (["data.delimiter=;"], "delimiter"),
    (["data.delimiter=abc"], "delimiter"),
    (["data.validation=2.5"], "validation"),
    (["data.validation=-1"], "data.validation"),
    (["data.validation=1000"], "lower"),
    (["data.validation=1e-9"], "none"),
    (["data.validation=0.5", "data.test=0.5"], "lower"),
    (["data.validation=half"], "data.validation"),
    (["data.standardize=maybe"], "data.standardize"),
    (["data.split=0"], "data.split"),
    (["data.format=xlsx"], "data.format"),
    (["data.format=npz"], "not an npz file"),
    (["data={format: table}"], "data"),
    (["data={format: table, path: house.csv}"], "data.targets"),
    *(
        ([f"data={{format: table, path: {name}.csv, {options}}}", *more], words)
        for name, options, words, *more in [
            ("city", "targets: price, task: regression", "city"),
            ("ragged", PLAIN, "line 6"),
            ("long", PLAIN, "line 6"),
            ("words", PLAIN, "line 8"),
            ("comma", PLAIN, "decimal point"),
            ("nan", PLAIN, "line 8"),
            ("target", PLAIN, "line 8"),
            ("infinite", PLAIN, "finite"),
            ("huge", PLAIN, "finite"),
            ("twice", PLAIN, "same name"),
            ("nameless", PLAIN, "no name"),
            ("headless", PLAIN, "headless.csv"),
            ("header", PLAIN, "no rows"),
            ("empty", PLAIN, "empty"),
            ("semicolon", PLAIN, "delimiter"),
            ("quote", PLAIN, "quote"),
            ("one_class", BINARY, "only one class", "likelihood={name: categorical}"),
            ("classes", "task: binary, targets: y", "3 classes", "likelihood={name: bernoulli}"),
            ("blank", BINARY, "line 11", "likelihood={name: categorical}"),
            (
                "classes",
                BINARY + ", class_names: [a, b]",
                "none of the classes",
                "likelihood={name: categorical}",
            ),
            (
                "classes",
                BINARY + ", class_names: [a, a]",
                "twice",
                "likelihood={name: categorical}",
            ),
            ("classes", "targets: y", "task", "likelihood={name: categorical}"),
            ("classes", BINARY, "likelihood", "likelihood={name: poisson}"),
            ("few", PLAIN, "few.csv"),
            ("nets", "targets: y", "nets.csv"),
        ]
    ),
    *(
        ([f"data={{format: python, file: {file}, name: {name}, {options}}}", *more], words)
        for file, name, options, words, *more in [
            ("no.py", "good", "", "no.py"),
            ("loaders.py", "god", "", "good"),
            ("loaders.py", "X", "", "function"),
            ("loaders.py", "good", "args: {n: 3}", "loaders.py"),
            ("loaders.py", "ragged", "", "30"),
            ("loaders.py", "nan", "", "example"),
            ("loaders.py", "infinite", "", "finite"),
            ("loaders.py", "fails", "", "line 13"),
            ("loaders.py", "single", "", "(x, y)"),
            ("loaders.py", "empty", "", "loaders.py"),
            ("loaders.py", "gap", "", "gaps", "likelihood={name: categorical}"),
            ("loaders.py", "one", "", "loaders.py", "likelihood={name: categorical}"),
            ("loaders.py", "negative", "", "at least 0", "likelihood={name: categorical}"),
            ("loaders.py", "keys", "", "tset"),
            ("loaders.py", "text", "", "loaders.py"),
            ("loaders.py", "tokens", "kind: tokens", "tokens", "likelihood={name: categorical}"),
            ("imports.py", "load", "", "line 2"),
            ("syntax.py", "load", "", "line 1"),
            ("raises.py", "load", "", "not today"),
        ]
    ),
    (["data={format: npz, path: no.npz}"], "no.npz"),
    (["data={format: npz, path: house.csv}"], "npz"),
    (["data={format: image_folder, path: house.csv}", "likelihood={name: categorical}"], "folder"),
    (["data={format: image_folder, path: nowhere}", "likelihood={name: categorical}"], "nowhere"),
    (["data={format: uci, name: boston, folder: nowhere}"], "nowhere"),
    (["data={format: uci, name: bostn, folder: .}"], "bostn"),
    (["data={format: uci, name: boston, folder: ., split: -1}"], "data.split"),
]

MODELS = [
    (["model={file: no.py, name: Net}"], "no.py"),
    (["model={file: nets.py, name: Goood}"], "Good"),
    (["model={file: nets.py}"], "name"),
    (["model={file: nets.py, name: number}"], "number"),
    (["model={file: nets.py, name: nothing}"], "nothing"),
    (["model={file: nets.py, name: Good, args: {widht: 3}}"], "widht"),
    (["model={file: nets.py, name: Needs}"], "depth"),
    (["model={file: nets.py, name: Fails}"], "line 25"),
    (["model={file: nets.py, name: Wide}"], "(1, 7)"),
    (["model={file: nets.py, name: Flat}"], "do not fit the targets"),
    (["model={file: imports.py, name: Net}"], "line 2"),
    (["model={file: syntax.py, name: Net}"], "line 1"),
    (["model={file: raises.py, name: Net}"], "not today"),
    (["model={import: 'no_such_package:Net'}"], "no_such_package"),
    (["model={import: no_such_package}"], "model"),
    (["model={name: mpl, hidden: [4]}"], "model.name"),
    (["model={name: mlp, hidden: []}"], "model.hidden"),
    (["model={name: lenet5}"], "lenet5"),
    (["model={name: resnet20}"], "resnet20"),
    (["model={name: vit}"], "vit"),
    (["model={name: text_transformer, args: {vocabulary: 9}}"], "text_transformer"),
    (["model={name: text_transformer}"], "takes tokens"),
    (["model={name: lstm, args: {width: wide}}"], "width"),
]

METHODS = [
    (["inference.name=swagg"], "inference.name"),
    (["inference={name: map, rank: 3}"], "rank"),
    (["inference={name: swag, friction: 0.5}"], "friction"),
    (["inference={name: swag}", "training.epochs=1"], "fewer than 2 iterates"),
    (["inference={name: nuts, learning_rate: 0.1}"], "learning_rate"),
    (["inference={name: nuts, max_doublings: 99}"], "max_doublings"),
    (["inference={name: ensemble}"], "inference.method"),
    (["inference={name: ensemble, method: {name: nuts}}"], "inference.method"),
    (["inference={name: ensemble, method: {name: map, rank: 3}}"], "rank"),
    (["inference=map"], "inference"),
    (["inference=null"], "objective"),
    (["inference.learning_rate=0"], "inference.learning_rate"),
    (["objective={num_data: train}"], "objective"),
    (["optimizer={name: adam, learning_rate: 0.1}"], "optimizer"),
    (["estimator=flipout"], "estimator"),
    (["inference={name: bayes_by_backprop, num_samples: 2}", "estimator=moments"], "num_samples"),
    (
        [
            "inference={name: bayes_by_backprop}",
            "estimator=moments",
            "model={file: nets.py, name: Sorts}",
        ],
        "operation 'sort'",
    ),
    (["posterior.rho_mean=-3"], "posterior.rho_mean"),
    (["posterior.where=[nothing/*]"], "nothing/*"),
    (["evaluation.baseline_epochs=3"], "evaluation.baseline_epochs"),
    (["evaluation.num_samples=0"], "evaluation.num_samples"),
    (["training.batch_size=100"], "training.batch_size"),
    (["likelihood={name: poisson}"], "likelihood"),
    (["likelihood={name: categorical}"], "likelihood"),
    (["likelihood={name: bernoulli}"], "likelihood"),
    (["prior={name: normal, std: 0}"], "prior.std"),
    (["seeds=[1, 1]"], "seeds"),
    (["output.dir=house.csv"], "house.csv"),
    (["output.dir=."], "other files"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("broken")
    for name, text in {**FILES, "house.yaml": CONFIG}.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(("overrides", "words"), [*DATA, *MODELS, *METHODS])
def test_a_broken_config_is_refused_in_one_line(
    overrides: list[str],
    words: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(errors, "keep_compiled_code", lambda: None)
    monkeypatch.chdir(files)
    before = sorted(path for path in files.rglob("*") if "__pycache__" not in path.parts)
    assert cli.main(["train", "house.yaml", *overrides]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    message = err
    for override in overrides:
        message = message.replace(override, "")
    assert words in message
    after = sorted(path for path in files.rglob("*") if "__pycache__" not in path.parts)
    assert after == before


def test_the_config_is_right_without_overrides(files: Path) -> None:
    from bnn_jax import config
    from bnn_jax.experiment.run import set_up

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(files)
        assert set_up(config.load("house.yaml")).examples.num_train == 24
