"""The settings of a run: each one trains, or is rejected before anything is written."""

import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from experiment_helpers import metrics_of, small

from bnn_jax import config as configs
from bnn_jax import experiment, gaussian
from bnn_jax.experiment.examples import with_test_part
from bnn_jax.experiment.folder import RunError
from bnn_jax.experiment.run import set_up


def slowly(*overrides: str) -> Any:
    """Marks a case as slow, because its settings have their own tests elsewhere."""
    return pytest.param(list(overrides), marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "overrides",
    [
        ["estimator=flipout"],
        ["estimator=moments"],
        slowly("estimator={'fc1/*': local_reparam, '*': reparam}"),
        slowly("prior={name: scale_mixture, pi: 0.5, std1: 1.0, std2: 0.05}"),
        slowly("prior={name: laplace, scale: 0.1}", "objective.kl_schedule={name: blundell}"),
        ["prior={name: student_t, df: 4, scale: 0.1}", "objective.reverse_kl=true"],
        ["objective.num_samples=2", "objective.antithetic=true", "training.dtype=bfloat16"],
        ["posterior.where=['fc2/*']", "optimizer.average=0.9"],
        [
            "objective={dnn_factor: 256, bnn_factor: 1.0e-6}",
            "optimizer={name: adam_weight_decay, learning_rate: 1.0e-3}",
            "posterior={mean_init: normal}",
        ],
        ["objective.kl_schedule={name: cyclical, cycles: 2}", "optimizer.warmup_epochs=1"],
    ],
    ids=lambda overrides: overrides[0][:40],
)
def test_every_setting_trains(tmp_path: Path, overrides: list[str]) -> None:
    short = ["training.epochs=2", "evaluation={num_samples: 4, deterministic_baseline: false}"]
    config = small(tmp_path / "run", *short, *overrides)
    summary = experiment.train(config)
    lines = metrics_of(config)
    assert lines[1]["nll"] < lines[0]["nll"]
    assert all(math.isfinite(summary[name]) for name in ("accuracy", "nll", "ece", "kl"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.batch_size=300"], "batch_size"),
        (["data.train_examples=null", "data.validation=1340"], "batch_size"),
        (["data.mean=[0.1, 0.2]"], "data.mean has 2 values but the images have 1 channels"),
        (["model={name: lenet5}"], "lenet5 needs images of at least 16x16"),
        (["posterior.where=['conv9/*']"], "matches no weight"),
        (["objective.kl_every=9"], "is more than the 8 steps of an epoch"),
        (["estimator={'conv9/*': flipout, '*': reparam}"], "matches no random weight"),
    ],
    ids=lambda x: x[0][:40] if isinstance(x, list) else "",
)
def test_settings_that_do_not_fit_the_data(
    tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises((RunError, configs.ConfigError), match=message):
        experiment.train(small(tmp_path / "run", *overrides))
    assert not (tmp_path / "run").exists()


def test_the_config_sets_the_generator_of_the_noise(tmp_path: Path) -> None:
    short = ["training.epochs=1", "evaluation={num_samples: 4, deterministic_baseline: false}"]
    nll = {}
    for name in ("null", "hash"):
        config = small(tmp_path / name, f"training.generator={name}", *short)
        nll[name] = experiment.train(config)["nll"]
    assert experiment.evaluate(tmp_path / "hash")["nll"] == nll["hash"]
    assert nll["null"] != nll["hash"]


@pytest.mark.parametrize("count", ["3", "4"])
def test_an_odd_number_of_samples_is_accepted(copied: Path, count: str) -> None:
    summary = experiment.evaluate(copied, [f"evaluation.num_samples={count}"])
    assert summary["num_samples"] == int(count)


def test_padding_makes_small_images_fit_lenet5(tmp_path: Path) -> None:
    run = set_up(small(tmp_path / "run", "model={name: lenet5}", "data.padding=4"))
    images, _ = run.images.train
    posterior = run.model.posterior
    assert gaussian.random_leaves(posterior)
    outputs = jax.eval_shape(run.model.apply, jax.random.key(0), posterior, jnp.asarray(images[:3]))
    assert outputs.shape == (3, 10)


def test_the_test_part_does_not_depend_on_the_validation_part(tmp_path: Path) -> None:
    with_validation = set_up(small(tmp_path / "a", "data.validation=64"))
    assert with_validation.examples.held_out_name == "validation"
    found = with_test_part(with_validation.images, with_validation.config)
    assert found is not None
    wanted = set_up(small(tmp_path / "b")).images
    assert found.held_out_name == wanted.held_out_name == "test"
    for a, b in zip(found.held_out, wanted.held_out, strict=True):
        assert jnp.array_equal(a, b)
