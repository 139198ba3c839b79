"""StableHLO files: they run without bnn_jax and agree with `predict`; their cards describe them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import bnn_jax
from bnn_jax import export, gaussian, posteriors, predict, to_bnn
from bnn_jax.export.program import program
from bnn_jax.likelihoods import Bernoulli, Categorical, Normal
from core_helpers import data, key
from predict_helpers import Q, S, X, network

pytest.importorskip("flatbuffers")

NOISE = Normal(std=0.5)

# A process that cannot import bnn_jax or Flax runs every folder and saves what it computes.
ALONE = """
import sys
from pathlib import Path
for name in ("bnn_jax", "flax"):
    sys.modules[name] = None
import numpy as np
from jax import export
for folder in map(Path, sys.argv[1:]):
    run = export.deserialize((folder / "model.stablehlo").read_bytes()).call
    inputs = np.load(folder / "inputs.npz")
    outputs = run(*(inputs[name] for name in sorted(inputs)))
    np.savez(folder / "outputs.npz", **outputs)
"""


def run_alone(folders: dict[Path, list[Any]]) -> list[dict[str, np.ndarray]]:
    for folder, inputs in folders.items():
        np.savez(folder / "inputs.npz", **{f"{i}": np.asarray(x) for i, x in enumerate(inputs)})
    done = subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, folders)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [dict(np.load(folder / "outputs.npz")) for folder in folders]


def card_of(folder: Path) -> Any:
    return json.loads((folder / "card.json").read_text())


def assert_agrees(outputs: dict[str, np.ndarray], expected: Any) -> None:
    for name, value in outputs.items():
        np.testing.assert_allclose(value, getattr(expected, name), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_every_kind_runs_without_bnn_jax_and_agrees_with_predict(tmp_path: Path) -> None:
    images = data(0, 5, 3, 2)
    net = nn.Sequential([lambda x: x.reshape(x.shape[0], -1), nn.Dense(4)])
    model = to_bnn(net, net.init(key(0), images[:2]), initial_std=0.2)
    folders: dict[Path, list[Any]] = {}
    expected = []
    for kind in ("mean", "members", "sampled"):
        count = None if kind == "mean" else S
        folder = export.stablehlo(
            tmp_path / kind,
            model,
            None,
            Categorical(),
            images[:2],
            kind=kind,
            key=key(3),
            num_samples=count,
            temperature=2.0,
            labels=["a", "b", "c", "d"],
            units="brightness in [0, 1]",
        )
        words = [jax.random.key_data(key(3))] if kind == "sampled" else []
        folders[folder] = [*words, images]
        weights = gaussian.mean(model.posterior) if kind == "mean" else model.posterior
        tempered = Categorical(temperature=2.0)
        expected.append(
            predict(key(3), model, images, count, likelihood=tempered, posterior=weights)
        )
    names = ["expected_entropy", "mutual_information", "probabilities"]
    for folder, outputs, wanted in zip(folders, run_alone(folders), expected, strict=True):
        assert sorted(outputs) == (["probabilities"] if folder.name == "mean" else names)
        assert_agrees(outputs, wanted)
        card = card_of(folder)
        assert card["kind"] == folder.name
        assert card["labels"] == ["a", "b", "c", "d"]
        assert card["temperature"] == card["likelihood"]["temperature"] == 2.0
        assert card["num_samples"] == wanted.num_samples
        *_, x = card["inputs"]
        assert x == {
            "name": "x0",
            "shape": ["batch", 3, 2],
            "dtype": "float32",
            "units": "brightness in [0, 1]",
        }
        probabilities = next(o for o in card["outputs"] if o["name"] == "probabilities")
        assert probabilities["shape"] == ["batch", 4]
        assert card["versions"]["jax"] == jax.__version__
        assert card["versions"]["bnn_jax"] == bnn_jax.__version__
    assert card["inputs"][0]["shape"] == [2]
    assert card["inputs"][0]["dtype"] == "uint32"
    assert card["generator"] == "threefry13"
    assert card["platforms"] == ["cpu", "cuda", "tpu"]


def run_here(folder: Path, *inputs: Any) -> dict[str, np.ndarray]:
    from jax import export as jax_export

    run = jax_export.deserialize(bytearray((folder / "model.stablehlo").read_bytes())).call
    return {name: np.asarray(value) for name, value in run(*inputs).items()}


ENSEMBLE = [gaussian.sample(key(i), Q) for i in range(3)]


@pytest.mark.parametrize(
    ("posterior", "likelihood"),
    [(ENSEMBLE, NOISE), (posteriors.Samples.of(ENSEMBLE), Bernoulli()), (ENSEMBLE, jnp.tanh)],
    ids=["list", "Samples", "function"],
)
def test_the_members_of_an_ensemble(posterior: Any, likelihood: Any, tmp_path: Path) -> None:
    folder = export.stablehlo(
        tmp_path / "new", network, posterior, likelihood, X, kind="members", target_units="kg"
    )
    expected = predict(key(0), network, X, likelihood=likelihood, posterior=posterior)
    outputs = run_here(folder, X[:7])
    assert_agrees(outputs, jax.tree.map(lambda a: a[:7], expected))
    assert card_of(folder)["num_samples"] == 3
    if likelihood == NOISE:
        units = {o["name"]: o["units"] for o in card_of(folder)["outputs"]}
        assert units == {
            "mean": "kg",
            "aleatoric_variance": "(kg)^2",
            "epistemic_variance": "(kg)^2",
        }


def test_members_with_statistics_of_their_own(tmp_path: Path) -> None:
    net = nn.BatchNorm(use_running_average=True, use_scale=False)
    model = to_bnn(net, net.init(key(0), X))
    states = [{"batch_stats": {"mean": data(i, 3), "var": jnp.ones(3)}} for i in range(2)]
    members = posteriors.Samples.of([{"bias": data(9 + i, 3)} for i in range(2)], states)
    folder = export.stablehlo(tmp_path / "new", model, members, NOISE, X, kind="members")
    assert_agrees(
        run_here(folder, X), predict(key(0), model, X, likelihood=NOISE, posterior=members)
    )


@pytest.mark.parametrize("likelihood", [NOISE, Categorical()])
def test_members_one_by_one_are_the_same(likelihood: Any) -> None:
    options: dict[str, Any] = {"any_batch": False, "kwargs": {}}
    source = program(
        network, Q, likelihood, X, kind="members", key=key(0), num_samples=3, **options
    )
    together, apart = source.call(X), source.unrolled(X)
    assert sorted(together) == sorted(apart)
    for name, value in together.items():
        np.testing.assert_allclose(value, apart[name], rtol=1e-5, atol=1e-6)


def test_a_fixed_number_of_examples_for_a_network_that_needs_it(tmp_path: Path) -> None:
    def centred(params: Any, x: Any) -> Any:
        return (x - jnp.zeros((int(x.shape[0]), 1))) @ params["w"]

    with pytest.raises(ValueError, match="any_batch=False"):
        export.stablehlo(tmp_path / "new", centred, Q, NOISE, X, kind="mean")
    assert not (tmp_path / "new").exists()
    folder = export.stablehlo(tmp_path / "new", centred, Q, NOISE, X, kind="mean", any_batch=False)
    np.testing.assert_allclose(run_here(folder, X)["mean"], X @ Q["w"].mean, rtol=1e-5)
    assert card_of(folder)["inputs"][0]["shape"] == [10, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "best"}, "kind must be one of mean, members, one_pass, sampled; got 'best'"),
        ({"kind": "sampled"}, "needs num_samples"),
        ({"kind": "members"}, "pass key and num_samples"),
        ({"kind": "members", "posterior": gaussian.mean(Q)}, 'use kind="mean"'),
        ({"posterior": ENSEMBLE}, "not a trained network"),
        ({"labels": ["a"]}, "must name the 4 classes in order, got 1"),
        ({"labels": ["a"], "likelihood": NOISE}, "likelihood has none"),
        ({"units": ["m", "s"]}, "one entry for each of 1 inputs, got 2"),
        ({"temperature": 2.0, "likelihood": NOISE}, "leave temperature out"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"posterior": None}, "needs its posterior"),
    ],
)
def test_an_invalid_export_is_an_error(
    options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"kind": "mean", "posterior": Q, "likelihood": Categorical()}
    arguments |= options
    folder = tmp_path / "new"
    with pytest.raises(ValueError, match=message):
        export.stablehlo(folder, network, example_inputs=X, **arguments)
    assert not folder.exists()


def test_other_errors(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError, match="not empty"):
        export.stablehlo(tmp_path, network, Q, NOISE, X, kind="mean")
    with pytest.raises(TypeError, match="must be an array"):
        export.stablehlo(tmp_path / "new", network, Q, NOISE, [1.0], kind="mean")
    dropout = posteriors.Dropout({}, None, lambda *a: None)
    with pytest.raises(ValueError, match="no fixed members"):
        export.stablehlo(tmp_path / "new", network, dropout, NOISE, X, kind="members")
    for write in (export.onnx, export.savedmodel):
        with pytest.raises(ValueError, match=r"export\.stablehlo for the sampled predictor"):
            write(tmp_path / "new", network, Q, NOISE, X, kind="sampled")
