"""MindSpore's toolbox class: its shapes, and uncertainties that are where they should be."""

import inspect
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import sklearn.metrics
from flax import linen as nn
from flax import nnx

from bnn_jax.likelihoods import Categorical
from bnn_jax.networks.network import as_network
from bnn_jax.predictive.posterior_predictive import predict
from bnn_jax.toolbox.aleatoric_head import aleatoric_head
from bnn_jax.toolbox.uncertainty_evaluation import UncertaintyEvaluation

Batches = list[tuple[np.ndarray, np.ndarray]]


class MLP(nn.Module):
    outputs: int
    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.relu(nn.Dense(32)(x))
        if self.rate:
            x = nn.Dropout(self.rate, deterministic=not train)(x)
        x = nn.relu(nn.Dense(32)(x))
        return nn.Dense(self.outputs)(x)


class NnxMLP(nnx.Module):
    def __init__(self, outputs: int, rngs: nnx.Rngs) -> None:
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, outputs, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(nnx.relu(self.norm(self.first(x))))


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Conv(3, (2,))(nn.relu(nn.Conv(4, (2,))(x[..., None]))).mean(axis=1)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the types that are checked in the tests alone, as users have it."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


def batches(x: np.ndarray, y: np.ndarray, size: int = 50) -> Batches:
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


def clusters(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three clusters; where x[:, 2] > 0, most labels are drawn at random."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    angle = 2 * np.pi * y / 3
    centre = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.concatenate([centre + 0.3 * rng.normal(size=(n, 2)), rng.normal(size=(n, 1))], axis=1)
    noisy = x[:, 2] > 0
    labels = np.where(noisy & (rng.random(n) < 0.7), rng.integers(0, 3, n), y)
    return x.astype(np.float32), labels.astype(np.int32), noisy


X, LABELS, NOISY = clusters(1000, 0)
NET = MLP(3)
VARIABLES = jax.jit(NET.init)(jax.random.key(0), X[:1])


def classifier(**options: Any) -> UncertaintyEvaluation:
    options = {"variables": VARIABLES, **options}
    return UncertaintyEvaluation(NET, batches(X, LABELS), "classification", 3, **options)


@pytest.fixture(scope="module")
def trained() -> UncertaintyEvaluation:
    return classifier(epochs=15, optimizer=optax.adam(3e-3))


def noise_std(x: np.ndarray) -> np.ndarray:
    return 0.05 + 0.3 * (1 + np.sin(2 * x))


def test_the_signature_is_mindspores() -> None:
    parameters = list(inspect.signature(UncertaintyEvaluation.__init__).parameters.values())[1:]
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    defaults = {p.name: p.default for p in positional}
    assert list(defaults.items()) == [
        ("model", inspect.Parameter.empty),
        ("train_dataset", inspect.Parameter.empty),
        ("task_type", inspect.Parameter.empty),
        ("num_classes", None),
        ("epochs", 1),
        ("epi_uncer_model_path", None),
        ("ale_uncer_model_path", None),
        ("save_model", False),
    ]


def test_epistemic_is_the_variance_of_probabilities(trained: UncertaintyEvaluation) -> None:
    got = trained.eval_epistemic_uncertainty(X[:20])
    assert got.shape == (20, 3)
    assert 0 < got.min() <= got.max() <= 0.25
    assert trained.epi_uncer_model is not None
    samples = predict(
        jax.random.fold_in(jax.random.key(0), 1),
        trained.epi_uncer_model,
        X[:20],
        num_samples=10,
        likelihood=Categorical(),
        keep_samples=True,
    ).samples
    exact = np.var(scipy.special.softmax(samples.astype(np.float64), axis=-1), axis=0)
    np.testing.assert_allclose(got, exact, rtol=1e-3, atol=1e-7)
    # MindSpore's.
    logits = trained.eval_epistemic_uncertainty(X[:20], of="logits")
    np.testing.assert_allclose(logits, np.var(samples, axis=0), rtol=1e-3)
    scaled = trained.eval_epistemic_uncertainty(X[:20], normalize=True)
    np.testing.assert_allclose(scaled, (got - got.min()) / (got.max() - got.min()), rtol=1e-4)


def test_answers_repeat_and_do_not_depend_on_chunks(trained: UncertaintyEvaluation) -> None:
    for evaluate in (trained.eval_epistemic_uncertainty, trained.eval_aleatoric_uncertainty):
        whole = evaluate(X[:20])
        np.testing.assert_array_equal(whole, evaluate(X[:20]))
        np.testing.assert_allclose(whole, evaluate(X[:20], batch_size=8), rtol=1e-4, atol=1e-7)


def test_more_is_unknown_far_from_the_data(trained: UncertaintyEvaluation) -> None:
    clean = X[~NOISY][:200]
    # Between the clusters nothing was seen.
    between = clean * np.asarray([0.0, 0.0, 1.0], np.float32)
    near, far = (trained.eval_epistemic_uncertainty(x).sum(axis=1) for x in (clean, between))
    assert np.median(far) > 3 * np.median(near)


def test_aleatoric_is_where_the_labels_are_noisy(trained: UncertaintyEvaluation) -> None:
    x, _, noisy = clusters(500, 1)
    got = trained.eval_aleatoric_uncertainty(x)
    assert got.shape == (500,)
    assert got.min() > 0
    assert sklearn.metrics.roc_auc_score(noisy, got) > 0.8
    model = trained.ale_uncer_model
    assert model is not None
    log_variance = np.asarray(model.apply(model.params, x)[1])
    np.testing.assert_allclose(got, np.exp(log_variance).sum(axis=1), rtol=1e-4)


def test_regression_learns_the_std_of_the_noise() -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (2000, 1)).astype(np.float32)
    y = (np.sin(3 * x) + noise_std(x) * rng.normal(size=x.shape)).astype(np.float32)
    net = MLP(1)
    evaluation = UncertaintyEvaluation(
        net,
        batches(x, y),
        "regression",
        epochs=40,
        variables=jax.jit(net.init)(jax.random.key(0), x[:1]),
        optimizer=optax.adam(5e-3),
    )
    grid = np.linspace(-2, 2, 200, dtype=np.float32)[:, None]
    std = np.sqrt(evaluation.eval_aleatoric_uncertainty(grid))
    exact = noise_std(grid)[:, 0]
    assert np.corrcoef(std, exact)[0, 1] > 0.95
    assert np.mean(np.abs(std - exact)) < 0.15 * exact.mean()
    assert evaluation.eval_epistemic_uncertainty(grid).shape == (200, 1)


def test_the_head_starts_at_the_networks_errors() -> None:
    x, y = X[:40], np.stack([10.0 + X[:40, 0], 0.1 * X[:40, 1]], axis=1)
    net = MLP(2)
    variables = jax.jit(net.init)(jax.random.key(0), x)
    model = aleatoric_head(jax.random.key(1), as_network(net, variables), inputs=(x,))
    start = model.scaled((x,), jnp.asarray(y))
    f = np.asarray(net.apply(variables, x))
    bias = start["head"]["bias"]
    np.testing.assert_allclose(bias, np.log(((f - y) ** 2).mean(axis=0)), rtol=1e-4)
    outputs, log_variance = model.apply(start, x)
    np.testing.assert_array_equal(outputs, f)
    assert np.abs(np.asarray(log_variance) - np.asarray(bias)).max() < 0.5
    assert model.layer == "Dense_2"


def test_the_head_can_read_the_outputs() -> None:
    net = Convolutional()
    network = as_network(net, jax.jit(net.init)(jax.random.key(0), X[:4]))
    with pytest.raises(
        ValueError, match=r"pass 'outputs' instead. Its layers are: .*Conv_0 \(Conv\)"
    ):
        aleatoric_head(jax.random.key(1), network, inputs=(X[:4],))
    model = aleatoric_head(jax.random.key(1), network, inputs=(X[:4],), reads="outputs")
    outputs, log_variance = model.apply(model.params, X[:4])
    head = jax.tree.map(np.asarray, model.params["head"])
    expected = np.asarray(outputs) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(log_variance, expected, rtol=1e-4, atol=1e-6)


def test_an_nnx_network_is_not_changed() -> None:
    net = NnxMLP(3, nnx.Rngs(0))
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(net)))
    evaluation = UncertaintyEvaluation(net, batches(X[:100], LABELS[:100]), "classification", 3)
    assert evaluation.epi_uncer_model is evaluation.ale_uncer_model is None
    epistemic = evaluation.eval_epistemic_uncertainty(X[:5])
    aleatoric = evaluation.eval_aleatoric_uncertainty(X[:5])
    assert (epistemic.shape, aleatoric.shape) == ((5, 3), (5,))
    jax.tree.map(np.testing.assert_array_equal, before, nnx.to_pure_dict(nnx.state(net)))
    # In evaluation mode, so that an example does not depend on the others.
    np.testing.assert_allclose(
        aleatoric[:1], evaluation.eval_aleatoric_uncertainty(X[:1]), rtol=1e-4
    )
    assert net.norm.use_running_average is False


def test_a_network_with_dropout_is_used_as_it_is() -> None:
    net = MLP(3, rate=0.2)
    variables = jax.jit(net.init)(jax.random.key(0), X[:1])
    evaluation = UncertaintyEvaluation(
        net, batches(X, LABELS), "classification", 3, variables=variables
    )
    assert evaluation.eval_epistemic_uncertainty(X[:5]).min() > 0
    model = evaluation.epi_uncer_model
    assert model is not None
    assert model.layers == ("Dropout_0",)
    jax.tree.map(np.testing.assert_array_equal, model.params, variables["params"])


def test_a_saved_model_is_used_without_training(tmp_path: Path) -> None:
    paths: dict[str, Any] = {
        "epi_uncer_model_path": tmp_path / "epistemic",
        "ale_uncer_model_path": str(tmp_path / "aleatoric"),
    }
    with pytest.raises(ValueError, match=r"epistemic is not a folder.*pass save_model=True"):
        classifier(**paths)
    first = classifier(**paths, save_model=True)
    expected = first.eval_epistemic_uncertainty(X[:5]), first.eval_aleatoric_uncertainty(X[:5])
    with pytest.raises(ValueError, match="epistemic exists: to save, pass a new folder"):
        classifier(**paths, save_model=True)
    # Untrained, and trained on a little else.
    other = UncertaintyEvaluation(
        NET, batches(X[:50], LABELS[:50]), "classification", 3, variables=VARIABLES, **paths
    )
    got = other.eval_epistemic_uncertainty(X[:5]), other.eval_aleatoric_uncertainty(X[:5])
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    wider = NnxMLP(3, nnx.Rngs(0))
    wrong = UncertaintyEvaluation(wider, batches(X, LABELS), "classification", 3, **paths)
    with pytest.raises(ValueError, match="does not fit this network"):
        wrong.eval_epistemic_uncertainty(X[:5])


DATA = batches(X, LABELS)
VALUES: dict[str, Any] = {
    "model": NET,
    "train_dataset": DATA,
    "task_type": "classification",
    "num_classes": 3,
    "variables": VARIABLES,
}


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"task_type": "ranking"}, ValueError, "task_type must be one of .* got 'ranking'"),
        ({"num_classes": None}, ValueError, "needs num_classes"),
        ({"num_classes": 0}, ValueError, "num_classes must be an integer >= 1, got 0"),
        ({"num_classes": 4}, ValueError, "num_classes is 4, but the network has 3 logits"),
        ({"epochs": 0}, ValueError, "epochs must be an integer >= 1, got 0"),
        ({"epochs": True}, ValueError, "epochs must be an integer >= 1, got True"),
        ({"save_model": 1}, TypeError, "save_model must be True or False, got 1"),
        ({"save_model": True}, ValueError, "needs epi_uncer_model_path"),
        (
            {"save_model": True, "epi_uncer_model_path": "a", "ale_uncer_model_path": "a"},
            ValueError,
            "different folders, got .*a for both",
        ),
        ({"model": lambda x: x}, TypeError, "a linen module with variables=.* got function"),
        ({"variables": None}, ValueError, "linen module needs its variables"),
        ({"train_dataset": []}, ValueError, "at least one batch, got none"),
        ({"train_dataset": 3}, TypeError, "such as a list of them; got int"),
        (
            {"train_dataset": iter(DATA)},
            TypeError,
            "can be read only once: pass a list",
        ),
        ({"train_dataset": [{"x": X, "y": LABELS}]}, TypeError, "got dict: map dicts to pairs"),
        ({"train_dataset": batches(X, LABELS[:, None])}, ValueError, r"one label for each"),
        ({"train_dataset": batches(X, X[:, 0])}, ValueError, r"got float32 \(50,\)"),
        ({"train_dataset": batches(X, LABELS + 1)}, ValueError, "from 0 to 2, got 1 to 3"),
        ({"task_type": "regression"}, ValueError, r"shape \(50, 3\) .* got \(50,\): reshape"),
        ({"dropout_rate": 1.0}, ValueError, "0 <= rate < 1; got 1.0"),
        ({"where": "conv*"}, ValueError, "selects no layer"),
        ({"head_reads": "logits"}, ValueError, "'features' or 'outputs', got 'logits'"),
    ],
)
def test_wrong_arguments_are_errors_before_any_work(
    change: dict[str, Any], error: type, message: str, unchecked: None
) -> None:
    with pytest.raises(error, match=message):
        UncertaintyEvaluation(**{**VALUES, **change})


def test_an_unknown_variance_is_an_error(trained: UncertaintyEvaluation, unchecked: None) -> None:
    with pytest.raises(ValueError, match="'probabilities' or 'logits', got 'odds'"):
        trained.eval_epistemic_uncertainty(X, of="odds")  # type: ignore[arg-type]
