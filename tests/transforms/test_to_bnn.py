"""Networks of three kinds become Bayesian: linen, NNX and plain functions."""

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

from bnn_jax import NormalPrior, gaussian, noise, priors, to_bnn, train
from bnn_jax.interpreter.random_array import EstimatorError
from bnn_jax.transforms import BayesianModel

X = jnp.asarray(np.random.default_rng(0).normal(size=(6, 8, 8, 2)), jnp.float32)


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        x = nn.BatchNorm(use_running_average=not train, name="norm")(x)
        x = nn.relu(x).reshape((x.shape[0], -1))
        x = nn.Dropout(0.5, deterministic=not train)(x)
        return nn.Dense(3, name="head")(x)


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.conv = nnx.Conv(2, 4, (3, 3), strides=2, rngs=rngs)
        self.norm = nnx.BatchNorm(4, use_running_average=True, rngs=rngs)
        self.heads = nnx.List([nnx.Linear(64, 3, rngs=rngs)])

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.conv(x)))
        return self.heads[0](x.reshape((x.shape[0], -1)))


def plain(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(jnp.einsum("nhwc,hwcd->nd", x, params["first"]))
    return hidden @ params["second"]


@functools.cache
def linen_variables() -> Any:
    return jax.jit(LinenNet().init)(jax.random.key(0), X)


@functools.cache
def plain_params() -> Any:
    first, second = jax.random.split(jax.random.key(0))
    return {
        "first": 0.1 * jax.random.normal(first, (8, 8, 2, 5)),
        "second": jax.random.normal(second, (5, 3)),
        "steps": jnp.zeros((), jnp.int32),
    }


MODELS: dict[str, tuple[Callable[..., BayesianModel], Callable[[], Any]]] = {
    "linen": (
        lambda **options: to_bnn(LinenNet(), linen_variables(), **options),
        lambda: jax.jit(LinenNet().apply)(linen_variables(), X),
    ),
    "nnx": (
        lambda **options: to_bnn(NnxNet(nnx.Rngs(0)), **options),
        lambda: nnx.jit(lambda net: net(X))(NnxNet(nnx.Rngs(0))),
    ),
    "function": (
        lambda **options: to_bnn(plain, plain_params(), **options),
        lambda: jax.jit(plain)(plain_params(), X),
    ),
}


@functools.cache
def outputs(kind: str) -> Any:
    return MODELS[kind][1]()


RANDOM = {
    "linen": ["conv/bias", "conv/kernel", "head/bias", "head/kernel"],
    "nnx": ["conv/bias", "conv/kernel", "heads/0/bias", "heads/0/kernel"],
    "function": ["first", "second"],
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("estimator", ["reparam", "local_reparam", "flipout"])
def test_without_noise_it_is_the_network(
    kind: str, estimator: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs(kind)
    model = MODELS[kind][0](estimator=estimator)

    def apply(posterior: Any, x: Any) -> Any:
        return model.apply(jax.random.key(1), posterior, x)

    mean = jax.jit(model.mean_apply)(model.posterior, X)
    sampled = jax.jit(apply)(model.posterior, X)
    np.testing.assert_allclose(mean, expected, rtol=1e-6, atol=1e-6)
    assert float(jnp.abs(sampled - expected).max()) > 1e-4
    monkeypatch.setattr(noise, "normal", lambda key, shape, dtype=None: jnp.zeros(shape, dtype))
    silent = jax.jit(lambda q, x: apply(q, x))(model.posterior, X)  # traced again
    np.testing.assert_allclose(silent, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", MODELS)
def test_there_and_back(kind: str) -> None:
    model = MODELS[kind][0](where="layers")
    assert list(gaussian.random_leaves(model.posterior)) == RANDOM[kind]
    for a, b in zip(
        jax.tree.leaves(model.mean(model.posterior)),
        jax.tree.leaves(model.network.params),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    expected = priors.kl_divergence(model.posterior, NormalPrior())
    assert float(model.kl(model.posterior)) == float(expected)
    draws = model.ensemble(jax.random.key(0), model.posterior, size=2)
    first, second = (jax.tree.leaves(draw) for draw in draws)
    changed = [bool(np.any(a != b)) for a, b in zip(first, second, strict=True)]
    assert sum(changed) == len(RANDOM[kind])


@pytest.mark.parametrize("kind", MODELS)
def test_a_sample_is_what_apply_uses(kind: str) -> None:
    model = MODELS[kind][0]()

    @jax.jit
    def both(posterior: Any) -> Any:
        weights = model.sample(jax.random.key(3), posterior)
        called = model.network.call(weights, model.variables, X)
        return called, model.apply(jax.random.key(3), posterior, X)

    called, applied = both(model.posterior)
    np.testing.assert_allclose(called, applied, rtol=1e-5)


def test_which_weights_are_random() -> None:
    variables = linen_variables()

    def chosen(where: Any, **options: Any) -> list[str]:
        model = to_bnn(LinenNet(), variables, where=where, **options)
        return list(gaussian.random_leaves(model.posterior))

    assert chosen("kernels") == ["conv/kernel", "head/kernel"]
    assert chosen("all") == sorted([*RANDOM["linen"], "norm/bias", "norm/scale"])
    assert chosen("head/*") == ["head/bias", "head/kernel"]
    assert chosen(["*/bias", "conv/*"]) == ["conv/bias", "conv/kernel", "head/bias", "norm/bias"]
    assert chosen(nn.Dense, inputs=(X,)) == ["head/bias", "head/kernel"]
    assert chosen((nn.Dense, nn.Conv), inputs=(X,)) == RANDOM["linen"]
    assert chosen(lambda path, layer, array: array.ndim == 4) == ["conv/kernel"]
    heads = to_bnn(NnxNet(nnx.Rngs(0)), where=nnx.Linear)
    assert list(gaussian.random_leaves(heads.posterior)) == ["heads/0/bias", "heads/0/kernel"]


def test_what_the_default_leaves_deterministic() -> None:
    """Norms known by their type, slopes of activations, position embeddings."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            x = x + self.param("pos_embedding", nn.initializers.ones, (1, 3))
            x = nn.PReLU()(nn.LayerNorm(use_scale=False)(x))
            return nn.Dense(2)(x)

    x = jnp.ones((4, 3))
    model = to_bnn(Net(), Net().init(jax.random.key(0), x))
    assert list(gaussian.random_leaves(model.posterior)) == ["Dense_0/bias", "Dense_0/kernel"]


def test_partitioned_params_lose_their_boxes() -> None:
    kernel_init = nn.with_partitioning(nn.initializers.ones, (None, "model"))
    net = nn.Sequential([nn.Dense(2, kernel_init=kernel_init), nn.LayerNorm()])
    variables = net.init(jax.random.key(0), jnp.ones((4, 3)))
    model = to_bnn(net, variables)
    random = ["layers_0/bias", "layers_0/kernel"]
    assert list(gaussian.random_leaves(model.posterior)) == random
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    expected = net.apply(variables, x)
    np.testing.assert_allclose(model.mean_apply(model.posterior, x), expected, rtol=1e-6)


def test_where_the_posterior_starts() -> None:
    variables = linen_variables()
    kernel = variables["params"]["head"]["kernel"]
    model = to_bnn(LinenNet(), variables, initial_std=0.2, relative=True)
    head = model.posterior["head"]["kernel"]
    np.testing.assert_array_equal(head.mean, kernel)
    np.testing.assert_allclose(head.std, 0.2 * np.abs(kernel), rtol=1e-4)
    fresh = to_bnn(LinenNet(), variables, fresh=jax.random.key(5)).posterior["head"]["kernel"]
    assert abs(float(fresh.rho.mean()) + 5) < 0.1
    assert abs(float(fresh.mean.std()) - 0.1) < 0.03


def test_a_prior_centred_on_the_weights() -> None:
    variables = linen_variables()
    prior = priors.centred_on(variables["params"], std=0.3)
    model = to_bnn(LinenNet(), variables, prior=prior, initial_std=0.3)
    assert float(model.kl(model.posterior)) == pytest.approx(0.0, abs=1e-3)
    assert set(priors.prior_leaves(model.prior)) == set(RANDOM["linen"])


def trace(model: BayesianModel, x: Any, report: dict[str, list[str]]) -> None:
    """Reports the rule of each weight, which is settled before anything is computed."""
    key = jax.random.key(0)
    jax.eval_shape(lambda q: model.apply(key, q, x, rules_used=report), model.posterior)


def test_local_reparam_gives_way_to_flipout_where_positions_share_weights() -> None:
    report: dict[str, list[str]] = {}
    model = MODELS["linen"][0](estimator="local_reparam")
    trace(model, X, report)
    assert report["conv/kernel"] == ["flipout"]
    assert report["head/kernel"] == report["head/bias"] == ["local_reparam"]
    model = MODELS["linen"][0](estimator={"conv/*": "local_reparam", "*": "reparam"})
    with pytest.raises(EstimatorError, match="conv/kernel"):
        trace(model, X, {})
    model = MODELS["linen"][0](estimator="local_reparam", approximate=True)
    trace(model, X, report)
    assert report["conv/kernel"] == ["local_reparam"]


def test_weights_that_no_estimator_pattern_matches_get_reparam() -> None:
    model = MODELS["linen"][0](estimator={"head/*": "flipout"})
    assert model.estimators["head/kernel"] == "flipout"
    assert model.estimators["conv/kernel"] == "reparam"


def test_a_constant_is_no_data() -> None:
    """The rows of a constant matrix are not examples: its product with a weight is sampled once."""
    table = np.eye(4, 5, dtype=np.float32)

    def fn(params: Any, x: Any) -> Any:
        return x @ (table @ params["w"])

    model = to_bnn(fn, {"w": jnp.ones((5, 2))}, estimator="flipout")
    report: dict[str, list[str]] = {}
    trace(model, jnp.ones((3, 4)), report)
    assert report == {"w": ["reparam"]}


def mean_square(outputs: Any, targets: Any) -> Any:
    return jnp.mean(jnp.square(outputs - targets))


@pytest.mark.parametrize("kind", ["linen", "nnx"])
def test_other_state_is_carried_through_training(kind: str) -> None:
    model = MODELS[kind][0](estimator="flipout")
    if kind == "linen":
        forward = model.forward(train=True, streams=("dropout",))
    else:
        net = NnxNet(nnx.Rngs(0))
        net.train()
        model = to_bnn(net, estimator="flipout")
        forward = model.forward()
    optimizer = optax.adam(1e-2)
    build = train.build_step(
        forward, mean_square, optimizer, model.prior, num_data=10_000, num_samples=2
    )
    traces = []

    @jax.jit
    def step(*arguments: Any) -> Any:
        traces.append(arguments)
        return build(*arguments)

    state = train.init(model.posterior, optimizer, variables=model.variables)
    losses = []
    for _ in range(20):
        state, info = step(state, jax.random.key(0), (X, jnp.ones((6, 3))))
        losses.append(float(info.nll))
    assert losses[-1] < 0.7 * losses[0]
    assert len(traces) == 1
    before, after = (
        [x for x in jax.tree.leaves(v) if jnp.issubdtype(x.dtype, jnp.floating)]
        for v in (model.variables, state.variables)
    )
    assert len(before) == 2
    for a, b in zip(before, after, strict=True):
        assert np.all(np.isfinite(b))
        assert np.all(a != b)
    out = model.mean_apply(state.posterior, X, variables=state.variables)
    assert out.shape == (6, 3)


def test_the_given_network_is_left_alone() -> None:
    net = NnxNet(nnx.Rngs(0))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(net)))
    model = to_bnn(net, estimator="flipout")
    model.apply(jax.random.key(0), model.posterior, X)
    after = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(net)))
    jax.tree.map(np.testing.assert_array_equal, before, after)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: to_bnn(LinenNet()), "needs its variables"),
        (lambda v: to_bnn(LinenNet(), v["params"]), "needs its variables"),
        (lambda v: to_bnn(NnxNet(nnx.Rngs(0)), v), "without any"),
        (lambda v: to_bnn(plain), "needs its params"),
        (lambda v: to_bnn(plain, {}), "no arrays"),
        (lambda v: to_bnn(LinenNet, v), "the class LinenNet"),
        (lambda v: to_bnn(LinenNet(), v, where="heed/*"), "Did you mean"),
        (lambda v: to_bnn(LinenNet(), v, where=[]), "matches no weight"),
        (lambda v: to_bnn(LinenNet(), v, where=lambda *_: False), "matches no weight"),
        (lambda v: to_bnn(LinenNet(), v, where=nn.Dense), "pass example inputs"),
        (lambda v: to_bnn(NnxNet(nnx.Rngs(0)), where=nnx.Embed), "matches no weight"),
        (lambda v: to_bnn(plain, plain_params(), where="steps"), "only floating-point"),
        (lambda v: to_bnn(LinenNet(), v, estimator="flipot"), "Unknown estimator"),
        (lambda v: to_bnn(LinenNet(), v, estimator={"fc*": "flipout"}), "no random weight"),
        (lambda v: to_bnn(LinenNet(), v, initial_std=0.0), "initial_std"),
        (lambda v: to_bnn(LinenNet(), v, where="last", inputs=X), r"inputs=\(x,\)"),
        (lambda v: to_bnn(NnxNet(nnx.Rngs(0))).forward(streams=("dropout",)), "linen modules"),
        (
            lambda v: train.init(to_bnn(plain, plain_params()).posterior, optax.sgd(0.1)),
            "'steps' is int32",
        ),
        (lambda v: to_bnn(LinenNet(), v, prior={"head": NormalPrior()}), "no prior for"),
        (
            lambda v: to_bnn(
                LinenNet(), v, where="head/bias", prior={"head": {"bias": NormalPrior(np.ones(4))}}
            ),
            "does not broadcast",
        ),
    ],
)
def test_wrong_calls(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        call(linen_variables())
