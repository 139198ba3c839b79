"""Runs on own data with own networks, by any method."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from bnn_jax import config as configs
from bnn_jax import experiment, fit
from bnn_jax.config import inference as sections
from bnn_jax.experiment import build
from bnn_jax.experiment.own_data import Arrays
from bnn_jax.experiment.run import set_up
from bnn_jax.infer import METHODS
from bnn_jax.predictive.predictions import Classification, Regression

RNG = np.random.default_rng(0)
NET = """
from flax import nnx
import jax.numpy as jnp

class Net(nnx.Module):
    def __init__(self, width=4, *, num_outputs, rngs):
        self.first = nnx.Linear(12, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, rngs=rngs)
        self.last = nnx.Linear(width, num_outputs, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x.reshape(len(x), -1)))))
"""


def table(folder: Path) -> Path:
    size, city = RNG.uniform(40, 200, 60), RNG.choice(["Ulm", "Bern"], 60)
    price = 2000 * size + 50_000 * (city == "Ulm") + RNG.normal(0, 5000, 60)
    rows = [f"{s:.1f},{c},{p:.0f}" for s, c, p in zip(size, city, price, strict=True)]
    file = folder / "houses.csv"
    file.write_text("\n".join(["size,city,price", *rows]) + "\n")
    return file


def settings(folder: Path, *overrides: str) -> configs.Config:
    file = folder / "config.yaml"
    file.write_text(
        f"""
data: {{format: table, path: {table(folder)}, targets: price, categorical: [city], task: regression,
  validation: 0.2}}
model: {{name: mlp, hidden: [8]}}
likelihood: {{name: normal, std: 0.3}}
prior: {{name: normal, std: 1.0}}
inference: {{name: map, learning_rate: 1.0e-2}}
training: {{epochs: 2, batch_size: 16}}
output: {{dir: {folder / "run"}}}
"""
    )
    return configs.load(file, overrides)


def test_a_table_is_predicted_in_its_own_units(tmp_path: Path) -> None:
    config = settings(tmp_path, "training.epochs=60")
    summary = experiment.train(config)
    assert summary["method"] == "map"
    assert summary["evaluated_on"] == "validation"
    assert summary["rmse"] < 40_000  # the prices have a standard deviation of 95,000
    run = experiment.load(tmp_path / "run")
    assert isinstance(run.examples, Arrays)
    predicted = run.predict_held_out(run.fit.posterior)
    assert isinstance(predicted, Regression)
    assert 50_000 < predicted.mean.min() < predicted.mean.max() < 600_000
    assert experiment.evaluate(tmp_path / "run") == summary
    with pytest.raises(experiment.RunError, match=r"no test part: set data\.test"):
        experiment.evaluate(tmp_path / "run", test=True)


def test_the_test_part_is_scored_on_request(tmp_path: Path) -> None:
    experiment.train(settings(tmp_path, "data.test=0.1"))
    summary = experiment.evaluate(tmp_path / "run", test=True)
    assert (summary["evaluated_on"], summary["num_held_out"]) == ("test", 6)
    splits = experiment.load(tmp_path / "run").examples.splits  # type: ignore[union-attr]
    run = experiment.load(tmp_path / "run", test=True)
    np.testing.assert_array_equal(run.examples.held_out[1], splits.test.targets)  # type: ignore[union-attr]


def test_it_is_bit_for_bit_what_fit_returns(tmp_path: Path) -> None:
    config = settings(tmp_path, "inference={name: bayes_by_backprop, learning_rate: 1.0e-2}")
    experiment.train(config)
    run = set_up(config)
    result = fit(
        build.keys_of(0),
        run.model,
        run.examples.train,
        method=run.method,
        likelihood=run.likelihood,
        epochs=2,
        batch_size=16,
        standardize=True,
        steps_per_call=50,
        progress=False,
    )
    saved = experiment.load(tmp_path / "run").fit.posterior
    for one, other in zip(jax.tree.leaves(result.posterior), jax.tree.leaves(saved), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "inference",
    [
        # Trained by the command line in tests/cli/test_export_command.py.
        pytest.param("{name: ensemble, method: {name: map}, size: 2}", marks=pytest.mark.slow),
        "{name: ensemble, method: {name: bayes_by_backprop}, size: 2}",
        "{name: laplace, curvature: diagonal}",
        "{name: nuts, warmup: 20, chains: 1, max_doublings: 2}",
    ],
)
def test_any_method_trains(tmp_path: Path, inference: str) -> None:
    config = settings(tmp_path, f"inference={inference}", "training.epochs=24")
    summary = experiment.train(config)
    assert np.isfinite(summary["nll"])
    again = experiment.evaluate(tmp_path / "run", ["evaluation.num_samples=4"])
    assert np.isfinite(again["rmse"])


def test_own_images_and_an_own_network_with_batch_normalisation(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NET)
    images = RNG.integers(0, 256, (40, 2, 2, 3)).astype(np.uint8)
    labels = (images.mean(axis=(1, 2, 3)) > 127).astype(np.int64)
    np.savez(tmp_path / "data.npz", x=images, y=labels)
    config = settings(
        tmp_path,
        f"data={{format: npz, path: {tmp_path / 'data.npz'}, augment: {{padding: 1}}}}",
        f"model={{file: {tmp_path / 'nets.py'}, name: Net, args: {{width: 6}}}}",
        "likelihood={name: categorical}",
        "inference={name: swag}",
        "training.epochs=6",
    )
    summary = experiment.train(config)
    assert summary["evaluated_on"] == "test"
    assert summary["num_held_out"] == 4
    run = experiment.load(tmp_path / "run")
    predicted = run.predict(run.fit.posterior, images[:5], labels[:5])
    assert isinstance(predicted, Classification)
    assert predicted.probabilities.shape == (5, 2)


def test_the_sections_have_the_hyper_parameters_of_the_methods() -> None:
    """What a section leaves out are functions, and settings that the objective section has."""
    classes = [sections.Ensemble, *_subclasses(sections.Method)]
    by_name: dict[str, Any] = {c.model_fields["name"].annotation.__args__[0]: c for c in classes}
    assert set(by_name) == set(METHODS)
    for name, section in by_name.items():
        known = set(METHODS[name].__dataclass_fields__)
        assert set(section.model_fields) - {"name"} <= known, name


def _subclasses(base: type) -> list[type]:
    direct = base.__subclasses__()
    return direct + [c for d in direct for c in _subclasses(d)]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective={num_data: train}"], "'objective' has no effect with inference.name map"),
        (["estimator=flipout"], "estimator has no effect"),
        (["posterior.rho_mean=-3"], "posterior.rho_mean has no effect"),
        (["inference=null"], "'objective' is missing"),
        (["inference={name: swga}"], "did you mean 'swag'"),
        (["inference={name: swag, friction: 0.1}"], "unknown key 'inference.friction'"),
        (["evaluation.baseline_epochs=3"], "baseline_epochs .* has no effect"),
        (["model={file: nets.py}"], "model.name"),
        (["model={name: vitt}"], "'model.name' must be one of"),
        (["data.format=tabel"], "must be one of"),
        (["data.augment={padding: 1}"], "data.augment is for images"),
        (["likelihood={name: categorical}"], "likelihood categorical does not fit"),
    ],
    ids=lambda x: x[0][:40] if isinstance(x, list) else "",
)
def test_wrong_settings_are_one_line(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        experiment.train(settings(tmp_path, *overrides))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()
