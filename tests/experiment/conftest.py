"""A finished run that several tests read."""

import shutil
from pathlib import Path

import pytest
from experiment_helpers import small

from bnn_jax import config as configs
from bnn_jax import experiment
from bnn_jax.experiment.folder import Record


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[configs.Config, Record]:
    """The settings and the summary of a run of `small`; no test changes its folder."""
    config = small(tmp_path_factory.mktemp("trained") / "run")
    return config, experiment.train(config)


@pytest.fixture
def copied(trained: tuple[configs.Config, Record], tmp_path: Path) -> Path:
    """A copy of its folder, which a test may change."""
    return Path(shutil.copytree(trained[0].output.dir, tmp_path / "copy"))
