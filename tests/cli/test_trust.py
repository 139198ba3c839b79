"""Runs with the user's own code: kept with its hash, loaded as trained, and never run unasked."""

import json
import shutil
from pathlib import Path

import cli_helpers as helpers
import pytest

from bnn_jax import cli, experiment
from bnn_jax.config import schema
from bnn_jax.experiment import origin, user_files
from bnn_jax.experiment.folder import RunError
from bnn_jax.fitting import files

NETWORK = """
from flax import linen as nn
from width_of_net import WIDTH


class Net(nn.Module):
    num_outputs: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.num_outputs)(nn.relu(nn.Dense(WIDTH)(x)))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trust")
    helpers.write_table(folder / "houses.csv")
    (folder / "nets.py").write_text(NETWORK)
    (folder / "width_of_net.py").write_text("WIDTH = 5\n")
    return helpers.train(folder, model={"file": str(folder / "nets.py"), "name": "Net"})


@pytest.fixture
def foreign(run: Path, tmp_path: Path) -> Path:
    """A copy that says that it comes from another machine."""
    copy = tmp_path / "foreign"
    shutil.copytree(run, copy)
    made = json.loads((copy / "origin.json").read_text())
    (copy / "origin.json").write_text(json.dumps(made | {"host": "elsewhere"}))
    return copy


def test_the_files_are_kept_with_their_hashes(run: Path) -> None:
    code = json.loads((run / "origin.json").read_text())["code"]
    assert sorted(code) == ["model/nets.py", "model/width_of_net.py"]
    for name, digest in code.items():
        assert files.sha256_of(run / "code" / name) == digest
        original = run.parent / Path(name).name
        assert original.read_bytes() == (run / "code" / name).read_bytes()


def test_a_run_made_here_is_loaded_without_trust(run: Path) -> None:
    loaded = experiment.load(run)
    assert loaded.config.model.file == run.parent / "nets.py"


def test_the_kept_code_is_used_when_the_file_has_changed(run: Path) -> None:
    file = run.parent / "nets.py"
    before = experiment.load(run).held_out_predictive.mean
    try:
        file.write_text("raise RuntimeError('the wrong file was run')\n")
        loaded = experiment.load(run)
        config = schema.load(run / "config.yaml")
        with pytest.raises(RunError, match=r"nets.py has changed since the run was started"):
            origin.check_same_code(run, config)
        file.unlink()
        again = experiment.load(run)
    finally:
        file.write_text(NETWORK)
    assert loaded.config.model.file == run / "code" / "model" / "nets.py"
    assert (loaded.held_out_predictive.mean == before).all()
    assert again.config.model.file == loaded.config.model.file
    (run / "code/model/nets.py").read_text()


def test_a_changed_copy_is_refused(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (foreign / "code/model/nets.py").write_text("raise RuntimeError('run')\n")
    config = schema.load(foreign / "config.yaml")
    gone = tmp_path / "gone" / "nets.py"
    moved = config.model_copy(update={"model": config.model.model_copy(update={"file": gone})})
    with pytest.raises(RunError, match="is not the file that the run was trained with"):
        origin.with_kept_code(foreign, moved)


def test_foreign_code_is_run_only_with_trust(
    foreign: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.csv").write_text("size,city\n50,A\n")
    files_of = ["--input", str(tmp_path / "new.csv"), "--output", str(tmp_path / "out.csv")]
    for call in (["predict", str(foreign), *files_of], ["evaluate", str(foreign), "--no-report"]):
        message = helpers.refused(call, capsys)
        assert "model.file" in message
        assert "--trust" in message
    assert not (tmp_path / "out.csv").exists()
    assert cli.main(["info", str(foreign)]) == 0  # runs no code
    assert cli.main(["predict", str(foreign), *files_of, "--trust"]) == 0
    assert (tmp_path / "out.csv").exists()


@pytest.mark.parametrize("made", [None, "{", "[]", '{"host": null}'])
def test_a_folder_of_unknown_origin_needs_trust(
    made: str | None, run: Path, tmp_path: Path
) -> None:
    config = schema.load(run / "config.yaml")
    if made is not None:
        (tmp_path / "origin.json").write_text(made)
    with pytest.raises(RunError, match="--trust"):
        origin.check_trusted(tmp_path, config, trust=False)
    origin.check_trusted(tmp_path, config, trust=True)


def test_an_imported_function_needs_trust_too(run: Path, tmp_path: Path) -> None:
    text = (run / "config.yaml").read_text()
    start, end = text.index("model:"), text.index("likelihood:")
    model = "model: {import: 'os:system', args: {command: touch ran}}\n"
    (tmp_path / "config.yaml").write_text(text[:start] + model + text[end:])
    with pytest.raises(RunError, match=r"model.import os:system.*--trust"):
        experiment.load(tmp_path)
    assert user_files.code_of(schema.load(tmp_path / "config.yaml")) == ["model.import os:system"]


def test_names_in_a_foreign_record_do_not_lead_out_of_the_folder(foreign: Path) -> None:
    made = json.loads((foreign / "origin.json").read_text())
    made["code"]["model/../../../secret.py"] = "0"
    made["code"]["/etc/passwd"] = "0"
    (foreign / "origin.json").write_text(json.dumps(made))
    assert sorted(origin._code(foreign)) == ["model/nets.py", "model/width_of_net.py"]


def test_a_run_without_code_is_loaded_from_anywhere(run: Path, tmp_path: Path) -> None:
    config = schema.load(run / "config.yaml")
    plain = schema.load(run / "config.yaml", ["model={name: mlp, hidden: [8]}"])
    assert plain != config
    origin.check_trusted(tmp_path, plain, trust=False)
