"""Flax networks: means and variances in one pass against those of 1,000 samples."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from zoo_linen import CASES as LINEN
from zoo_nnx import CASES as NNX

from bnn_jax import gaussian, moments, to_bnn
from bnn_jax.gaussian import is_gaussian
from bnn_jax.models import MLP, LeNet5, banded_conv
from bnn_jax.models.transformer import Transformer
from bnn_jax.moments import Moments, MomentsError
from core_helpers import data, key

ZOO = {case.name: case for case in [*LINEN, *NNX]}


def with_std(posterior: Any, std: float) -> Any:
    return jax.tree.map(
        lambda x: gaussian.centred(x.mean, std) if is_gaussian(x) else x,
        posterior,
        is_leaf=is_gaussian,
    )


def passed(model: Any, posterior: Any, *inputs: Any) -> Any:
    return jax.jit(lambda p, *x: moments.outputs(model, p, *x))(posterior, *inputs)


def sampled(model: Any, posterior: Any, inputs: Any, kwargs: Any, count: int = 1000) -> Any:
    """The outputs of samples, (count, ...)."""

    def outputs(sample_key: Any) -> Any:
        params = gaussian.sample(sample_key, posterior)
        return model.network.call(params, model.variables, *inputs, **kwargs)

    keys = jax.random.split(key(3), count)
    return jax.jit(lambda keys: jax.lax.map(outputs, keys, batch_size=100))(keys)


def compare(model: Any, posterior: Any, inputs: Any, kwargs: Any) -> tuple[float, float]:
    """The largest error of a mean in units of the mean std, and the ratio of the mean stds."""
    got = jax.jit(lambda p, *x: moments.outputs(model, p, *x, **kwargs))(posterior, *inputs)
    samples = sampled(model, posterior, inputs, kwargs)
    leaves = jax.tree.leaves(got, is_leaf=lambda x: isinstance(x, Moments))
    errors, ratios = [], []
    for one, many in zip(leaves, jax.tree.leaves(samples), strict=True):
        std = many.std(0).mean()
        errors.append(float(jnp.abs(one.mean - many.mean(0)).max() / std))
        ratios.append(float(one.std.mean() / std))
    return max(errors), ratios[0]


# The std of the samples' mean is 1 / sqrt(1000) = 0.03 std, so errors below 0.1 are noise.
BOUNDS = {
    "linen-mlp": (0.1, 0.05),
    "linen-lenet": (0.25, 0.1),
    "linen-depthwise_cnn": (0.15, 0.1),
    "linen-unet": (0.15, 0.12),
    "linen-vision_transformer": (0.15, 0.1),
    "linen-general_layers": (0.1, 0.05),
    "linen-lora": (0.1, 0.05),
    "linen-siamese": (0.1, 0.12),
    "linen-mixture_of_experts": (0.12, 0.05),
    "nnx-mixer": (0.1, 0.08),
    "nnx-encoder_decoder": (0.12, 0.08),
    "nnx-squeeze_excite": (0.1, 0.1),
    "nnx-temporal_cnn": (0.12, 0.15),
    "nnx-lists_and_dicts": (0.1, 0.05),
    "nnx-shared_layer": (0.15, 0.1),
}


# The others compile for several seconds each.
QUICK = ("linen-mlp", "linen-lora", "linen-vision_transformer", "nnx-squeeze_excite")
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BOUNDS]


@pytest.mark.parametrize("name", NAMES)
def test_the_zoo(name: str) -> None:
    case = ZOO[name]
    model = to_bnn(*case.make(), where=case.where)
    error, ratio = compare(
        model, with_std(model.posterior, 0.05), case.inputs(0), case.call_kwargs()
    )
    bound, of_ratio = BOUNDS[name]
    assert error < bound
    assert abs(ratio - 1.0) < of_ratio


def test_a_resnet_with_batch_norm() -> None:
    """The mean over positions includes that they share kernels: without, the ratio is 0.57."""
    case = ZOO["linen-resnet_eval"]
    model = to_bnn(*case.make())
    error, ratio = compare(
        model, with_std(model.posterior, 0.05), case.inputs(0), case.call_kwargs()
    )
    assert error < 0.1
    assert abs(ratio - 1.0) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linen-gpt_tied_embedding", "nnx-gpt_tied_embedding"])
def test_tied_weights_count_as_independent(name: str) -> None:
    case = ZOO[name]
    model = to_bnn(*case.make(), where=case.where)
    error, ratio = compare(model, with_std(model.posterior, 0.02), case.inputs(0), {})
    assert error < 1.0
    assert abs(ratio - 1.0) < 0.15


@pytest.mark.parametrize("name", ["linen-bidirectional_lstm", "nnx-gru", "linen-scan_and_remat"])
def test_recurrent_networks_are_errors(name: str) -> None:
    case = ZOO[name]
    model = to_bnn(*case.make())
    with pytest.raises(MomentsError, match="'scan'"):
        moments.outputs(model, model.posterior, *case.inputs(0))


def lenet(**options: Any) -> tuple[Any, Any]:
    images = data(1, 1, 32, 32, 1)
    network = LeNet5(**options)
    return to_bnn(network, network.init(key(2), images)), images


def test_lenet_5() -> None:
    model, images = lenet()
    posterior = with_std(model.posterior, 0.02)
    error, ratio = compare(model, posterior, (images,), {})
    assert error < 0.3
    assert abs(ratio - 1.0) < 0.2
    banded, _ = lenet(conv_general_dilated=banded_conv)
    one, other = (passed(m, posterior, images) for m in (model, banded))
    np.testing.assert_allclose(other.mean, one.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other.variance, one.variance, rtol=1e-4)


def test_a_causal_transformer_runs() -> None:
    ids = jnp.asarray([[3, 1, 4, 1]])
    network = Transformer(vocabulary=7, width=8, layers=1, heads=2, length=4)
    model = to_bnn(network, network.init(key(2), ids))
    error, ratio = compare(model, with_std(model.posterior, 0.02), (ids,), {})
    assert error < 0.25
    assert abs(ratio - 1.0) < 0.1


def mlp() -> tuple[Any, Any, Any]:
    x = data(1, 3, 4)
    network = MLP((6,), 2)
    model = to_bnn(network, network.init(key(2), x))
    return model, with_std(model.posterior, 0.1), x


def test_one_relu_layer_against_its_closed_form() -> None:
    model, posterior, x = mlp()
    first, second = posterior["fc1"], posterior["fc2"]
    mean = np.asarray(x @ first["kernel"].mean + first["bias"].mean[None], np.float64)
    std = np.sqrt(np.asarray(jnp.square(x).sum(-1, keepdims=True) + 1.0, np.float64)) * 0.1
    z, weights = np.polynomial.hermite_e.hermegauss(180)
    hidden = np.maximum(mean[..., None] + std[..., None] * z, 0.0)
    hidden_mean = hidden @ weights / weights.sum()
    hidden_second = hidden**2 @ weights / weights.sum()
    w = np.asarray(second["kernel"].mean, np.float64)
    got = passed(model, posterior, x)
    np.testing.assert_allclose(got.mean, hidden_mean @ w + second["bias"].mean[None], atol=1e-3)
    variance = hidden_second @ (w**2 + 0.01) - hidden_mean**2 @ w**2 + 0.01
    np.testing.assert_allclose(got.variance, variance, rtol=5e-3)


def test_vmap_and_jit_change_nothing() -> None:
    model, posterior, x = mlp()
    wanted = passed(model, posterior, x)
    got = jax.jit(jax.vmap(lambda x: moments.outputs(model, posterior, x[None])))(x)
    np.testing.assert_allclose(got.mean[:, 0], wanted.mean, rtol=1e-5)
    np.testing.assert_allclose(got.variance[:, 0], wanted.variance, rtol=1e-5)


def test_the_gradient_is_that_of_finite_differences() -> None:
    model, posterior, x = mlp()

    @jax.jit
    def loss(shift: Any) -> Any:
        moved = jax.tree.map(lambda p: p + shift * jnp.cos(p), posterior)
        got = moments.outputs(model, moved, x)
        return jnp.sum(got.mean**2) + jnp.sum(jnp.log(got.variance))

    gradient, step = jax.jit(jax.grad(loss))(0.0), 1e-2
    difference = (loss(step) - loss(-step)) / (2 * step)
    np.testing.assert_allclose(gradient, difference, rtol=1e-2)

    def spread(posterior: Any) -> Any:
        return moments.outputs(model, posterior, 0.0 * x).std.sum()

    for leaf in jax.tree.leaves(jax.jit(jax.grad(spread))(posterior)):
        assert np.isfinite(leaf).all()
