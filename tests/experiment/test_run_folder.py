"""Run folders of earlier versions, with the former names of settings and files."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from bnn_jax import config as configs
from bnn_jax.experiment.folder import RunFolder

CONFIGS = Path(__file__).parents[2] / "configs"


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
