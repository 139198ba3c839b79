"""A convolution as one matrix product, faster than XLA's on CPU where images and channels are few.

A few neighbouring outputs of a row are a linear map of the inputs that the kernel covers there; the
map is the same everywhere, a matrix with the kernel along its diagonals. Many of its elements are
zero, and still the product is quicker.
"""

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from bnn_jax.interpreter.linear_maps import linear_map


def banded_conv(
    lhs: Float[Array, "batch height width in"],
    rhs: Float[Array, "kernel_height kernel_width group_in out"],
    window_strides: Any,
    padding: Any,
    *,
    lhs_dilation: Any = None,
    rhs_dilation: Any = None,
    dimension_numbers: Any = None,
    feature_group_count: int = 1,
    precision: Any = None,
) -> Float[Array, "batch out_height out_width out"]:
    """`lax.conv_general_dilated` for NHWC images and HWIO kernels, as Flax's `nn.Conv` calls it.

    Only convolutions without strides, padding, dilation and groups are computed this way, and of
    images no smaller than the kernel; all others go to `lax`.
    """
    ones = (1, 1)
    numbers = lax.conv_dimension_numbers(lhs.shape, rhs.shape, dimension_numbers)
    nhwc = lax.conv_dimension_numbers(lhs.shape, rhs.shape, ("NHWC", "HWIO", "NHWC"))
    padded = padding != "VALID" and any(p != (0, 0) for p in map(tuple, padding))
    dilated = tuple(lhs_dilation or ones) != ones or tuple(rhs_dilation or ones) != ones
    if (
        lhs.ndim != 4
        or numbers != nhwc
        or padded
        or dilated
        or tuple(window_strides) != ones
        or feature_group_count != 1
        or any(n < k for n, k in zip(lhs.shape[1:3], rhs.shape[:2], strict=True))
    ):
        return lax.conv_general_dilated(
            lhs,
            rhs,
            window_strides,
            padding,
            lhs_dilation=lhs_dilation,
            rhs_dilation=rhs_dilation,
            dimension_numbers=dimension_numbers,
            feature_group_count=feature_group_count,
            precision=precision,
        )
    return _one_product(lhs, rhs, precision)


@linear_map("nhwi,jkio->nabo")
def _one_product(
    lhs: Float[Array, "batch height width in"],
    rhs: Float[Array, "kernel_height kernel_width in out"],
    precision: Any,
) -> Float[Array, "batch out_height out_width out"]:
    kernel_height, kernel_width, channels, features = rhs.shape
    batch, height, width, _ = lhs.shape
    out_height, out_width = height - kernel_height + 1, width - kernel_width + 1
    block = _block(out_width, kernel_width)
    covered = block + kernel_width - 1
    # bands[i, w, c, v, o]: what input (w, c) of row i of a block gives to its output (v, o).
    bands = sum(
        jnp.einsum("wv,ico->iwcvo", jnp.eye(covered, block, -j, rhs.dtype), rhs[:, j])
        for j in range(kernel_width)
    )
    matrix = jnp.reshape(bands, (kernel_height * covered * channels, block * features))
    rows = lhs.reshape(batch, height, width * channels)
    windows = [
        jnp.concatenate(
            [
                rows[:, i : i + out_height, first * channels : (first + covered) * channels]
                for i in range(kernel_height)
            ],
            axis=-1,
        )
        for first in range(0, out_width, block)
    ]
    # Two axes only: in the derivative for more, XLA copies the operands to move axes together.
    inputs = jnp.stack(windows, axis=2).reshape(-1, len(matrix))
    out = jnp.dot(inputs, matrix, precision=precision)
    return out.reshape(batch, out_height, out_width, features)


def _block(out_width: int, kernel_width: int) -> int:
    """The part of a row, of those that divide it evenly, that is nearest to the kernel's width."""
    parts = [n for n in range(1, out_width + 1) if out_width % n == 0]
    return min(parts, key=lambda n: abs(math.log(n / kernel_width)))
