"""TransformToBNN: what is replaced, by what, and that all else is kept."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
from flax import linen, nnx

from bnn_jax import LaplacePrior, noise
from bnn_jax.bnn_layers import (
    BayesianLayer,
    ConvReparam,
    DenseLocalReparam,
    DenseReparam,
    NormalPrior,
    WithBNNLossCell,
    kl_by_layer,
    normal_post_fn,
)
from bnn_jax.transforms import TrainOneStepCell, TransformToBNN, WithLossCell
from bnn_jax.transforms.conversion import INITIAL_STD

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(8, 10, 10, 1)), jnp.float32)
ROWS = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
LABELS = jnp.asarray(rng.integers(0, 3, size=8))


def init(key: Any, shape: tuple[int, ...], dtype: Any, out_sharding: Any = None) -> Any:
    """Some weights; NumPy, because there is nothing to compile."""
    return jnp.asarray(np.random.default_rng(2).normal(0.0, 0.3, shape), dtype)


class Net(nnx.Module):
    """A small LeNet with batch norm, and layers in lists, dicts and nested modules."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        make: dict[str, Any] = {"kernel_init": init, "bias_init": init, "rngs": rngs}
        self.conv1 = nnx.Conv(1, 4, (3, 3), padding="VALID", use_bias=False, **make)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Dict(conv=nnx.Conv(4, 4, (3, 3), strides=2, **make))])
        self.body = nnx.Sequential(nnx.Linear(64, 16, **make), nnx.relu)
        self.heads = nnx.data({"main": [nnx.Linear(16, 3, **make)], "steps": 2})

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.conv1(x)))
        x = nnx.relu(self.blocks[0]["conv"](x))
        return self.heads["main"][0](self.body(x.reshape((x.shape[0], -1))))


class Holder(nnx.Module):
    """Modules under any attributes; calling it applies them in turn."""

    def __init__(self, **modules: Any) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    def __call__(self, x: Any) -> Any:
        for name in sorted(vars(self)):
            if isinstance(getattr(self, name), nnx.Module):
                x = getattr(self, name)(x)
        return x


class Twice(nnx.Linear):
    """Computes something else than its base."""

    def __call__(self, inputs: Any, out_sharding: Any = None) -> Any:
        return 2 * super().__call__(inputs)


class Named(nnx.Linear):
    """Computes what its base computes."""


def cross_entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def square(outputs: Any, targets: Any) -> Any:
    return jnp.mean(jnp.square(outputs - 1.0))


def linear(*shape: int, **options: Any) -> nnx.Linear:
    options = {"kernel_init": init, "rngs": nnx.Rngs(0), **options}
    return nnx.Linear(*(shape or (3, 3)), **options)


def trainable(net: nnx.Module, tx: Any = None, loss_fn: Any = square) -> TrainOneStepCell:
    return TrainOneStepCell(WithLossCell(net, loss_fn), optax.sgd(0.1) if tx is None else tx)


def transformer(net: nnx.Module, tx: Any = None, **options: Any) -> TransformToBNN:
    return TransformToBNN(trainable(net, tx), **options)


def lenet(tx: Any = None) -> tuple[Net, TransformToBNN]:
    net = Net(nnx.Rngs(0))
    return net, TransformToBNN(trainable(net, tx, cross_entropy), 1, 1e-4, rngs=nnx.Rngs(1))


def snapshot(module: Any) -> dict[str, Any]:
    """Every variable by path, copied."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(module)))
    return {
        jax.tree_util.keystr(p): np.array(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for p, x in leaves
    }


def types(module: nnx.Module) -> dict[str, type]:
    return {".".join(map(str, path)): type(m) for path, m in nnx.iter_modules(module)}


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "normal", lambda key, shape, dtype=None: jnp.zeros(shape, dtype))


LAYERS = ["conv1", "blocks.0.conv", "body.layers.0", "heads.main.0"]


def test_the_whole_model_is_converted_in_place() -> None:
    net, transform = lenet()
    before, plain = snapshot(net), types(net)
    train_bnn = transform.transform_to_bnn_model()
    assert train_bnn.network.backbone_network is net is transform.backbone
    assert isinstance(train_bnn.network, WithBNNLossCell)
    after = types(net)
    assert {name: after[name] for name in LAYERS} == dict(
        zip(LAYERS, [ConvReparam, ConvReparam, DenseReparam, DenseReparam], strict=True)
    )
    assert {name: after[name] for name in plain if name not in LAYERS} == {
        name: kind for name, kind in plain.items() if name not in LAYERS
    }
    kept = [name for name in before if "norm" in name]
    assert len(kept) == 4
    for name in kept:
        np.testing.assert_array_equal(snapshot(net)[name], before[name])
    assert net.heads["steps"] == 2
    assert not net.conv1.has_bias
    assert net.body.layers[0].has_bias
    assert nnx.eval_shape(lambda net: net(X), net).shape == (8, 3)


def test_the_loss_is_the_data_loss_and_the_kl_of_every_layer() -> None:
    net = Holder(a=linear(), b=linear())
    train_bnn = transformer(net, dnn_factor=3, bnn_factor=0.5).transform_to_bnn_model()
    net.eval()
    kl = sum(float(v) for v in kl_by_layer(net).values())
    assert kl == pytest.approx(
        float(net.a.compute_kl_loss()) + float(net.b.compute_kl_loss()), rel=1e-6
    )
    data = float(square(net(ROWS), None))
    # A cell trains in the mode that its network is in.
    assert float(train_bnn(ROWS, None)) == pytest.approx(3 * data + 0.5 * kl, rel=1e-6)
    train_bnn = transformer(Holder(a=linear()), reverse_kl=True).transform_to_bnn_model()
    assert train_bnn.network.reverse_kl


@pytest.mark.parametrize("target", [DenseReparam, DenseLocalReparam])
def test_one_type_is_converted(target: type[BayesianLayer]) -> None:
    net, transform = lenet()
    before = snapshot(net)
    transform.transform_to_bnn_layer(nnx.Linear, target)
    after = types(net)
    assert [after[name] for name in LAYERS] == [nnx.Conv, nnx.Conv, target, target]
    for name, value in before.items():
        if "conv" in name or "norm" in name:
            np.testing.assert_array_equal(snapshot(net)[name], value)
    train_bnn = transform.transform_to_bnn_layer(nnx.Conv, ConvReparam)  # and then the other
    assert [types(net)[name] for name in LAYERS] == [ConvReparam, ConvReparam, target, target]
    assert len(kl_by_layer(train_bnn.network)) == 4


def test_every_container() -> None:
    pair = (linear(), [linear(), {"k": linear()}])
    plain = Holder(x=nnx.data(pair), y=nnx.List([nnx.Dict(z=linear())]), w=nnx.Sequential(linear()))
    transformer(plain).transform_to_bnn_model()
    found = [
        plain.x[0],
        plain.x[1][0],
        plain.x[1][1]["k"],
        plain.y[0]["z"],
        plain.w.layers[0],
    ]
    assert all(isinstance(layer, DenseReparam) for layer in found)
    assert nnx.Linear not in types(plain).values()
    assert len(kl_by_layer(plain)) == 5


def test_a_backbone_that_is_a_layer() -> None:
    transform = transformer(linear())
    train_bnn = transform.transform_to_bnn_model()
    assert isinstance(train_bnn.network.backbone_network, DenseReparam)
    assert transform.backbone is train_bnn.network.backbone_network
    assert train_bnn(ROWS, None).shape == ()


def test_a_layer_in_two_places_becomes_one_layer() -> None:
    one = linear()
    net = Holder(a=one, b=nnx.List([one, linear()]), c=nnx.data((one,)))
    transformer(net).transform_to_bnn_model()
    assert net.a is net.b[0] is net.c[0]
    assert net.a is not net.b[1]
    assert len(kl_by_layer(net)) == 2


def test_bayesian_layers_are_left_and_so_are_layers_that_compute_something_else() -> None:
    bayesian, other = DenseLocalReparam(3, 3, rngs=nnx.Rngs(0)), Twice(3, 3, rngs=nnx.Rngs(0))
    net = Holder(a=bayesian, b=other, c=Named(3, 3, rngs=nnx.Rngs(0)), d=linear())
    transformer(net).transform_to_bnn_model()
    assert net.a is bayesian
    assert net.b is other
    assert type(net.c) is type(net.d) is DenseReparam
    net = Holder(a=Named(3, 3, rngs=nnx.Rngs(0)), b=linear())
    transformer(net).transform_to_bnn_layer(Named, DenseReparam)
    assert [type(net.a), type(net.b)] == [DenseReparam, nnx.Linear]
    net = Holder(a=Twice(3, 3, rngs=nnx.Rngs(0)), b=linear())
    transformer(net).transform_to_bnn_layer(
        Twice, DenseReparam, lambda layer: {"in_channels": 3, "out_channels": 3}
    )
    assert [type(net.a), type(net.b)] == [DenseReparam, nnx.Linear]


def test_a_fresh_posterior_starts_as_in_mindspore() -> None:
    net = Holder(a=linear(100, 200, kernel_init=nnx.initializers.constant(7.0)))
    transformer(net).transform_to_bnn_model()
    q = net.a.weight_posterior.gaussian
    n = q.size
    for values, mean, std in ((q.mean, 0.0, 0.1), (q.rho, -5.0, 0.1)):
        assert abs(float(values.mean()) - mean) < 5 * std / n**0.5
        assert abs(float(values.std()) - std) < 5 * std / (2 * n) ** 0.5


def test_rngs() -> None:
    def mean(**options: Any) -> Any:
        net = Holder(a=linear(), b=linear())
        transformer(net, **options).transform_to_bnn_model()
        assert not np.array_equal(net.a.weight_posterior.mean, net.b.weight_posterior.mean)
        return net.a.weight_posterior.mean[...]

    np.testing.assert_array_equal(mean(), mean())
    np.testing.assert_array_equal(mean(), mean(rngs=nnx.Rngs(0)))
    assert not np.array_equal(mean(), mean(rngs=nnx.Rngs(1)))


CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "same, stride": {"strides": 2},
    "same, even kernel, stride, dilation": {
        "kernel_size": (4, 2),
        "strides": (3, 1),
        "kernel_dilation": (1, 2),
    },
    "lower case": {"padding": "valid", "strides": (1, 2)},
    "valid, dilation": {"padding": "VALID", "kernel_dilation": 2},
    "int": {"padding": 2, "strides": [2, 1]},
    "ints": {"padding": (0, 3), "feature_group_count": 2},
    "pairs, groups": {"padding": [(0, 1), (2, 0)], "feature_group_count": 4, "strides": 2},
    "mixed, no bias, none": {"padding": (1, (0, 2)), "use_bias": False, "strides": None},
    "depthwise": {"feature_group_count": 4, "kernel_dilation": (2, 1)},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_kept_weights_without_noise_are_the_convolution(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"kernel_size": (3, 2), **CONVOLUTIONS[name]}
    layer = nnx.Conv(4, 8, rngs=nnx.Rngs(0), kernel_init=init, bias_init=init, **options)
    net = Holder(a=layer)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 11, 9, 4)), jnp.float32)
    expected = net(x)
    transformer(net).transform_to_bnn_model(keep_weights=True)
    assert type(net.a) is ConvReparam
    no_noise(monkeypatch)
    assert net(x).shape == expected.shape
    # In units of its largest value: sums of up to 24 products.
    scale = float(jnp.abs(expected).max())
    np.testing.assert_allclose(net(x) / scale, expected / scale, atol=1e-6)


def test_kept_weights_without_noise_are_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    net, transform = lenet()
    kernel, bias = (net.heads["main"][0].kernel[...], net.blocks[0]["conv"].bias[...])
    net.eval()
    expected = net(X)
    transform.transform_to_bnn_model(keep_weights=True)
    head, conv = net.heads["main"][0], net.blocks[0]["conv"]
    np.testing.assert_array_equal(head.weight_posterior.mean[...], kernel)
    np.testing.assert_array_equal(conv.bias_posterior.mean[...], bias)
    np.testing.assert_allclose(head.weight_posterior.gaussian.std, INITIAL_STD, rtol=1e-5)
    assert float(jnp.abs(net(X) - expected).max()) > 1e-4
    no_noise(monkeypatch)
    np.testing.assert_allclose(net(X), expected, rtol=1e-6, atol=1e-6)
    other, transform = lenet()
    transform.transform_to_bnn_layer(
        nnx.Linear, DenseLocalReparam, keep_weights=True, initial_std=0.2
    )
    q = other.heads["main"][0].bias_posterior.gaussian
    np.testing.assert_allclose(q.std, 0.2, rtol=1e-5)
    other.eval()
    np.testing.assert_allclose(other(X), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("keep_weights", [True, False])
def test_dtypes_and_precision_are_the_layers(keep_weights: bool) -> None:
    options: dict[str, Any] = {
        "dtype": jnp.bfloat16,
        "param_dtype": jnp.float16,
        "precision": jax.lax.Precision.HIGHEST,
        "rngs": nnx.Rngs(0),
    }
    net = Holder(a=nnx.Linear(3, 3, **options), b=nnx.Conv(3, 3, (1, 1), **options))
    transformer(net).transform_to_bnn_model(keep_weights=keep_weights)
    for layer in (net.a, net.b):
        assert layer.dtype == jnp.bfloat16
        assert layer.precision == jax.lax.Precision.HIGHEST
        assert layer.weight_posterior.mean.dtype == layer.bias_posterior.mean.dtype == jnp.float16
        y = nnx.eval_shape(lambda layer: layer(jnp.ones((1, 1, 1, 3))), layer)
        assert y.dtype == jnp.bfloat16
    net = Holder(a=nnx.Linear(3, 3, **options))
    transformer(net).transform_to_bnn_model(
        add_dense_args={"dtype": jnp.float32, "param_dtype": jnp.float32},
        keep_weights=keep_weights,
    )
    assert net.a.dtype == net.a.weight_posterior.mean.dtype == jnp.float32


def test_arguments_of_the_layers() -> None:
    net, transform = lenet()
    transform.transform_to_bnn_model(
        add_dense_args={"activation": "relu", "weight_prior_fn": LaplacePrior(scale=0.3)},
        add_conv_args={"weight_prior_fn": lambda: NormalPrior(std=0.7)},
    )
    assert net.body.layers[0].weight_prior == LaplacePrior(scale=0.3)
    assert net.body.layers[0].bias_prior.std == 0.1
    assert net.body.layers[0].activation is jax.nn.relu
    assert net.conv1.weight_prior.std == 0.7
    net, transform = lenet()
    transform.transform_to_bnn_layer(
        nnx.Conv,
        ConvReparam,
        lambda layer: {
            "in_channels": layer.in_features,
            "out_channels": layer.out_features,
            "kernel_size": 5,
        },
        {"has_bias": True},
    )
    assert net.conv1.kernel_size == (5, 5)
    assert net.conv1.has_bias


def small() -> Holder:
    return Holder(a=linear(), b=nnx.LayerNorm(3, rngs=nnx.Rngs(0)), c=linear())


@nnx.jit
def scale_gradient(network: WithBNNLossCell) -> Any:
    return nnx.grad(lambda network: network(ROWS, None))(network)["backbone"]["b"]["scale"][...]


@pytest.mark.parametrize(
    "tx",
    [
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        optax.adamw(optax.piecewise_constant_schedule(0.1, {1: 0.01}), b1=0.5, weight_decay=0.3),
    ],
    ids=["momentum", "adamw"],
)
def test_the_optimizer_keeps_its_settings(tx: Any) -> None:
    """A layer norm's scale over three steps, against its gradients and optax alone."""
    net = small()
    train_net = trainable(net, nnx.Optimizer(net, tx, wrt=nnx.Param))
    train_net.optimizer.step[...] += 5
    train_bnn = TransformToBNN(train_net, 1, 1e-3).transform_to_bnn_model()
    assert train_bnn.optimizer.tx is tx
    assert train_bnn.optimizer.wrt == train_net.optimizer.wrt
    assert int(train_bnn.optimizer.step[...]) == 0
    scale = start = net.b.scale[...]
    state = tx.init(scale)
    for _ in range(3):
        gradient = scale_gradient(nnx.clone(train_bnn.network))  # a clone: noise is drawn once
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(gradient, state, scale)
        scale = optax.apply_updates(scale, updates)
        train_bnn(ROWS, None)
    np.testing.assert_allclose(net.b.scale[...], scale, rtol=1e-5)
    assert float(jnp.abs(scale - start).max()) > 1e-3
    assert int(train_bnn.optimizer.step[...]) == 3


def test_a_filter_is_kept() -> None:
    net = small()
    # A path from the backbone on, not from the cell.
    wrt = nnx.All(nnx.Param, lambda path, value: path[0] in ("a", "b"))
    train_net = trainable(net, nnx.Optimizer(net, optax.sgd(0.1), wrt=wrt))
    train_bnn = TransformToBNN(train_net).transform_to_bnn_model()
    before, trained = snapshot(net), nnx.to_pure_dict(nnx.state(net, nnx.Param))
    train_bnn(ROWS, None)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), trained, after)
    assert all(jax.tree.leaves([moved["a"], moved["b"]]))
    assert not any(jax.tree.leaves(moved["c"]))
    assert len(before) > len(jax.tree.leaves(moved))  # random streams besides


def test_training_lowers_the_loss_and_compiles_once() -> None:
    net = Net(nnx.Rngs(0))
    traces = []

    def loss_fn(logits: Any, labels: Any) -> Any:
        traces.append(None)
        return cross_entropy(logits, labels)

    transform = TransformToBNN(trainable(net, optax.adam(1e-2), loss_fn), 1, 1e-4)
    train_bnn = transform.transform_to_bnn_model()
    before = snapshot(train_bnn.network)
    losses = [float(train_bnn(X, LABELS))]
    once = len(traces)
    losses += [float(train_bnn(X, LABELS)) for _ in range(30)]
    assert len(traces) == once
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    after = snapshot(train_bnn.network)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert sum("untransformed_std" in name for name in changed) == 7
    assert "['backbone']['norm']['mean']" in changed  # batch statistics


def test_a_plain_cell_trains_as_optax_does() -> None:
    net, x, y = linear(3, 1), jnp.ones((4, 3)), jnp.zeros((4, 1))
    tx = optax.adam(0.1)
    cell = trainable(net, tx, lambda outputs, labels: jnp.mean(jnp.square(outputs - labels)))
    params = {"w": net.kernel[...], "b": net.bias[...]}
    state = tx.init(params)

    def loss(p: Any) -> Any:
        return jnp.mean(jnp.square(x @ p["w"] + p["b"][None] - y))

    for _ in range(3):
        value, grads = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert float(cell(x, y)) == pytest.approx(float(value), rel=1e-4)
    np.testing.assert_allclose(net.kernel[...], params["w"], rtol=1e-5)
    np.testing.assert_allclose(net.bias[...], params["b"], rtol=1e-5)
    assert cell.network.backbone_network is net


def conv(**options: Any) -> nnx.Conv:
    options = {"kernel_size": (3, 3), "kernel_init": init, "rngs": nnx.Rngs(0), **options}
    return nnx.Conv(2, 4, **options)


def stacked() -> nnx.Linear:
    @nnx.vmap
    def make(key: Any) -> nnx.Linear:
        return nnx.Linear(3, 3, rngs=nnx.Rngs(key))

    return make(jax.random.split(jax.random.key(0), 2))


def integer() -> nnx.Linear:
    layer = linear()
    layer.kernel.set_value(jnp.ones((3, 3), jnp.int8))
    return layer


def tied() -> nnx.Linear:
    layer, other = linear(), linear()
    layer.kernel = other.kernel
    return nnx.List([layer, other])


def custom_dot(*args: Any, **options: Any) -> Any:
    return jax.lax.dot_general(*args, **options)


# Each sits behind layers that could be replaced, and were not.
BAD_LAYERS: dict[str, tuple[Callable[[], Any], str]] = {
    "1-d": (lambda: conv(kernel_size=3), "2-d"),
    "3-d": (lambda: conv(kernel_size=(3, 3, 3)), "2-d"),
    "circular": (lambda: conv(padding="CIRCULAR"), "CIRCULAR"),
    "reflect": (lambda: conv(padding="REFLECT"), "REFLECT"),
    "causal": (lambda: conv(padding="CAUSAL"), "CAUSAL"),
    "same_lower": (lambda: conv(padding="SAME_LOWER"), "SAME_LOWER"),
    "negative": (lambda: conv(padding=(-1, 0)), "padding >= 0"),
    "input dilation": (lambda: conv(input_dilation=(1, 2)), "input_dilation"),
    "mask": (lambda: conv(mask=jnp.ones((3, 3, 2, 4))), "mask"),
    "dot_general": (lambda: linear(dot_general=custom_dot), "dot_general"),
    "element type": (lambda: linear(preferred_element_type=jnp.float32), "preferred_element"),
    "promotion": (lambda: conv(promote_dtype=lambda x, dtype: x), "promote_dtype"),
    "stacked": (stacked, "stacked"),
    "integers": (integer, "floating-point"),
    "tied": (tied, r"zz.[01].kernel"),
}


@pytest.mark.parametrize("name", BAD_LAYERS)
def test_a_layer_that_cannot_be_converted(name: str) -> None:
    make, message = BAD_LAYERS[name]
    net = Holder(a=linear(), b=conv(), zz=make())
    transform = transformer(net)
    assert_nothing_replaced(
        net, transform.transform_to_bnn_model, ValueError, rf"(?s)^zz.*{message}"
    )


def assert_nothing_replaced(
    net: nnx.Module, call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    before, modules = snapshot(net), [id(m) for _, m in nnx.iter_modules(net)]
    with pytest.raises(error, match=message):
        call()
    assert [id(m) for _, m in nnx.iter_modules(net)] == modules
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])


GIVEN = {"in_channels": 3, "out_channels": 3}
WRONG: dict[str, tuple[Callable[[TransformToBNN], Any], type[Exception], str]] = {
    "not callable": (
        lambda t: t.transform_to_bnn_model(get_conv_args={}),
        TypeError,
        "get_conv_args",
    ),
    "no dict": (
        lambda t: t.transform_to_bnn_model(add_dense_args=[1]),
        TypeError,
        "add_dense_args",
    ),
    "no dict returned": (
        lambda t: t.transform_to_bnn_model(lambda layer: [3, 3]),
        TypeError,
        "^a: .*must return",
    ),
    "given twice": (
        lambda t: t.transform_to_bnn_model(add_dense_args={"has_bias": True}),
        ValueError,
        "^a: .*has_bias come from get_args and from add_args",
    ),
    "unknown": (
        lambda t: t.transform_to_bnn_model(add_conv_args={"weight_prior": LaplacePrior()}),
        TypeError,
        "^b: ConvReparam has no argument 'weight_prior'.*mean 'weight_prior_fn'",
    ),
    "unknown, local": (
        lambda t: t.transform_to_bnn_layer(
            nnx.Linear, DenseLocalReparam, add_args={"approximat": True}
        ),
        TypeError,
        "Did you mean 'approximate'",
    ),
    "missing": (
        lambda t: t.transform_to_bnn_model(lambda layer: {"in_channels": 3}),
        TypeError,
        "^a: .*out_channels",
    ),
    "wrong value": (
        lambda t: t.transform_to_bnn_model(lambda layer: GIVEN | {"out_channels": -1}),
        ValueError,
        "^a: .*out_channels >= 1",
    ),
    "activation": (
        lambda t: t.transform_to_bnn_model(add_dense_args={"activation": "rel"}),
        ValueError,
        "^a: .*'relu'",
    ),
    "other shape": (
        lambda t: t.transform_to_bnn_model(
            lambda layer: GIVEN | {"out_channels": 4}, keep_weights=True
        ),
        ValueError,
        "^a: .*shape",
    ),
    "posterior twice": (
        lambda t: t.transform_to_bnn_model(
            add_dense_args={"bias_posterior_fn": normal_post_fn}, keep_weights=True
        ),
        ValueError,
        "^a: keep_weights=True sets bias_posterior_fn",
    ),
    "std": (lambda t: t.transform_to_bnn_model(initial_std=0.0), ValueError, "initial_std"),
    "no type": (lambda t: t.transform_to_bnn_layer("Linear", DenseReparam), TypeError, "dnn_layer"),
    "an instance": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, t.backbone),
        TypeError,
        "bnn_layer_type",
    ),
    "linen": (
        lambda t: t.transform_to_bnn_layer(linen.Dense, DenseReparam),
        ValueError,
        "got Dense",
    ),
    "other layer": (
        lambda t: t.transform_to_bnn_layer(nnx.Embed, DenseReparam),
        ValueError,
        "to_bnn",
    ),
    "mismatch": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, ConvReparam),
        ValueError,
        "DenseReparam or DenseLocalReparam as bnn_layer_type for nnx.Linear",
    ),
    "mismatch, conv": (
        lambda t: t.transform_to_bnn_layer(nnx.Conv, DenseReparam),
        ValueError,
        "ConvReparam as",
    ),
    "ordinary": (
        lambda t: t.transform_to_bnn_layer(nnx.Linear, nnx.Linear),
        ValueError,
        "got Linear",
    ),
    "own call": (
        lambda t: t.transform_to_bnn_layer(Twice, DenseReparam),
        ValueError,
        "pass get_args",
    ),
    "absent": (
        lambda t: t.transform_to_bnn_layer(Named, DenseReparam),
        ValueError,
        "type Named to replace; its types are: Conv, Holder, Linear",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_calls(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    call, error, message = WRONG[name]
    net = Holder(a=linear(), b=conv())
    transform = transformer(net)
    assert_nothing_replaced(net, lambda: call(transform), error, message)


def test_nothing_to_replace() -> None:
    net = nnx.Sequential(DenseReparam(3, 3, rngs=nnx.Rngs(0)), nnx.LayerNorm(3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match="Linear or Conv to replace.*DenseReparam, LayerNorm, Lis"):
        transformer(net).transform_to_bnn_model()


def test_an_optimizer_that_does_not_fit_the_new_parameters() -> None:
    net = Holder(a=linear(), b=linear())
    mask = jax.tree.map(lambda x: True, nnx.state(net, nnx.Param))
    transform = transformer(net, optax.masked(optax.adam(0.1), mask))
    assert_nothing_replaced(net, transform.transform_to_bnn_model, ValueError, ".")
    wrt = nnx.All(nnx.Param, nnx.PathContains("kernel"))
    transform = transformer(net, nnx.Optimizer(net, optax.adam(0.1), wrt=wrt))
    assert_nothing_replaced(
        net, transform.transform_to_bnn_model, ValueError, "^a: The optimizer's filter.*kernel"
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Box:
    content: Any


def test_a_container_that_cannot_be_changed() -> None:
    net = Holder(a=linear(), b=nnx.data(Box(linear())))
    assert_nothing_replaced(
        net, transformer(net).transform_to_bnn_model, ValueError, "b.content sits in a container"
    )


def test_wrong_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    net, sgd = linear(), optax.sgd(0.1)
    cell = WithLossCell(net, square)
    momentum = optax.sgd(0.1, momentum=0.9)
    for call, error, message in (
        (lambda: WithLossCell(square, square), TypeError, "nnx.Module as backbone"),
        (lambda: WithLossCell(net, 3), TypeError, "loss_fn"),
        (lambda: TrainOneStepCell(net, sgd), TypeError, "WithLossCell.*got Linear"),
        (lambda: TrainOneStepCell(cell, 0.1), TypeError, "optimizer"),
        (lambda: TransformToBNN(cell), TypeError, "TrainOneStepCell as trainable_dnn"),
        (lambda: TransformToBNN(trainable(net), "1"), TypeError, "dnn_factor"),
        (lambda: TransformToBNN(trainable(net), 1, True), TypeError, "bnn_factor"),
        (lambda: TransformToBNN(trainable(net), 1, -1), ValueError, "bnn_factor >= 0"),
        (lambda: TransformToBNN(trainable(net), rngs=0), TypeError, "nnx.Rngs as rngs"),
        (
            lambda: TrainOneStepCell(cell, nnx.Optimizer(cell, momentum, wrt=nnx.Param)),
            ValueError,
            "made for another module",
        ),
        (
            lambda: TrainOneStepCell(cell, nnx.Optimizer(net, momentum, wrt=nnx.BatchStat)),
            ValueError,
            "trains nothing",
        ),
        (
            lambda: TrainOneStepCell(cell, nnx.ModelAndOptimizer(net, sgd)),
            TypeError,
            "ModelAndOptimizer",
        ),
    ):
        with pytest.raises(error, match=message):
            call()
