"""The forward passes that the NNX and the linen layers share.

Each function takes a key, a Gaussian weight and an input. If the key is None, the mean of the
weight is used. A weight that is an array, such as a sample, is used unchanged.
"""

import jax
import jax.numpy as jnp
from flax.nnx.nn import dtypes
from jax import lax
from jaxtyping import Array, DTypeLike, Float

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import PRNGKey

Padding = str | tuple[tuple[int, int], tuple[int, int]]


def draw(key: PRNGKey | None, weight: Gaussian | Array) -> Float[Array, "*shape"]:
    """Returns one sample of the weight, mean + std * epsilon."""
    if not isinstance(weight, Gaussian):
        return weight
    if key is None:
        return weight.mean
    return weight.mean + gaussian.deviation(key, weight)


def dense(
    key: PRNGKey | None,
    weight: Gaussian | Array,
    x: Float[Array, "*batch in"],
    dtype: DTypeLike | None = None,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*batch out"]:
    """Returns x W, with one sample of W for all examples."""
    x, w = dtypes.promote_dtype((x, draw(key, weight)), dtype=dtype)
    return _dot(x, w, precision)


def dense_local(
    key: PRNGKey | None,
    weight: Gaussian | Array,
    x: Float[Array, "*batch in"],
    dtype: DTypeLike | None = None,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*batch out"]:
    """Returns a sample of x W with independent elements: mean x E[W], variance x^2 Var[W].

    The variance is computed in float32 or wider, because its squares can exceed the range of
    float16. It is at least the smallest normal number, so that the gradient of the square root is
    finite where x is zero.
    Source: Kingma, Salimans, Welling 2015, arXiv:1506.02557, equation 6.
    """
    mean = dense(None, weight, x, dtype, precision)
    if key is None or not isinstance(weight, Gaussian):
        return mean
    wide = mean.dtype if jnp.finfo(mean.dtype).bits >= 32 else jnp.float32
    x2, var = jnp.square(x.astype(wide)), jnp.square(weight.std.astype(wide))
    std = jnp.sqrt(jnp.maximum(_dot(x2, var, precision), jnp.finfo(wide).tiny))
    y = mean.astype(wide) + std * noise.normal(key, mean.shape, wide)
    return y.astype(mean.dtype)


def conv(
    key: PRNGKey | None,
    weight: Gaussian | Array,
    x: Float[Array, "*batch height width in"],
    *,
    stride: tuple[int, int],
    padding: Padding,
    dilation: tuple[int, int],
    group: int,
    dtype: DTypeLike | None = None,
    precision: lax.PrecisionLike = None,
) -> Float[Array, "*batch new_height new_width out"]:
    """Returns the convolution of NHWC images with one sample of an HWIO kernel for all examples."""
    x, w = dtypes.promote_dtype((x, draw(key, weight)), dtype=dtype)
    batch = x.shape[:-3]
    y = lax.conv_general_dilated(
        x.reshape((-1, *x.shape[-3:])),
        w,
        window_strides=stride,
        padding=padding,
        rhs_dilation=dilation,
        feature_group_count=group,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=precision,
    )
    return y.reshape((*batch, *y.shape[1:]))


def add_bias(
    key: PRNGKey | None, bias: Gaussian | Array, y: Float[Array, "*batch out"]
) -> Float[Array, "*batch out"]:
    """Returns y plus one sample of the bias."""
    b = draw(key, bias).astype(y.dtype)
    return y + jnp.reshape(b, (1,) * (y.ndim - 1) + (-1,))


def split(key: PRNGKey | None) -> tuple[PRNGKey | None, PRNGKey | None]:
    """Returns the keys of the weight and the bias."""
    if key is None:
        return None, None
    weight_key, bias_key = jax.random.split(key)
    return weight_key, bias_key


def require_one_use(layer: str, x: Array, approximate: bool) -> None:
    """Raises ValueError unless local reparameterisation is exact: rank 1 or 2, or `approximate`."""
    if x.ndim > 2 and not approximate:
        raise ValueError(
            f"{layer} is exact only for inputs of shape (batch, in), got {x.shape}: all positions "
            "of an example share one weight, but each output is sampled independently. Use "
            "DenseReparam, or pass approximate=True to the layer."
        )


def _dot(x: Array, w: Array, precision: lax.PrecisionLike) -> Array:
    return lax.dot_general(x, w, (((x.ndim - 1,), (0,)), ((), ())), precision=precision)
