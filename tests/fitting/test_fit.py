"""`fit`: what it returns, that it can be interrupted and resumed, and that it refuses bad input."""

import signal
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import Fit, NormalPrior, fit, infer, likelihoods, to_bnn
from bnn_jax.fitting import patience
from bnn_jax.fitting.lock import LockedError, locked
from bnn_jax.posteriors import MeanField, Point

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.1 * RNG.normal(size=(64, 1))).astype(np.float32)
LABELS = (X.sum(axis=1) > 0).astype(np.int32)
METHODS = {
    "map": infer.map(learning_rate=0.05),
    "bayes_by_backprop": infer.bayes_by_backprop(learning_rate=0.05),
}


def model(outputs: int = 1) -> Any:
    network = nn.Dense(outputs)
    return to_bnn(network, network.init(jax.random.key(0), X), prior=NormalPrior(std=1.0))


def run(method: str = "map", **options: Any) -> Fit:
    settings: dict[str, Any] = {
        "likelihood": likelihoods.Normal(std=0.1),
        "epochs": 3,
        "batch_size": 16,
        "progress": False,
        **options,
    }
    return fit(jax.random.key(0), model(), (X, Y), method=METHODS[method], **settings)


@pytest.mark.parametrize("method", METHODS)
def test_it_learns_a_linear_function(method: str) -> None:
    result = run(method, epochs=60)
    scores = result.evaluate(X, Y)
    assert scores["rmse"] < 0.15
    assert scores["log_likelihood"] > 0.3
    assert [line["epoch"] for line in result.history] == list(range(1, 61))


def test_the_posterior_is_of_the_methods_kind() -> None:
    assert isinstance(run("map").posterior, Point)
    assert isinstance(run("bayes_by_backprop").posterior, MeanField)


@pytest.mark.parametrize("method", METHODS)
def test_predictions_in_one_pass(method: str) -> None:
    result = run(method)
    got = result.predict(X, method="moments")
    tree = result.posterior.mean() if method == "map" else result.posterior.tree
    kernel, bias = tree["kernel"], tree["bias"]
    if method == "map":
        mean, variance = X @ kernel + bias[None], np.zeros_like(Y)
    else:
        mean = X @ kernel.mean + bias.mean[None]
        variance = X**2 @ kernel.std**2 + bias.std[None] ** 2
    np.testing.assert_allclose(got.mean, mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.epistemic_variance, variance, rtol=1e-4, atol=1e-7)
    assert got.num_samples == 0


def test_predictions_are_in_the_targets_units() -> None:
    scaled = fit(
        jax.random.key(0),
        model(),
        (X * 7 + 3, 100 * Y - 40),
        method=METHODS["map"],
        likelihood=likelihoods.Normal(std=0.1),
        epochs=100,
        batch_size=16,
        standardize=True,
        progress=False,
    )
    scores = scaled.evaluate(X * 7 + 3, 100 * Y - 40)
    assert scores["rmse"] < 15
    predicted = scaled.predict(X * 7 + 3, targets=100 * Y - 40, levels=(0.05, 0.95))
    std = 0.1 * float(np.std(100 * Y))
    np.testing.assert_allclose(predicted.std, std, rtol=1e-3)
    z = (100 * Y - 40 - predicted.mean)[:, 0] / std
    expected = -0.5 * z**2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(predicted.log_prob, expected, rtol=1e-3, atol=1e-3)
    low, high = predicted.interval(0.9)
    np.testing.assert_allclose(high - low, 2 * 1.6449 * std, rtol=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_fit_resumes_bit_for_bit(method: str, tmp_path: Path) -> None:
    def stop(line: dict[str, Any], now: Fit) -> None:
        if line["epoch"] == 2 and not resumed:
            signal.raise_signal(signal.SIGINT)

    resumed = False
    whole = run(method, epochs=4)
    with pytest.raises(KeyboardInterrupt):
        run(method, epochs=4, checkpoint=tmp_path / "fit", callbacks=[stop])
    resumed = True
    again = run(method, epochs=4, checkpoint=tmp_path / "fit", callbacks=[stop])
    jax.tree.map(np.testing.assert_array_equal, again.posterior, whole.posterior)
    assert [line["loss"] for line in again.history] == [line["loss"] for line in whole.history]


def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    run(epochs=1, checkpoint=tmp_path / "fit")
    with pytest.raises(ValueError, match="another fit .different settings"):
        run(epochs=2, checkpoint=tmp_path / "fit")


def test_other_data_another_key_and_another_start_are_refused(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "method": METHODS["map"],
        "likelihood": likelihoods.Normal(std=0.1),
        "epochs": 1,
        "progress": False,
        "batch_size": 16,
        "checkpoint": tmp_path,
    }
    fit(jax.random.key(0), model(), (X, Y), **settings)
    other = X.copy()
    other[-1, -1] += 1e-6
    network = nn.Dense(1)
    start = to_bnn(network, network.init(jax.random.key(9), X), prior=NormalPrior(std=1.0))
    with pytest.raises(ValueError, match="another fit .different data"):
        fit(jax.random.key(0), model(), (other, Y), **settings)
    with pytest.raises(ValueError, match="another fit .different key"):
        fit(jax.random.key(1), model(), (X, Y), **settings)
    with pytest.raises(ValueError, match="another fit .different model"):
        fit(jax.random.key(0), start, (X, Y), **settings)


def test_a_state_of_step_0_and_states_within_an_epoch_are_saved(tmp_path: Path) -> None:
    run(epochs=1, checkpoint=tmp_path / "whole", checkpoint_minutes=1e-9)
    assert [p.name for p in sorted((tmp_path / "whole").iterdir())] == [
        f"{n:06}-step-{n}" for n in (2, 3, 4)
    ]

    def fail(line: dict[str, Any], now: Fit) -> None:
        raise RuntimeError("a callback's own error")

    with pytest.raises(RuntimeError, match="own error"):
        run(epochs=1, checkpoint=tmp_path / "start", callbacks=[fail])
    assert [p.name for p in (tmp_path / "start").iterdir()] == ["000000-step-0"]


def test_a_fit_that_a_callback_stopped_stays_stopped(tmp_path: Path) -> None:
    def stop(line: dict[str, Any], now: Fit) -> bool:
        return line["epoch"] == 2

    first = run(epochs=9, checkpoint=tmp_path, callbacks=[stop])
    again = run(epochs=9, checkpoint=tmp_path)
    assert len(again.history) == 2
    jax.tree.map(np.testing.assert_array_equal, again.posterior, first.posterior)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(LockedError, match="is in use by process"):
        run(epochs=1, checkpoint=tmp_path)


def test_the_history_is_in_the_targets_units() -> None:
    """One batch of all examples and no learning: the losses are those of the start, and the end."""
    result = fit(
        jax.random.key(0),
        model(),
        (X, 100 * Y - 40),
        method=infer.map(learning_rate=1e-20),
        likelihood=likelihoods.Normal(std=0.1),
        epochs=1,
        batch_size=64,
        standardize=True,
        progress=False,
    )
    line, scores = result.history[0], result.evaluate(X, 100 * Y - 40)
    np.testing.assert_allclose(line["nll"], scores["nll"], rtol=1e-5)
    np.testing.assert_allclose(line["squared_error"], scores["rmse"] ** 2, rtol=1e-5)
    prior = float(
        np.sum(np.asarray(result.model.prior.log_prob(result.posterior.params["kernel"])))
    )
    prior += float(np.sum(np.asarray(result.model.prior.log_prob(result.posterior.params["bias"]))))
    np.testing.assert_allclose(line["loss"], scores["nll"] - prior / 64, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(method: str, tmp_path: Path) -> None:
    result = run(method, standardize=True)
    result.save(tmp_path / "saved")
    loaded = Fit.load(tmp_path / "saved", model())
    jax.tree.map(np.testing.assert_array_equal, loaded.posterior, result.posterior)
    assert loaded.evaluate(X, Y) == result.evaluate(X, Y)
    assert loaded.method == result.method
    assert loaded.history == result.history
    result.save(tmp_path / "saved")
    (contents,) = (tmp_path / "saved").glob("fit/*/contents.json")
    contents.write_text(contents.read_text().replace("num_data", "num_date"))
    with pytest.raises(ValueError, match="contents.json is damaged"):
        Fit.load(tmp_path / "saved", model())
    with pytest.raises(ValueError, match="holds no fit"):
        Fit.load(tmp_path / "nothing", model())


def test_validation_and_early_stopping() -> None:
    flat = fit(
        jax.random.key(0),
        model(),
        (X, Y),
        method=infer.map(learning_rate=1e-12),
        likelihood=likelihoods.Normal(std=0.1),
        epochs=50,
        batch_size=16,
        validation=(X, Y),
        early_stopping=patience(3),
        progress=False,
    )
    assert len(flat.history) == 4
    assert {"nll", "rmse"} <= set(flat.history[0]["validation"])


def test_a_callback_can_stop() -> None:
    assert len(run(epochs=9, callbacks=[lambda line, now: line["epoch"] == 2]).history) == 2


class WithModes(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.last = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.last(self.dropout(nnx.relu(self.norm(self.first(x)))))


class LinenWithModes(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(16)(x))
        return nn.Dense(2)(nn.Dropout(0.1, deterministic=not train)(nn.relu(h)))


def networks_with_modes() -> dict[str, Any]:
    linen = LinenWithModes()
    variables = linen.init(jax.random.key(0), X, train=False)
    return {"nnx": to_bnn(WithModes(nnx.Rngs(0))), "linen": to_bnn(linen, variables)}


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_modes_of_a_network_are_found_and_batch_statistics_are_current(kind: str) -> None:
    result = fit(
        jax.random.key(0),
        networks_with_modes()[kind],
        (X, LABELS),
        method=infer.map(learning_rate=0.02),
        likelihood=likelihoods.Categorical(),
        epochs=40,
        batch_size=16,
        progress=False,
    )
    # 160 steps with a momentum of 0.99 leave running averages that lag behind.
    assert result.evaluate(X, LABELS)["nll"] < 0.35
    first, second = (result.predict(X).probabilities for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_inputs_may_be_a_tuple_of_arrays() -> None:
    def network(params: Any, a: jax.Array, b: jax.Array) -> jax.Array:
        return (a + b) @ params["w"]

    result = fit(
        jax.random.key(0),
        to_bnn(network, {"w": jnp.zeros((3, 1))}, prior=NormalPrior(std=1.0)),
        ((0.3 * X, 0.7 * X), Y),
        method=METHODS["map"],
        likelihood=likelihoods.Normal(std=0.1),
        epochs=60,
        batch_size=16,
        progress=False,
    )
    assert result.evaluate((0.3 * X, 0.7 * X), Y)["rmse"] < 0.15


NAN = np.where(np.arange(64) == 5, np.nan, 1.0).astype(np.float32)[:, None] * X
CATEGORICAL = {"likelihood": likelihoods.Categorical()}

WRONG_CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "no pair": ({"data": X}, r"data must be a pair"),
    "lengths differ": ({"data": (X, Y[:9])}, "same number of examples"),
    "no examples": ({"data": (X[:0], Y[:0])}, "at least 1"),
    "NaN inputs": ({"data": (NAN, Y)}, "NaN or infinite"),
    "infinite targets": ({"data": (X, np.full_like(Y, np.inf))}, "NaN or infinite"),
    "validation lengths": ({"validation": (X, Y[:3])}, "validation: .*same number"),
    "no epochs": ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
    "epochs of a half": ({"epochs": 0.5}, "epochs must be a whole number"),
    "epochs True": ({"epochs": True}, "epochs must be a whole number"),
    "batch size 0": ({"batch_size": 0}, "batch_size must be"),
    "batch size too large": ({"batch_size": 65}, "must be at most the number of training"),
    "validate_every 0": ({"validate_every": 0}, "validate_every must be"),
    "checkpoint_every 0": ({"checkpoint_every": 0}, "checkpoint_every must be"),
    "no minutes": ({"checkpoint_minutes": 0}, "checkpoint_minutes must be a positive number"),
    "NaN minutes": ({"checkpoint_minutes": float("nan")}, "checkpoint_minutes must be"),
    "float labels": ({"data": (X, Y[:, 0]), **CATEGORICAL}, "needs integer labels"),
    "negative labels": ({"data": (X, LABELS - 1), **CATEGORICAL}, "labels must be at least 0"),
    "too many classes": (
        {"data": (X, LABELS + 1), "model": model(2), **CATEGORICAL},
        "below the network's 2 classes",
    ),
    "labels of rank 2": (
        {"data": (X, LABELS[:, None]), "model": model(2), **CATEGORICAL},
        "cannot score",
    ),
    "Bernoulli targets of 7": (
        {"data": (X, 7 * LABELS[:, None]), "likelihood": likelihoods.Bernoulli()},
        "must be 0 or 1",
    ),
    "targets of the wrong width": ({"data": (X, np.hstack([Y, Y]))}, "cannot score"),
    "inputs of the wrong width": ({"data": (X[:, :2], Y)}, "cannot take inputs of shape"),
    "standardised tuple": ({"data": ((X, X), Y), "standardize": True}, "standardize needs inputs"),
    "a file as checkpoint": ({"checkpoint": __file__}, "checkpoint must be a folder"),
}


@pytest.mark.parametrize("case", WRONG_CALLS)
def test_a_wrong_call_is_one_clear_error(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    changed, message = WRONG_CALLS[case]
    call: dict[str, Any] = {
        "model": model(),
        "data": (X, Y),
        "method": METHODS["map"],
        "likelihood": likelihoods.Normal(std=0.1),
        "epochs": 1,
        "batch_size": 16,
        "progress": False,
        **changed,
    }
    with pytest.raises((TypeError, ValueError), match=message):
        fit(jax.random.key(0), call.pop("model"), call.pop("data"), **call)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: infer.map(learning_rate=0.0), "learning_rate must be a positive number"),
        (lambda: infer.map(learning_rate=float("nan")), "learning_rate must be a positive"),
        (lambda: infer.bayes_by_backprop(learning_rate=-1.0), "learning_rate must be a positive"),
        (lambda: infer.bayes_by_backprop(kl_warmup=1.5), "kl_warmup is a fraction"),
        (lambda: patience(0), "epochs must be"),
    ],
)
def test_wrong_hyper_parameters(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
