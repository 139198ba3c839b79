"""Run folders: where they are created, what is refused, and folders of earlier versions."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from experiment_helpers import CONFIGS, small

from bnn_jax import config as configs
from bnn_jax import experiment, gaussian
from bnn_jax.experiment.folder import RunError, RunFolder


def test_the_folder_of_an_older_run_loads(tmp_path: Path) -> None:
    config = configs.load(CONFIGS / "lenet5.yaml", ["evaluation.baseline_epochs=2"])
    folder = RunFolder(tmp_path / "run")
    folder.create(config)
    weights = {"kernel": jnp.arange(3.0)}
    folder.save_baseline(weights)
    text = folder.config_file.read_text()
    text = text.replace("deterministic_baseline", "deterministic_twin")
    folder.config_file.write_text(text.replace("baseline_epochs", "twin_epochs"))
    (folder.path / "baseline").rename(folder.path / "twin")
    assert folder.load_config() == config
    restored = folder.restore_baseline(weights)
    assert restored is not None
    np.testing.assert_array_equal(restored["kernel"], weights["kernel"])


def test_a_second_run_uses_the_next_folder(tmp_path: Path) -> None:
    first = RunFolder.new(tmp_path / "run")
    assert first.path == tmp_path / "run"
    first.create(small(tmp_path / "run"))
    RunFolder(tmp_path / "run-2").create(small(tmp_path / "run"))
    assert RunFolder.new(tmp_path / "run").path == tmp_path / "run-3"
    assert not (tmp_path / "run-3").exists()


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunError, match="cannot be created"):
            experiment.train(small(path))


def test_a_damaged_checkpoint_is_an_error(copied: Path) -> None:
    for file in (copied / "posterior").rglob("*"):
        if file.is_file():
            file.write_bytes(b"{" + file.read_bytes()[1:])
    with pytest.raises(RunError, match="cannot be read"):
        experiment.evaluate(copied)


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        experiment.train(small(tmp_path))
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_the_baseline_is_saved(copied: Path, tmp_path: Path) -> None:
    run = experiment.load(copied)
    like = gaussian.mean(run.weights)
    baseline = RunFolder(copied).restore_baseline(like)
    assert jax.tree.structure(baseline) == jax.tree.structure(like)
    means, weights = jax.tree.leaves(like), jax.tree.leaves(baseline)
    assert all((a != b).any() for a, b in zip(means, weights, strict=True))
    assert RunFolder(tmp_path / "none").restore_baseline(like) is None
    (copied / "baseline" / "_METADATA").write_text("{")
    with pytest.raises(RunError, match=r"The deterministic baseline .* cannot be read"):
        RunFolder(copied).restore_baseline(like)
