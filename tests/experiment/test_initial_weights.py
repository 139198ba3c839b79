"""Runs that start from the weights of another run, or of a file."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import table_runs

from bnn_jax import config as configs
from bnn_jax import experiment, gaussian
from bnn_jax.experiment import initial_weights
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.run import Run, set_up

VARIATIONAL = "inference={name: bayes_by_backprop, learning_rate: 1.0e-6}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds house.csv, house.yaml, and a trained run."""
    path = tmp_path_factory.mktemp("pretrained")
    experiment.train(configs.load(table_runs.write(path), ["training.epochs=3"]))
    return path


def named(tree: Any) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {gaussian.path_name(path): np.asarray(leaf) for path, leaf in leaves}


def trained(folder: Path) -> dict[str, np.ndarray]:
    return named(experiment.load(folder / "run").fit.posterior.mean())


def run_from(folder: Path, source: Path, *changes: str) -> Run:
    settings = [f"initial_weights={source}", f"output.dir={folder / 'new'}", *changes]
    return initial_weights.started(set_up(configs.load(folder / "house.yaml", settings)))


def means(run: Run) -> dict[str, np.ndarray]:
    return named(gaussian.mean(run.model.posterior))


@pytest.mark.parametrize("source", ["run", "npz"])
def test_the_means_are_the_weights_of_the_source(source: str, folder: Path, tmp_path: Path) -> None:
    wanted = trained(folder)
    file = folder / "run"
    if source == "npz":
        file = tmp_path / "weights.npz"
        np.savez(file, **{name: value.astype(np.float64) for name, value in wanted.items()})
    run = run_from(folder, file, VARIATIONAL)
    found = means(run)
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value)
    # The widths stay those of the posterior section.
    fresh = set_up(configs.load(folder / "house.yaml", [VARIATIONAL]))
    for ours, own in zip(
        jax.tree.leaves(gaussian.std(run.model.posterior)),
        jax.tree.leaves(gaussian.std(fresh.model.posterior)),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, own)
    assert any((means(fresh)[name] != wanted[name]).any() for name in wanted)


def test_a_training_starts_from_them(folder: Path, tmp_path: Path) -> None:
    settings = [f"initial_weights={folder / 'run'}", f"output.dir={tmp_path / 'new'}", VARIATIONAL]
    config = configs.load(folder / "house.yaml", settings)
    experiment.train(config)
    assert configs.load(tmp_path / "new" / "config.yaml") == config
    after = named(experiment.load(tmp_path / "new").fit.posterior.mean())
    for name, value in trained(folder).items():
        np.testing.assert_allclose(after[name], value, atol=1e-4)


def test_a_source_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    wanted = trained(folder)
    first, *others = wanted
    files = {
        "lacks": {name: wanted[name] for name in others},
        "needs": {**wanted, first: np.zeros((2, 2))},
        "which the network lacks": {**wanted, "Dense_9/kernel": np.zeros(3)},
    }
    for message, arrays in files.items():
        np.savez(tmp_path / "weights.npz", **arrays)
        with pytest.raises(RunError, match=message):
            run_from(folder, tmp_path / "weights.npz")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04")
    for name, message in {
        "broken.npz": "cannot be read",
        "no.npz": "cannot be read",
        "no": "a run folder",
    }.items():
        with pytest.raises(RunError, match=message):
            run_from(folder, tmp_path / name)


@pytest.mark.parametrize(
    "change",
    [
        "inference={name: ensemble, method: {name: map}, size: 2}",
        "posterior={mean_init: normal, mean_std: 0.1}",
    ],
)
def test_initial_weights_without_effect_are_refused(change: str, folder: Path) -> None:
    changes = [f"initial_weights={folder / 'run'}", VARIATIONAL, change]
    with pytest.raises(configs.ConfigError, match="initial_weights has no effect"):
        configs.load(folder / "house.yaml", changes)
