"""Bayesian layers as pure functions (key, params, x) -> y.

The key may be a `noise.Draw`. params is a dict {"kernel": ..., "bias": ...}. Each value is a
`Gaussian`, or an array, which is not random; the bias is optional. The layouts are those of Flax:
x (batch, ..., channels), dense kernel (in, out), convolution kernel (*spatial, in / groups, out).
Axis 0 of x is the example axis.

    y = dense(key, params, x, estimator="flipout")
    y = conv(key, params, x, estimator="reparam", strides=2, padding="SAME")

`dense_reparam`, `conv_flipout` and so on are these functions with a fixed estimator. See
`estimators` for the three estimators.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax.interpreter import random_array
from bnn_jax.interpreter.estimators import check_estimator
from bnn_jax.noise import Draw, PRNGKey

Params = Mapping[str, PyTree]
Arrays = Mapping[str, Array]
Padding = str | int | Sequence[tuple[int, int]]

PADDINGS = ("SAME", "VALID")


def dense(
    key: PRNGKey | Draw,
    params: Params,
    x: Float[Array, "batch *positions channels_in"],
    *,
    estimator: str,
    approximate: bool = False,
) -> Float[Array, "batch *positions channels_out"]:
    """Returns x @ kernel + bias.

    Args:
        estimator: "reparam", "local_reparam" (exact only for x of rank 2) or "flipout".
        approximate: allow local_reparam for x of higher rank.

    Raises:
        ValueError: the estimator is unknown, the shapes do not fit, or local_reparam is not exact.
    """
    _check_kernel(params, x, ndim=2, channels=lambda kernel: kernel.shape[0])

    def forward(p: Arrays, data: Array) -> Array:
        return _plus_bias(p, data @ p["kernel"].astype(data.dtype))

    return _random(forward, key, params, x, estimator, approximate)


def dense_transpose(
    key: PRNGKey | Draw,
    params: Params,
    x: Float[Array, "batch *positions channels_out"],
    *,
    estimator: str,
    approximate: bool = False,
) -> Float[Array, "batch *positions channels_in"]:
    """Returns x @ kernel.T + bias: the transpose of `dense`, with its kernel (in, out)."""
    _check_kernel(params, x, ndim=2, channels=lambda kernel: kernel.shape[1])

    def forward(p: Arrays, data: Array) -> Array:
        return _plus_bias(p, data @ p["kernel"].astype(data.dtype).T)

    return _random(forward, key, params, x, estimator, approximate)


def conv(
    key: PRNGKey | Draw,
    params: Params,
    x: Float[Array, "batch *spatial channels_in"],
    *,
    estimator: str,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    approximate: bool = False,
) -> Float[Array, "batch *spatial_out channels_out"]:
    """Returns a convolution in one to three dimensions.

    The kernel has the shape (*spatial, in / groups, out).

    Args:
        estimator: "reparam" or "flipout". "local_reparam" requires approximate=True, because the
            output positions share the weights.
        strides, dilation: an int, or one per spatial dimension.
        padding: "SAME", "VALID", an int for all sides, or pairs (low, high).
        groups: the number of channel groups. It must divide the channels of x and of y.
        approximate: allow local_reparam.

    Raises:
        ValueError: the estimator is unknown, the shapes do not fit, or local_reparam is not exact.
    """
    n = x.ndim - 2
    _check_kernel(params, x, ndim=max(3, x.ndim), channels=lambda kernel: kernel.shape[-2] * groups)
    if params["kernel"].shape[-1] % groups:
        raise ValueError(
            f"groups={groups} does not divide the {params['kernel'].shape[-1]} output channels of "
            f"the kernel of shape {params['kernel'].shape}."
        )

    def forward(p: Arrays, data: Array) -> Array:
        y = lax.conv_general_dilated(
            data,
            p["kernel"].astype(data.dtype),
            window_strides=_per_dimension(strides, n, "strides"),
            padding=_padding(padding, n),
            rhs_dilation=_per_dimension(dilation, n, "dilation"),
            dimension_numbers=_channels_last(x.ndim),
            feature_group_count=groups,
        )
        return _plus_bias(p, y)

    return _random(forward, key, params, x, estimator, approximate)


def conv_transpose(
    key: PRNGKey | Draw,
    params: Params,
    x: Float[Array, "batch *spatial channels_in"],
    *,
    estimator: str,
    strides: int | Sequence[int] = 1,
    padding: Padding = "SAME",
    dilation: int | Sequence[int] = 1,
    transpose_kernel: bool = False,
    approximate: bool = False,
) -> Float[Array, "batch *spatial_out channels_out"]:
    """Returns a transposed convolution, with the arguments of `jax.lax.conv_transpose`.

    Padding given as an int or as pairs is applied to the input after its dilation by the strides.

    The kernel has the shape (*spatial, in, out). With transpose_kernel=True, it is the kernel
    (*spatial, out, in) of the convolution whose gradient this function computes. The estimators and
    the errors are those of `conv`.
    """
    n = x.ndim - 2
    axis = -1 if transpose_kernel else -2
    _check_kernel(params, x, ndim=max(3, x.ndim), channels=lambda kernel: kernel.shape[axis])

    def forward(p: Arrays, data: Array) -> Array:
        y = lax.conv_transpose(
            data,
            p["kernel"].astype(data.dtype),
            strides=_per_dimension(strides, n, "strides"),
            padding=_padding(padding, n),
            rhs_dilation=_per_dimension(dilation, n, "dilation"),
            dimension_numbers=_channels_last(x.ndim),
            transpose_kernel=transpose_kernel,
        )
        return _plus_bias(p, y)

    return _random(forward, key, params, x, estimator, approximate)


dense_reparam = partial(dense, estimator="reparam")
dense_local_reparam = partial(dense, estimator="local_reparam")
dense_flipout = partial(dense, estimator="flipout")
conv_reparam = partial(conv, estimator="reparam")
conv_local_reparam = partial(conv, estimator="local_reparam")
conv_flipout = partial(conv, estimator="flipout")
conv_transpose_reparam = partial(conv_transpose, estimator="reparam")
conv_transpose_local_reparam = partial(conv_transpose, estimator="local_reparam")
conv_transpose_flipout = partial(conv_transpose, estimator="flipout")


def _random(
    forward: Callable[[Arrays, Array], Array],
    key: PRNGKey | Draw,
    params: Params,
    x: Array,
    estimator: str,
    approximate: bool,
) -> Array:
    check_estimator(estimator)
    return random_array.apply(
        forward,
        key,
        dict(params),
        x,
        estimator=estimator,
        strict=True,
        approximate=approximate,
    )


def _plus_bias(params: Arrays, y: Array) -> Array:
    bias = params.get("bias")
    return y if bias is None else y + jnp.broadcast_to(bias.astype(y.dtype), y.shape)


def _check_kernel(params: Params, x: Array, *, ndim: int, channels: Callable[[Array], int]) -> None:
    unknown = sorted(set(params) - {"kernel", "bias"})
    if "kernel" not in params or unknown:
        raise ValueError(
            f"params must have the key 'kernel', and may have 'bias'; got {sorted(params)}."
        )
    kernel = params["kernel"]
    if kernel.ndim != ndim or x.ndim < 2 or x.ndim > 5:
        raise ValueError(
            f"The kernel has the shape {kernel.shape} and x {x.shape}: they do not fit. dense "
            "takes a kernel (in, out); conv takes x (batch, *spatial, channels) and a kernel "
            "(*spatial, in / groups, out) of the same rank."
        )
    if channels(kernel) != x.shape[-1]:
        raise ValueError(
            f"x has {x.shape[-1]} channels, but the kernel of shape {kernel.shape} takes "
            f"{channels(kernel)}."
        )


def _per_dimension(value: int | Sequence[int], n: int, name: str) -> tuple[int, ...]:
    values = (value,) * n if isinstance(value, int) else tuple(value)
    if len(values) != n or any(v < 1 for v in values):
        raise ValueError(
            f"{name} must be one integer of at least 1, or {n} for {n} dimensions; got {value!r}."
        )
    return values


def _padding(padding: Padding, n: int) -> str | Sequence[tuple[int, int]]:
    if isinstance(padding, int):
        return [(padding, padding)] * n
    known = padding.upper() in PADDINGS if isinstance(padding, str) else len(padding) == n
    if not known:
        raise ValueError(
            "padding must be "
            f"one of {', '.join(PADDINGS)}, an int, or {n} pair(s) (low, high); got "
            f"{padding!r}."
        )
    return padding.upper() if isinstance(padding, str) else padding


def _channels_last(ndim: int) -> tuple[str, str, str]:
    spatial = "DHW"[-(ndim - 2) :]
    return (f"N{spatial}C", f"{spatial}IO", f"N{spatial}C")
