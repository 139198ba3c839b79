"""A small causal transformer over tokens."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int


class Transformer(nn.Module):
    """Tokens (batch, length) -> logits of the next token (batch, length, vocabulary).

    Layer normalisation before each part, learned positions, gelu; the hidden layers are four times
    as wide.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """

    vocabulary: int = 256
    width: int = 256
    layers: int = 4
    heads: int = 4
    length: int = 128
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch length vocabulary"]:
        options: dict[str, Any] = {"dtype": self.dtype}
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        x = nn.Embed(self.vocabulary, self.width, name="token_embedding", **options)(tokens)
        x = x + nn.Embed(self.length, self.width, name="position_embedding", **options)(positions)
        mask = nn.make_causal_mask(tokens)
        for _ in range(self.layers):
            h = nn.LayerNorm(**options)(x)
            x = x + nn.MultiHeadDotProductAttention(self.heads, **options)(h, h, mask=mask)
            h = nn.LayerNorm(**options)(x)
            h = nn.gelu(nn.Dense(4 * self.width, **options)(h))
            x = x + nn.Dense(self.width, **options)(h)
        return nn.Dense(self.vocabulary, **options)(nn.LayerNorm(**options)(x))
