"""The results of a run: the same seed gives the same run folder and the same scores."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from experiment_helpers import CONFIGS, assert_equal, metrics_of, posterior_of, small

from bnn_jax import config as configs
from bnn_jax import experiment, gaussian
from bnn_jax.experiment import examples as run_data
from bnn_jax.experiment.folder import Record
from bnn_jax.experiment.run import set_up
from bnn_jax.predictive.predictions import Classification

CURVES = ["blundell_curve", "heteroscedastic_curve"]


def test_run_folder_holds_the_results(trained: tuple[configs.Config, Record]) -> None:
    config, summary = trained
    folder = config.output.dir
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert configs.load(folder / "config.yaml") == config
    for scores in (summary, summary["deterministic"]):
        assert 0.2 < scores["accuracy"] <= 1.0  # a tenth is chance
        assert 0.0 < scores["nll"] < math.log(10.0)
        assert 0.0 <= scores["ece"] <= 1.0
    assert summary["num_train"] == 256
    assert summary["steps"] == 3 * 8
    lines = metrics_of(config)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[2]["loss"] < lines[0]["loss"]
    for line in lines:
        layers = line["kl_by_layer"]
        assert set(layers) == {"fc1", "fc2"}
        assert math.isclose(sum(layers.values()), line["kl"], rel_tol=1e-5)
        total = line["dnn_factor"] * line["nll"] + line["bnn_factor"] * line["kl"]
        assert math.isclose(total, line["loss"], rel_tol=1e-5)
        assert math.isclose(line["bnn_factor"], 1 / 256, rel_tol=1e-6)


def test_one_seed_gives_one_run(trained: tuple[configs.Config, Record], tmp_path: Path) -> None:
    a, first = trained
    b = small(tmp_path / "b")
    second = experiment.train(b)
    assert_equal(posterior_of(a), posterior_of(b))
    assert metrics_of(a) == metrics_of(b)
    for name in ("accuracy", "nll", "ece"):
        assert first[name] == second[name]
        assert first["deterministic"][name] == second["deterministic"][name]
    other = experiment.train(small(tmp_path / "c", "seed=1"))
    assert other["nll"] != first["nll"]


def test_evaluate_gives_the_results_of_training_again(
    trained: tuple[configs.Config, Record], copied: Path
) -> None:
    _, summary = trained
    assert experiment.evaluate(copied) == summary | {"run": str(copied)}
    more = experiment.evaluate(copied, ["evaluation.num_samples=64"])
    assert more["num_samples"] == 64
    assert more["nll"] != summary["nll"]
    assert abs(more["nll"] - summary["nll"]) < 0.2
    assert more["deterministic"] == summary["deterministic"]


def test_validation_examples_are_held_out_of_training(tmp_path: Path) -> None:
    run = set_up(small(tmp_path / "run", "data.validation=56"))
    assert run.images.held_out_name == "validation"
    assert run.images.num_train == 200
    assert len(run.images.held_out[0]) == 56


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_is_learned_and_compared_with_its_distribution(tmp_path: Path, name: str) -> None:
    overrides = [
        "training.epochs=1",
        "objective.kl_schedule={name: constant}",
        "evaluation.num_samples=4",
        "evaluation.baseline_epochs=1",
        f"output.dir={tmp_path / 'run'}",
    ]
    config = configs.load(CONFIGS / f"{name}.yaml", overrides)
    summary = experiment.train(config)
    for scores in (summary, summary["deterministic"]):
        assert 0.0 <= scores["coverage_of_90_percent"] <= 1.0
        assert math.isfinite(scores["nll"])
        assert scores["rmse"] > 0.0
    for place in ("inside", "outside"):
        assert summary[place]["epistemic_std"] > 0.0
        assert summary[place]["aleatoric_std"] > 0.0
    assert ("noise_correlation" in summary["inside"]) == (name == "heteroscedastic_curve")
    assert all(line["rmse"] > 0.0 for line in metrics_of(config))
    assert experiment.evaluate(tmp_path / "run") == summary


def test_the_temperature_applies_to_weight_samples_only(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "training.epochs=1")
    before = experiment.train(config)
    baseline = before.pop("deterministic")
    sure = experiment.evaluate(tmp_path / "run", ["evaluation.temperature=0.01"])
    assert sure["deterministic"] == baseline
    assert sure["nll"] > 2 * before["nll"]  # after one epoch its accuracy is still low
    run = experiment.load(tmp_path / "run", ["evaluation.temperature=0.01"])
    images, _ = run.images.held_out
    means = gaussian.mean(run.weights)
    drawn, at_mean = (run.predict(q, images) for q in (run.fit.posterior, means))
    assert isinstance(drawn, Classification)
    assert isinstance(at_mean, Classification)
    assert drawn.expected_entropy.mean() < 0.1 * at_mean.expected_entropy.mean()


def test_images_are_padded_with_black(tmp_path: Path) -> None:
    settings = ["data.padding=2", "data.mean=0.5", "data.std=0.25"]
    config = small(tmp_path / "run", *settings)
    images = run_data.load(
        config.data, config.model, likelihood="categorical", batch_size=32, seed=0
    )
    batch = images.train[0][:3]
    expected = np.pad(np.asarray(batch) / 255.0, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(images.as_inputs(batch), (expected - 0.5) / 0.25, atol=1e-6)
