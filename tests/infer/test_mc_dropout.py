"""Dropout at prediction time, compared with closed forms in every kind of Flax network."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import NormalPrior, train
from bnn_jax.infer.mc_dropout import MCDropout, dropout, mc_dropout
from bnn_jax.likelihoods import Categorical
from bnn_jax.predictive.posterior_predictive import predict

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4)), jnp.float32)


def key(seed: int) -> jax.Array:
    return jax.random.key(seed)


def assert_mean(samples: Any, expected: Any) -> None:
    """The mean over axis 0 is the expected one, within 5 standard errors."""
    samples = np.asarray(samples, np.float64)
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))
    worst = np.max(np.abs(samples.mean(axis=0) - expected) / np.maximum(error, 1e-9))
    assert worst < 5, f"{worst:.1f} standard errors"


class LinenMLP(nn.Module):
    """dense, relu, dense, relu, head; with dropout of its own before the head if rate > 0."""

    rate: float = 0.0

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.relu(nn.Dense(8, name="a_first")(x))
        x = nn.relu(nn.Dense(5, name="second")(x))
        if self.rate:
            x = nn.Dropout(self.rate, deterministic=not train, name="drop")(x)
        return nn.Dense(3, name="a_head")(x)


class NnxMLP(nnx.Module):
    def __init__(self, rngs: nnx.Rngs, rate: float = 0.0) -> None:
        self.a_first = nnx.Linear(4, 8, rngs=rngs)
        self.second = nnx.Linear(8, 5, rngs=rngs)
        self.drop = nnx.Dropout(rate, rngs=rngs) if rate else None
        self.a_head = nnx.Linear(5, 3, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.second(nnx.relu(self.a_first(x))))
        return self.a_head(x if self.drop is None else self.drop(x))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the types that are checked in the tests alone, as users have it."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


@functools.cache
def linen_net(own: float) -> tuple[LinenMLP, Any]:
    net = LinenMLP(own)
    return net, jax.jit(net.init)(key(0), X)


@functools.cache
def nnx_net(own: float) -> NnxMLP:
    return NnxMLP(nnx.Rngs(0), own)


def linen_mlp(own: float = 0.0, **options: Any) -> MCDropout:
    return mc_dropout(*linen_net(own), inputs=(X,), **options)


def nnx_mlp(own: float = 0.0, **options: Any) -> MCDropout:
    return mc_dropout(nnx_net(own), inputs=(X,), **options)


both = pytest.mark.parametrize("make", [linen_mlp, nnx_mlp])
Make = Callable[..., MCDropout]


def second_and_head(model: MCDropout) -> tuple[np.ndarray, np.ndarray]:
    """The activations before the head, and the head's kernel."""
    p = jax.tree.map(np.asarray, model.params)
    x = np.asarray(X)
    for name in ("a_first", "second"):
        x = np.maximum(x @ p[name]["kernel"] + p[name]["bias"], 0)
    return x, p["a_head"]["kernel"]


def draws(model: MCDropout, n: int, x: Any = X) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(lambda k: model(k, x)))(jax.random.split(key(1), n)))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_a_mask_has_the_distribution_of_inverted_dropout(rate: float) -> None:
    x = jnp.full((20_000,), 3.0)
    y = dropout(key(0), x, rate=rate)
    np.testing.assert_allclose(np.unique(y), [0.0, 3.0 / (1 - rate)], rtol=1e-6)
    assert_mean(y, 3.0)
    assert_mean((y - 3.0) ** 2, 9.0 * rate / (1 - rate))


def test_axes_can_share_a_mask() -> None:
    y = np.asarray(dropout(key(0), jnp.ones((50, 3, 4)), rate=0.5, shared=(1, -1)))
    assert np.all(y == y[:, :1, :1])
    assert 0 < y.mean() < 2
    assert dropout(key(0), X, rate=0.0) is X


@both
@pytest.mark.parametrize("own", [False, True])
def test_outputs_have_the_closed_form_mean_and_covariance(make: Make, own: bool) -> None:
    rate = 0.3
    # Dropout of positive activations, and of what comes before relu, are the same.
    model = make(rate) if own else make(rate=rate, where="second")
    assert model.layers == (("drop",) if own else ("second",))
    hidden, kernel = second_and_head(model)
    bias = np.asarray(model.params["a_head"]["bias"])
    samples = draws(model, 10_000)
    mean = hidden @ kernel + bias
    assert_mean(samples, mean)
    covariance = np.einsum("nh,hi,hj->nij", hidden**2, kernel, kernel) * rate / (1 - rate)
    centred = samples - mean
    assert_mean(centred[..., :, None] * centred[..., None, :], covariance)
    # Examples have masks of their own.
    assert_mean(centred[:, 0] * centred[:, 1], 0.0)


@both
def test_every_layer_but_the_last_has_a_mask_of_its_own(make: Make) -> None:
    model = make(rate=0.5)
    assert model.layers == model.added == ("a_first", "second")
    p = jax.tree.map(np.asarray, model.params)

    def exact(masks: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        x = np.asarray(X)
        for name, mask in zip(("a_first", "second"), masks, strict=True):
            x = np.maximum((x @ p[name]["kernel"] + p[name]["bias"]) * mask, 0)
        return x @ p["a_head"]["kernel"] + p["a_head"]["bias"]

    layer_keys = [jax.random.fold_in(jax.random.fold_in(key(5), i), 0) for i in (0, 1)]
    masks = [
        dropout(jax.random.split(k, 1)[0], jnp.ones((6, n)), rate=0.5)
        for k, n in zip(layer_keys, (8, 5), strict=True)
    ]
    expected = exact((np.asarray(masks[0]), np.asarray(masks[1])))
    np.testing.assert_allclose(model(key(5), X), expected, rtol=1e-5, atol=1e-6)


@both
def test_the_same_key_gives_the_same_answer(make: Make) -> None:
    model = make(rate=0.5)
    run = jax.jit(model)
    first = run(key(1), X)
    np.testing.assert_array_equal(first, run(key(1), X))
    np.testing.assert_allclose(first, model(key(1), X), rtol=1e-5, atol=1e-6)
    assert not np.allclose(first, run(key(2), X))
    same = jnp.tile(X[:1], (40, 1))
    assert len(np.unique(jax.jit(model)(key(1), same), axis=0)) > 10


def test_rate_zero_is_the_network() -> None:
    net, variables = linen_net(0.0)
    model = mc_dropout(net, variables, inputs=(X,), rate=0)
    np.testing.assert_array_equal(model(key(1), X), net.apply(variables, X))


def test_an_nnx_module_is_not_changed_and_runs_in_evaluation_mode() -> None:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.layers = nnx.List([nnx.Linear(4, 4, rngs=rngs) for _ in range(2)])
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.block = nnx.Sequential(nnx.Linear(4, 4, rngs=rngs), nnx.relu)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            for layer in self.layers:
                x = nnx.relu(layer(x))
            return self.head(self.drop(self.block(self.norm(x))))

    net = Net(nnx.Rngs(0))
    before = jax.tree.map(jnp.array, nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngKey))))
    types = [type(module) for _, module in nnx.iter_modules(net)]
    model = mc_dropout(net, inputs=(X,), where="layers")
    assert model.layers == ("block/layers/0", "drop", "layers/0", "layers/1")
    assert model.added == ("block/layers/0", "layers/0", "layers/1")
    run = jax.jit(model)
    whole = run(key(0), X)
    # A batch norm in training mode would mix the examples.
    changed = run(key(0), X.at[1:].multiply(3.0))
    np.testing.assert_allclose(whole[0], changed[0], rtol=1e-5)
    assert [type(module) for _, module in nnx.iter_modules(net)] == types
    assert not net.drop.deterministic
    after = nnx.to_pure_dict(nnx.state(net, nnx.Not(nnx.RngKey)))
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert not hasattr(net.head, "path_for_hook")


@both
def test_own_dropout_is_all_by_default(make: Make) -> None:
    assert make(0.3).layers == make(0.3, where="dropout").layers == ("drop",)
    model = make(0.3, rate=0.5, where="layers")
    assert model.layers == ("a_first", "drop", "second")
    assert model.added == ("a_first", "second")


@both
@pytest.mark.parametrize(
    ("where", "layers"),
    [
        ("*", ("a_first", "a_head", "second")),
        (["a_*", "second"], ("a_first", "a_head", "second")),
        ("a_f*", ("a_first",)),
        ((nn.Dense, nnx.Linear), ("a_first", "a_head", "second")),
        (lambda path, kind: "second" in path and issubclass(kind, nn.Dense | nnx.Linear), None),
    ],
)
def test_layers_can_be_chosen(make: Make, where: Any, layers: Any) -> None:
    assert make(where=where).layers == (layers or ("second",))


class TwoHeads(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.relu(nn.Conv(3, (2,), name="conv")(x[..., None])).reshape(len(x), -1)
        x = x + nn.Dense(12, name="residual")(x)
        shared = nn.remat(nn.Dense)(12, name="shared")
        x = nn.LayerNorm(name="norm")(shared(shared(x)))
        return nn.Dense(1, name="mean")(x), nn.jit(nn.Dense)(1, name="rho")(x)


def test_no_head_of_several_gets_dropout() -> None:
    net = TwoHeads()
    model = mc_dropout(net, jax.jit(net.init)(key(0), X), inputs=(X,), rate=0.5)
    assert model.layers == ("conv", "residual", "shared")
    run = jax.jit(model)
    mean, rho = run(key(1), X)
    other_mean, other_rho = run(key(2), X)
    assert mean.shape == rho.shape == (6, 1)
    assert not np.allclose(mean, other_mean)
    assert not np.allclose(rho, other_rho)


def test_a_layer_that_is_called_twice_draws_twice() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            layer = nn.Dense(50, name="layer")
            return layer(x) - layer(x)

    net = Net()
    model = mc_dropout(net, jax.jit(net.init)(key(0), X), inputs=(X,), rate=0.5, where="layer")
    assert np.abs(model(key(0), X)).max() > 0.1


@pytest.mark.parametrize("wrap", [nn.jit, nn.remat])
def test_lifted_layers_follow_the_key(wrap: Any) -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return nn.Dense(2)(wrap(nn.Dense)(30, name="layer")(x))

    net = Net()
    variables = jax.jit(net.init)(key(0), X)
    plain = net.apply(variables, X)
    model = mc_dropout(net, variables, inputs=(X,), rate=0.5)
    assert model.layers == ("layer",)
    once = model(key(1), X)
    assert not np.allclose(once, model(key(2), X))
    np.testing.assert_array_equal(once, model(key(1), X))
    np.testing.assert_array_equal(plain, net.apply(variables, X))


def test_steps_of_a_loop_share_their_mask() -> None:
    class Cell(nn.Module):
        @nn.compact
        def __call__(self, carry: Any, x: Any) -> Any:
            return carry, nn.Dense(40, name="layer")(x)

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            options = {"variable_broadcast": "params", "split_rngs": {"params": False}}
            scan = nn.scan(Cell, in_axes=1, out_axes=1, **options)
            return scan(name="cell")(jnp.zeros(()), x)[1]

    series = jnp.stack([X, 2 * X, 3 * X], axis=1)
    net = Net()
    variables = jax.jit(net.init)(key(0), series)
    model = mc_dropout(net, variables, inputs=(series,), rate=0.5, where="cell/*")
    run = jax.jit(model)
    zeros = np.asarray(run(key(1), series)) == 0
    assert 0.4 < zeros.mean() < 0.6
    assert np.all(zeros == zeros[:, :1])
    assert not np.array_equal(zeros, np.asarray(run(key(2), series)) == 0)


def test_prediction_averages_over_masks_for_any_chunks() -> None:
    model = linen_mlp(rate=0.5)
    options: dict[str, Any] = {"num_samples": 7, "likelihood": Categorical()}
    whole = predict(key(0), model, X, **options, keep_samples=True)
    assert whole.samples.shape == (7, 6, 3)
    assert whole.mutual_information.min() > 0
    chunks = predict(key(0), model, X, **options, batch_size=4)
    np.testing.assert_allclose(whole.probabilities, chunks.probabilities, rtol=1e-5)


def test_training_with_dropout_is_that_of_train() -> None:
    model = nnx_mlp(rate=0.2)
    labels = jnp.asarray([0, 1, 2, 0, 1, 2])
    optimizer = optax.adam(1e-2)
    step = jax.jit(
        train.build_step(
            model.forward(), Categorical().nll, optimizer, NormalPrior(), dnn_factor=1, bnn_factor=0
        )
    )
    state = train.init(model.params, optimizer)
    losses = []
    for _ in range(60):
        state, info = step(state, key(3), (X, labels))
        losses.append(float(info.loss))
    assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:10])


@pytest.mark.parametrize("rate", [1.0, -0.1, float("nan"), True, "0.5"])
def test_a_rate_out_of_range_is_an_error(rate: Any, unchecked: None) -> None:
    with pytest.raises(ValueError, match="0 <= rate < 1; got"):
        mc_dropout(nnx_net(0.0), inputs=(X,), rate=rate)


@both
def test_a_choice_of_nothing_is_an_error_that_lists_the_layers(make: Make) -> None:
    for where in ("conv*", nn.Conv, lambda path, kind: False, "dropout"):
        with pytest.raises(ValueError, match=r"no layer .* a_first \((Dense|Linear)\)"):
            make(where=where)


def test_wrong_arguments_are_errors(unchecked: None) -> None:
    net = nnx_net(0.0)
    with pytest.raises(TypeError, match="linen module or an NNX module, got function"):
        mc_dropout(lambda p, x: x, {}, inputs=(X,))
    with pytest.raises(TypeError, match="tuple of the network's arguments"):
        mc_dropout(net, inputs=X)
    with pytest.raises(TypeError, match="tuple of the network's arguments"):
        mc_dropout(net, inputs=())
    with pytest.raises(TypeError, match="where must be"):
        mc_dropout(net, inputs=(X,), where=3)
