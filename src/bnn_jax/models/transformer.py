"""A small causal transformer over tokens."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int


class Transformer(nn.Module):
    """Tokens (batch, length) -> logits of the next token (batch, length, vocabulary).

    Layer normalization before each block, learned positions, gelu; hidden layers are four times as
    wide.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".
    """

    vocabulary: int = 256
    width: int = 256
    layers: int = 4
    heads: int = 4
    length: int = 128
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"]
    ) -> Float[Array, "batch length vocabulary"]:
        embed = partial(nn.Embed, dtype=self.dtype)
        dense = partial(nn.Dense, dtype=self.dtype)
        norm = partial(nn.LayerNorm, dtype=self.dtype)
        positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
        x = embed(self.vocabulary, self.width, name="token_embedding")(tokens)
        x = x + embed(self.length, self.width, name="position_embedding")(positions)
        mask = nn.make_causal_mask(tokens)
        for _ in range(self.layers):
            h = norm()(x)
            x = x + nn.MultiHeadDotProductAttention(self.heads, dtype=self.dtype)(h, h, mask=mask)
            h = norm()(x)
            h = nn.gelu(dense(4 * self.width)(h))
            x = x + dense(self.width)(h)
        return dense(self.vocabulary)(norm()(x))
