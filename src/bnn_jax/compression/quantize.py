"""A posterior in numbers of fewer bits: bfloat16, or 8 bits with a scale for each channel.

Random weights are compressed; deterministic leaves stay as they are. In 8 bits:

    mean    int8    value = code * scale, |code| <= 127
    rho     uint8   value = low + (code - 1) * step
    std     uint8   value = exp(low + (code - 1) * step); code 0 is a std of 0, a pruned weight

scale, low and step are of one channel, the last axis of a kernel; of a vector they are one number.
The error of a mean is at most half its channel's scale, max |mean| / 254. A zero stays zero.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax import gaussian
from bnn_jax._parameters import check_finite
from bnn_jax.gaussian import Gaussian, Leaf, MeanAndStd

FORMS = ("bfloat16", "int8")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=("mean", "spread"),
    meta_fields=("has_std", "dtype"),
)
@dataclasses.dataclass(frozen=True)
class Compressed:
    """A compressed `Gaussian` or `MeanAndStd`.

    Attributes:
        mean: an array in bfloat16, or `Codes`.
        spread: the rho or the std, likewise.
        has_std: whether it is the std.
        dtype: the name of the original dtype.
    """

    mean: Leaf
    spread: Leaf
    has_std: bool
    dtype: str


@partial(jax.tree_util.register_dataclass, data_fields=("codes", "scale", "low"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Codes:
    """Numbers in 8 bits.

    Attributes:
        codes: int8 or uint8.
        scale: float32, the difference of two consecutive values, for each channel.
        low: float32, the lowest value, for each channel; None if code 0 is the value 0.
    """

    codes: Leaf
    scale: Leaf
    low: Leaf = None


def compress(posterior: PyTree, *, to: str) -> PyTree:
    """Returns the tree with each random weight compressed.

    Args:
        posterior: a params tree with Gaussian leaves, a pruned one, or a `MeanField`.
        to: "bfloat16" or "int8".

    Raises:
        ValueError: another form, a tree without random weights, or weights that are not finite.
    """
    if to not in FORMS:
        raise ValueError(f"to must be one of {', '.join(FORMS)}; got {to!r}.")
    if not gaussian.random_leaves(posterior):
        raise ValueError("The posterior has no random weights to compress.")
    for path, leaf in gaussian.random_leaves(posterior).items():
        spread = leaf.std if isinstance(leaf, MeanAndStd) else leaf.rho
        check_finite(f"compress: {path}", mean=leaf.mean, spread=spread)

    def compressed(leaf: PyTree) -> Any:
        if not gaussian.is_gaussian(leaf):
            return leaf
        has_std = isinstance(leaf, MeanAndStd)
        spread = leaf.std if has_std else leaf.rho
        if to == "bfloat16":
            parts = leaf.mean.astype(jnp.bfloat16), spread.astype(jnp.bfloat16)
        else:
            parts = _signed(leaf.mean), _unsigned(spread, logarithmic=has_std)
        return Compressed(*parts, has_std=has_std, dtype=str(leaf.dtype))

    return jax.tree.map(compressed, posterior, is_leaf=gaussian.is_gaussian)


def decompress(compressed: PyTree) -> PyTree:
    """Returns the posterior: `Gaussian` and `MeanAndStd` leaves in their original dtype.

    Raises:
        ValueError: nothing of the tree is compressed.
    """
    leaves = jax.tree.leaves(compressed, is_leaf=lambda x: isinstance(x, Compressed))
    if not any(isinstance(leaf, Compressed) for leaf in leaves):
        raise ValueError("decompress takes what compress returned: nothing of it is compressed.")

    def leaf_of(leaf: PyTree) -> Any:
        if not isinstance(leaf, Compressed):
            return leaf
        mean = _value(leaf.mean, logarithmic=False).astype(leaf.dtype)
        spread = _value(leaf.spread, logarithmic=leaf.has_std).astype(leaf.dtype)
        return MeanAndStd(mean, spread) if leaf.has_std else Gaussian(mean, spread)

    return jax.tree.map(leaf_of, compressed, is_leaf=lambda x: isinstance(x, Compressed))


def _axes(x: Array) -> tuple[int, ...]:
    """Returns the axes that share a scale: all but the channels."""
    return tuple(range(x.ndim - 1)) if x.ndim > 1 else tuple(range(x.ndim))


def _signed(x: Array) -> Codes:
    wide = x.astype(jnp.float32)
    largest = jnp.max(jnp.abs(wide), axis=_axes(x), keepdims=True)
    scale = jnp.where(largest > 0, largest, 1.0) / 127.0
    return Codes(jnp.round(wide / scale).astype(jnp.int8), scale)


def _unsigned(x: Array, *, logarithmic: bool) -> Codes:
    wide = x.astype(jnp.float32)
    used = wide > 0 if logarithmic else jnp.ones_like(wide, bool)
    if logarithmic:
        wide = jnp.log(jnp.where(used, wide, 1.0))
    low = jnp.min(jnp.where(used, wide, jnp.inf), axis=_axes(x), keepdims=True)
    high = jnp.max(jnp.where(used, wide, -jnp.inf), axis=_axes(x), keepdims=True)
    low, high = (jnp.where(jnp.isfinite(end), end, 0.0) for end in (low, high))
    scale = jnp.where(high > low, high - low, 1.0) / 254.0
    codes = 1.0 + jnp.round((wide - low) / scale)
    return Codes(jnp.where(used, codes, 0.0).astype(jnp.uint8), scale, low)


def _value(x: Array | Codes, *, logarithmic: bool) -> Array:
    if not isinstance(x, Codes):
        return x
    codes = x.codes.astype(jnp.float32)
    if x.low is None:
        return codes * x.scale
    value = x.low + (codes - 1.0) * x.scale
    return jnp.where(codes > 0, jnp.exp(value), 0.0) if logarithmic else value
