"""TransformToBNN: the layers that it replaces, and all that it keeps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from transform_to_bnn_helpers import (
    LAYERS,
    ROWS,
    Holder,
    Named,
    Twice,
    X,
    init,
    lenet,
    linear,
    no_noise,
    snapshot,
    square,
    transformer,
    types,
)

from bnn_jax import LaplacePrior
from bnn_jax.bnn_layers import (
    BayesianLayer,
    ConvReparam,
    DenseLocalReparam,
    DenseReparam,
    NormalPrior,
    WithBNNLossCell,
    kl_by_layer,
)
from bnn_jax.transforms.conversion import INITIAL_STD


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


def test_bayesian_layers_and_overridden_calls_are_not_replaced() -> None:
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
