"""Runs whose training examples are read during training."""

import signal
from pathlib import Path

import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import data, experiment
from bnn_jax.experiment.run import set_up
from bnn_jax.fitting import loop

pytest.importorskip("grain")

SOURCE = """
import numpy as np

rng = np.random.default_rng(0)
images = rng.integers(0, 200, (96, 8, 8, 1)).astype(np.uint8)
labels = np.tile([0, 1, 2], 32)
images[np.arange(96), labels] = 255  # a white line at the class's height

class Source:
    def __len__(self):
        return len(labels)
    def __getitem__(self, index):
        return {"image": images[index], "label": labels[index]}

def load(test=True):
    held_out = (images[:24], labels[:24])
    return {"train": Source(), "test": held_out} if test else Source()

def arrays():
    return images, labels

def features():
    return {"train": Table(), "test": (np.ones((8, 2)), np.ones((8, 1)))}

class Table(Source):
    def __getitem__(self, index):
        return images[index, :2, 0, 0] / 255, labels[index : index + 1] / 2
"""


def settings(folder: Path, *overrides: str) -> configs.Config:
    (folder / "data.py").write_text(SOURCE)
    file = folder / "config.yaml"
    file.write_text(
        f"""
data: {{format: python, file: {folder / "data.py"}, stream: true}}
model: {{name: mlp, hidden: [16]}}
prior: {{name: normal, std: 1.0}}
inference: {{name: map, learning_rate: 1.0e-2}}
training: {{epochs: 3, batch_size: 16}}
output: {{dir: {folder / "run"}}}
"""
    )
    return configs.load(file, overrides)


def test_a_streamed_run_learns_and_is_evaluated(tmp_path: Path) -> None:
    summary = experiment.train(settings(tmp_path, "training.epochs=25"))
    assert summary["num_train"] == 96
    assert summary["steps"] == 25 * 6
    assert summary["accuracy"] > 0.9
    assert experiment.evaluate(tmp_path / "run")["nll"] == summary["nll"]


def test_held_out_examples_are_not_trained_on(tmp_path: Path) -> None:
    run = set_up(settings(tmp_path, "data.args={test: false}", "data.test=0.25"))
    assert run.examples.num_train == 72
    assert len(run.examples.held_out[0]) == 24
    assert run.examples.stream is not None
    trained = {image.tobytes() for image, _ in run.examples.stream}  # type: ignore[attr-defined]
    held_out = {np.asarray(image).tobytes() for image in run.examples.held_out[0]}
    assert len(trained) == 72
    assert not trained & held_out


def test_a_resumed_run_is_the_run_that_was_not_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = experiment.train(settings(tmp_path, f"output.dir={tmp_path}/whole"))
    advance = loop.Progress.advance
    steps: list[int] = []

    def stop(self: loop.Progress, count: int, numbers: object) -> None:
        steps.append(count)
        if len(steps) == 8:
            signal.raise_signal(signal.SIGINT)
        advance(self, count, None)

    monkeypatch.setattr(loop.Progress, "advance", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment.train(settings(tmp_path))
    again = experiment.train(settings(tmp_path), resume=True)
    assert again["nll"] == whole["nll"]


def test_the_sample_is_random_and_sets_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnn_jax.data.streamed.SAMPLE", 10)
    settings(tmp_path)
    splits = data.read_python(tmp_path / "data.py", stream=True)
    assert len(splits.train) == 10
    assert splits.stream is not None
    assert len(splits.stream) == 96
    assert splits.train.class_names == ("0", "1", "2")
    image, label = splits.stream[4]
    assert (image.shape, image.dtype, int(label)) == ((8, 8, 1), np.uint8, 1)


WRONG = {
    "no held-out examples": (["data.args={test: false}"], "data.stream needs held-out examples"),
    "arrays": (["data.stream=true", "data.name=arrays"], "must return"),
    "standardised": (
        ["data.name=features", "data.task=regression", "likelihood={name: normal, std: 1.0}"],
        "data.standardize needs the statistics",
    ),
    "all examples in a step": (["inference={name: nuts}"], "nuts takes all examples"),
    "two parts for the test": (["data.test=0.1"], "has its own test part"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_streamed_is_one_clear_error(case: str, tmp_path: Path) -> None:
    overrides, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        experiment.train(settings(tmp_path, *overrides))
    assert not (tmp_path / "run").exists()
