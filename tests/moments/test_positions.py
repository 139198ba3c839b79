"""Means over the positions of convolutions, whose variance includes covariances of positions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from bnn_jax import gaussian, moments, to_bnn
from core_helpers import data, key, random_posterior

X = data(0, 3, 9, 8, 4)

CONVOLUTIONS = {
    "same": {"padding": "SAME", "window_strides": (1, 1)},
    "strides": {"padding": "SAME", "window_strides": (2, 1)},
    "valid": {"padding": "VALID", "window_strides": (1, 2)},
    "dilated": {"padding": [(1, 2), (0, 1)], "window_strides": (1, 1), "rhs_dilation": (2, 1)},
    "groups": {"padding": "SAME", "window_strides": (1, 1), "feature_group_count": 2},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_one_convolution_is_exact(name: str, layout: str) -> None:
    """The mean over positions is linear in the kernel and the bias."""
    inputs = 4 // CONVOLUTIONS[name].get("feature_group_count", 1)
    posterior = {"kernel": random_posterior(1, 3, 3, inputs, 6), "bias": random_posterior(2, 6)}
    axes = (1, 2) if layout == "NHWC" else (2, 3)

    def network(params: Any, x: Any) -> Any:
        x = x if layout == "NHWC" else jnp.transpose(x, (0, 3, 1, 2))
        numbers = (layout, "HWIO", layout)
        y = jax.lax.conv_general_dilated(
            x, params["kernel"], dimension_numbers=numbers, **CONVOLUTIONS[name]
        )
        shape = (1, 1, 1, 6) if layout == "NHWC" else (1, 6, 1, 1)
        return jnp.mean(y + params["bias"].reshape(shape), axis=axes)

    got = jax.jit(lambda q: moments.outputs(network, q, X))(posterior)
    mean = gaussian.mean(posterior)
    np.testing.assert_allclose(got.mean, network(mean, X), rtol=1e-4, atol=1e-5)
    jacobian = jax.jit(jax.jacobian(lambda p: network(p, X)))(mean)
    variance = sum(
        np.sum(np.square(jacobian[k]) * np.square(posterior[k].std), axis=tuple(range(2, n)))
        for k, n in (("kernel", 6), ("bias", 3))
    )
    np.testing.assert_allclose(got.variance, variance, rtol=1e-4)


class Network(nn.Module):
    """Convolutions with pooling, a residual block and a scale, then a mean over positions."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.max_pool(nn.relu(nn.Conv(6, (3, 3))(x)), (2, 2), strides=(2, 2))
        y = nn.Conv(6, (3, 3))(nn.tanh(nn.Conv(6, (3, 3))(x)))
        scale = self.param("scale", nn.initializers.ones, (6,))
        x = nn.relu(x + y * scale[None, None, None])
        return jnp.mean(x, axis=(1, 2))


def test_the_std_of_a_deep_network_is_that_of_samples() -> None:
    images = data(2, 4, 12, 12, 2)
    network = Network()
    model = to_bnn(network, network.init(key(1), images), where="all", initial_std=0.05)
    got = jax.jit(lambda q, x: moments.outputs(model, q, x))(model.posterior, images)

    @jax.jit
    def outputs(keys: Any) -> Any:
        def one(k: Any) -> Any:
            return model.network.call(gaussian.sample(k, model.posterior), {}, images)

        return jax.lax.map(one, keys, batch_size=100)

    samples = np.asarray(outputs(jax.random.split(key(3), 2000)))
    ratio = np.asarray(got.std) / samples.std(axis=0)
    assert 0.85 < ratio.mean() < 1.15
    independent = samples.std(axis=0).mean()
    assert abs(np.asarray(got.std).mean() / independent - 1) < 0.15


def test_a_sum_over_other_axes_counts_positions_as_independent() -> None:
    posterior = {"kernel": random_posterior(1, 3, 3, 4, 6)}

    def network(params: Any, x: Any) -> Any:
        numbers = ("NHWC", "HWIO", "NHWC")
        y = jax.lax.conv_general_dilated(
            x, params["kernel"], (1, 1), "SAME", dimension_numbers=numbers
        )
        return y, jnp.sum(y, axis=-1), jnp.sum(y, axis=(1, 2, 3))

    each, channels, whole = jax.jit(lambda q: moments.outputs(network, q, X))(posterior)
    np.testing.assert_allclose(channels.variance, each.variance.sum(-1), rtol=1e-5)
    # Channels have kernels of their own, so the sum over everything is exact too.
    jacobian = jax.jacobian(lambda k: network({"kernel": k}, X)[2])(posterior["kernel"].mean)
    variance = np.sum(np.square(jacobian) * np.square(posterior["kernel"].std), (1, 2, 3, 4))
    np.testing.assert_allclose(whole.variance, variance, rtol=1e-4)
