"""Means and variances through everything linear, against closed forms and samples."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax import lax

from bnn_jax import gaussian, moments, posteriors, to_bnn
from bnn_jax.models import banded_conv
from bnn_jax.moments import Moments, MomentsError
from core_helpers import data, key

W = gaussian.centred(data(1, 4, 5), 0.3)
V = gaussian.centred(data(2, 5, 3), 0.2)
B = gaussian.centred(data(3, 1, 5), 0.1)
POSTERIOR = {"w": W, "v": V, "b": B}
X = data(0, 6, 4)


def test_a_dense_layer_is_exact() -> None:
    got = moments.outputs(lambda p, x: x @ p["w"] + p["b"], POSTERIOR, X)
    np.testing.assert_allclose(got.mean, X @ W.mean + B.mean, atol=1e-6)
    variance = jnp.square(X) @ jnp.square(W.std) + jnp.square(B.std)
    np.testing.assert_allclose(got.variance, variance, rtol=1e-6)


def test_a_second_layer_has_the_formula_of_independent_values() -> None:
    x = Moments(data(4, 6, 5), jnp.square(data(5, 6, 5)))
    got = moments.outputs(lambda p, x: x @ p["v"], POSTERIOR, x)
    second = (x.mean**2 + x.variance) @ (V.mean**2 + V.std**2)
    np.testing.assert_allclose(got.mean, x.mean @ V.mean, atol=1e-6)
    np.testing.assert_allclose(got.variance, second - x.mean**2 @ V.mean**2, rtol=1e-5, atol=1e-5)


def independent(fn: Any, x: Moments, count: int = 10_000) -> tuple[Any, Any]:
    """Mean and variance of fn over normal samples of x."""

    def moments_of_samples(x: Moments) -> tuple[Any, Any]:
        noise = jax.random.normal(key(0), (count, *x.shape))
        samples = jax.vmap(fn)(x.mean[None] + x.std[None] * noise)
        return samples.mean(0), samples.var(0)

    return jax.jit(moments_of_samples)(x)


KERNEL = data(6, 2, 2, 3, 4)
IMAGES = Moments(data(7, 2, 5, 5, 3), jnp.square(data(8, 2, 5, 5, 3)))
X4 = IMAGES.mean
NHWC = ("NHWC", "HWIO", "NHWC")

LINEAR = {
    "a convolution": lambda x: lax.conv_general_dilated(
        x, KERNEL, (2, 1), "SAME", dimension_numbers=NHWC
    ),
    "a banded convolution": lambda x: banded_conv(
        x, KERNEL, (1, 1), "VALID", dimension_numbers=NHWC
    ),
    "average pooling": lambda x: 0.25 * lax.reduce_window(
        x, 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
    ),
    "a mean": lambda x: x.mean(axis=(1, 2)),
    "centring": lambda x: x - x.mean(axis=-1, keepdims=True),
    "moves": lambda x: jnp.flip(x[:, 1:, ::2].transpose(0, 3, 1, 2)).reshape(2, -1),
    "joins": lambda x: jnp.concatenate([jnp.pad(x, [(0, 0), (1, 0), (0, 0), (0, 0)]), X4], 1),
    "rows by number": lambda x: x[:, jnp.asarray([3, 0, 0])],
    "parts": lambda x: jnp.split(x, [2], axis=1)[1] * 2.0,
    "an update": lambda x: lax.dynamic_update_slice(IMAGES.mean, 2.0 * x[:, :2], (0, 1, 0, 0)),
    "running sums": lambda x: jnp.cumsum(x, axis=1),
    "tiles": lambda x: jnp.tile(x, (1, 2, 1, 1)),
    "an einsum": lambda x: jnp.einsum("bhwc,hwk->bck", x, data(9, 5, 5, 2)),
    "a layer that is recomputed": jax.checkpoint(lambda x: 2.0 * x),
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR)
def test_linear_functions_are_exact(name: str) -> None:
    """The variance of a linear function is the sum of its squared derivatives times variances."""
    fn = LINEAR[name]
    got = moments.outputs(lambda _, x: fn(x), {}, IMAGES)
    np.testing.assert_allclose(got.mean, fn(IMAGES.mean), atol=1e-5)
    jacobian = jax.jacobian(fn)(IMAGES.mean)
    axes = tuple(range(jacobian.ndim - 4, jacobian.ndim))
    wanted = jnp.sum(jnp.square(jacobian) * jnp.broadcast_to(IMAGES.variance, jacobian.shape), axes)
    np.testing.assert_allclose(got.variance, wanted, rtol=1e-4, atol=1e-5)


def test_a_random_kernel_and_random_images() -> None:
    q = gaussian.centred(KERNEL, 0.3)
    conv = partial(lax.conv_general_dilated, window_strides=(1, 1), padding="SAME")
    got = moments.outputs(lambda p, x: conv(x, p["k"], dimension_numbers=NHWC), {"k": q}, IMAGES)
    second = conv(
        IMAGES.mean**2 + IMAGES.variance, q.mean**2 + q.std**2, dimension_numbers=NHWC
    ) - conv(IMAGES.mean**2, q.mean**2, dimension_numbers=NHWC)
    np.testing.assert_allclose(got.variance, second, rtol=1e-4, atol=1e-4)


def test_an_embedding_looks_up_means_and_variances() -> None:
    table = gaussian.centred(data(1, 7, 3), 0.2)
    ids = jnp.asarray([[1, 1], [6, 0]])
    got = moments.outputs(lambda p, ids: jnp.take(p["t"], ids, axis=0), {"t": table}, ids)
    np.testing.assert_array_equal(got.mean, table.mean[ids])
    np.testing.assert_allclose(got.variance, table.std[ids] ** 2, rtol=1e-6)


@pytest.mark.parametrize("name", ["reshaped", "nn.max_pool", "overlapping", "minimum"])
def test_maximum_pooling(name: str) -> None:
    x = Moments(data(7, 2, 5, 6, 3), 0.25 + 0.1 * jnp.sin(data(8, 2, 5, 6, 3)))
    fn = {
        "reshaped": lambda x: x[:, :4].reshape(2, 2, 2, 3, 2, 3).max(axis=(2, 4)),
        "nn.max_pool": partial(nn.max_pool, window_shape=(2, 2), strides=(2, 2)),
        "overlapping": partial(nn.max_pool, window_shape=(3, 3), strides=(2, 2), padding="SAME"),
        "minimum": lambda x: x.min(axis=1),
    }[name]
    got = jax.jit(lambda x: moments.outputs(lambda _, x: fn(x), {}, x))(x)
    mean, variance = independent(fn, x)
    # Clark's formula is exact for two; the maximum of two is not normal.
    np.testing.assert_array_less(jnp.abs(got.mean - mean) / jnp.sqrt(variance), 0.1)
    np.testing.assert_allclose(got.std, jnp.sqrt(variance), rtol=0.15, atol=1e-3)


def test_softmax_at_small_std_is_first_order() -> None:
    x = Moments(data(1, 3, 5), jnp.square(0.1 * data(2, 3, 5)))
    mean, variance = independent(jax.nn.softmax, x)
    got = moments.outputs(lambda _, x: jax.nn.softmax(x), {}, x)
    np.testing.assert_allclose(got.mean, mean, atol=3e-3)
    np.testing.assert_allclose(got.std, jnp.sqrt(variance), rtol=0.1, atol=1e-4)


def test_layer_normalization_takes_its_statistics_from_the_moments() -> None:
    x = Moments(data(1, 3, 8), jnp.square(0.2 * data(2, 3, 8)))
    layer = nn.LayerNorm(use_bias=False, use_scale=False)
    got = moments.outputs(lambda _, x: layer.apply({}, x), {}, x)
    mean = x.mean.mean(-1, keepdims=True)
    second = (x.mean**2 + x.variance).mean(-1, keepdims=True)
    of_mean = x.variance.sum(-1, keepdims=True) / 64
    scale = 1.0 / jnp.sqrt(second - mean**2 - of_mean + 1e-6)
    np.testing.assert_allclose(got.mean, (x.mean - mean) * scale, rtol=1e-5)
    np.testing.assert_allclose(
        got.variance, (x.variance * (1 - 2 / 8) + of_mean) * scale**2, rtol=1e-5
    )


def test_posteriors() -> None:
    def dense(p: Any, x: Any) -> Any:
        return x @ p["w"]

    tree = {"w": W}
    wanted = moments.outputs(dense, tree, X)
    got = moments.outputs(dense, posteriors.MeanField(tree), X)
    np.testing.assert_array_equal(got.variance, wanted.variance)
    point = moments.outputs(dense, posteriors.Point({"w": W.mean}), X)
    np.testing.assert_array_equal(point.mean, wanted.mean)
    np.testing.assert_array_equal(point.variance, jnp.zeros((6, 5)))
    stacked = posteriors.Samples({"w": data(1, 3, 4, 5)})
    with pytest.raises(TypeError, match="mean-field posterior.*got Samples"):
        moments.outputs(dense, stacked, X)
    with pytest.raises(TypeError, match="got list"):
        moments.outputs(dense, [tree, tree], X)


def test_models_that_are_none() -> None:
    with pytest.raises(TypeError, match="to_bnn returns"):
        moments.outputs(3, {"w": W}, X)
    with pytest.raises(ValueError, match="no variables"):
        moments.outputs(lambda p, x: x @ p["w"], {"w": W}, X, variables={"a": X})


class Sorting(nn.Module):
    @nn.compact
    def __call__(self, x: Any) -> Any:
        return jnp.sort(nn.Dense(3, name="first")(x))


def test_an_operation_without_a_rule_is_named_with_its_layer_and_line() -> None:
    network = Sorting(name="sorting")
    model = to_bnn(network, network.init(key(1), X))
    with pytest.raises(MomentsError, match=r"'sort' .*layer sorting.*test_linear\.py:\d+"):
        moments.outputs(model, model.posterior, X)


def test_control_flow_is_an_error_where_something_uncertain_enters() -> None:
    def loop(p: Any, x: Any) -> Any:
        doubled = lax.fori_loop(0, 3, lambda _, h: 2.0 * h, x)
        return doubled @ p["w"]

    certain = moments.outputs(loop, {"w": W}, X)
    np.testing.assert_allclose(certain.mean, 8.0 * X @ W.mean, rtol=1e-5)

    def recurrent(p: Any, x: Any) -> Any:
        return lax.fori_loop(0, 3, lambda _, h: jnp.tanh(h @ p["w"] @ W.mean.T), x)

    with pytest.raises(MomentsError, match="'scan'"):
        moments.outputs(recurrent, {"w": W}, X)
