"""Flax layers, each with a NumPy reference in float64."""

from typing import Any

import jax
import numpy as np
from distribution_helpers import Layer, data
from flax import linen as nn
from flax import nnx

from bnn_jax import to_bnn


def _linen(module: nn.Module, x: jax.Array, reference: Any, positions: bool = True) -> Layer:
    variables = module.init(jax.random.key(0), x)
    return Layer(
        lambda **options: to_bnn(module, variables, **options), x, reference, {}, positions
    )


def _dense(w: Any, x: Any) -> Any:
    return np.einsum("...i,io->...o", x, w["kernel"]) + w["bias"]


def _heads(w: Any, x: Any) -> Any:
    """Features to heads: the projections of query, key and value."""
    return np.einsum("nti,ihd->nthd", x, w["kernel"]) + w["bias"][None, None]


def _from_heads(w: Any, x: Any) -> Any:
    """Heads to features: the projection of attention's output."""
    return np.einsum("nthd,hdo->nto", x, w["kernel"]) + w["bias"]


def _conv_stride_2(w: Any, x: Any) -> Any:
    """3x3, SAME and stride 2, from the definition: for size 4 the padding is 0 before, 1 after."""
    padded = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
    out = np.zeros((len(x), 2, 2, w["kernel"].shape[-1]))
    for r in range(2):
        for c in range(2):
            patch = padded[:, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3]
            out[:, r, c] = np.einsum("nhwi,hwio->no", patch, w["kernel"]) + w["bias"]
    return out


def _conv_groups_dilated(w: Any, x: Any) -> Any:
    """Two taps that are two apart; the first half of the features makes the first half of y."""
    kernel = w["kernel"]  # (2 taps, 2 features of a group, 4 outputs)
    positions = x.shape[1] - 2
    out = np.zeros((len(x), positions, 4))
    for t in range(positions):
        for half in (slice(0, 2), slice(2, 4)):
            taps = x[:, [t, t + 2], half]
            out[:, t, half] = np.einsum("nki,kio->no", taps, kernel[:, :, half])
    return out + w["bias"]


def _conv_transpose(w: Any, x: Any) -> Any:
    """Stride 2, kernel 2, VALID: each position writes two outputs; the kernel is not flipped."""
    out = np.einsum("nti,kio->ntko", x, w["kernel"][::-1])
    return out.reshape(len(x), 2 * x.shape[1], -1) + w["bias"]


def _attention(name: str, x: jax.Array, reference: Any) -> Layer:
    """A projection of nnx.MultiHeadAttention: 2 heads of 2, 3 features."""
    module = nnx.MultiHeadAttention(
        num_heads=2, in_features=3, qkv_features=4, out_features=3, decode=False, rngs=nnx.Rngs(0)
    )
    return Layer(
        lambda **options: to_bnn(module, **options),
        x,
        reference,
        {"method": lambda self, inputs: getattr(self, name)(inputs)},
        prefix=f"{name}/",
    )


LAYERS = {
    "dense": _linen(nn.Dense(3), data(1, 3, 4), _dense, positions=False),
    "dense over time": _linen(nn.Dense(3), data(2, 2, 4, 3), _dense),
    "conv, stride 2": _linen(nn.Conv(3, (3, 3), strides=2), data(3, 2, 4, 4, 2), _conv_stride_2),
    "conv, groups, dilated": _linen(
        nn.Conv(4, (2,), kernel_dilation=2, feature_group_count=2, padding="VALID"),
        data(4, 2, 6, 4),
        _conv_groups_dilated,
    ),
    "conv transpose": _linen(
        nn.ConvTranspose(2, (2,), strides=(2,), padding="VALID"), data(5, 2, 3, 2), _conv_transpose
    ),
    "linen query": _linen(nn.DenseGeneral((2, 2)), data(6, 2, 4, 3), _heads),
    "linen out": _linen(nn.DenseGeneral(3, axis=(-2, -1)), data(7, 2, 4, 2, 2), _from_heads),
    "nnx query": _attention("query", data(8, 2, 4, 3), _heads),
    "nnx value": _attention("value", data(9, 2, 4, 3), _heads),
    "nnx out": _attention("out", data(10, 2, 4, 2, 2), _from_heads),
}
