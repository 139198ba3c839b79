"""The encoder of transformers: blocks of attention and two dense layers, normalized before each."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float


class Encoder(nn.Module):
    """Positions (batch, length, width) -> the same, after blocks and a layer normalization.

    Attributes:
        layers: the number of blocks.
        heads: of the attention; they divide the width.
        dropout: the rate after the attention and after the dense layers of each block.
        dtype: of the computation.
    """

    layers: int
    heads: int
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "batch length width"],
        mask: Bool[Array, "batch 1 1 length"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "batch length width"]:
        width = x.shape[-1]
        if width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got width={width} and heads={self.heads}."
            )

        def norm(x: Array) -> Array:
            return nn.LayerNorm(dtype=self.dtype)(x)

        def drop(x: Array) -> Array:
            return nn.Dropout(self.dropout, deterministic=not train)(x)

        for _ in range(self.layers):
            h = norm(x)
            h = nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype)(h, h, mask=mask)
            x = x + drop(h)
            h = nn.gelu(nn.Dense(4 * width, dtype=self.dtype)(norm(x)))
            x = x + drop(nn.Dense(width, dtype=self.dtype)(h))
        return norm(x)
