"""Networks for sequences: a transformer over tokens, and an LSTM over tokens or vectors."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from bnn_jax.models.encoder import Encoder


class TextTransformer(nn.Module):
    """Tokens (batch, length) -> outputs (batch, outputs).

    Embeddings and learned positions; an encoder with normalization before each block, in which
    every position sees all others; the mean over positions; a dense layer.

    Source: Vaswani et al. 2017, arXiv:1706.03762, normalized before each block as in Xiong et al.
    2020, arXiv:2002.04745.

    Attributes:
        vocabulary: the number of tokens; those of the data are below it.
        num_outputs: the size of the last layer.
        width: the size of the embeddings, a multiple of `heads`.
        layers: the number of blocks.
        heads: of the attention.
        dropout: the rate within the blocks, and after the positions.
        padding_token: the token that fills up short texts, which is not attended to; None if all
            texts have one length.
        dtype: of the computation.
    """

    vocabulary: int
    num_outputs: int = 2
    width: int = 128
    layers: int = 2
    heads: int = 4
    dropout: float = 0.0
    padding_token: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "batch length"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="embedding")(tokens)
        positions = self.param("positions", nn.initializers.normal(0.02), (1, *x.shape[1:]))
        x = x + jnp.broadcast_to(positions.astype(x.dtype), x.shape)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)
        encoder = Encoder(self.layers, self.heads, self.dropout, self.dtype, name="encoder")
        if self.padding_token is None:
            pooled = encoder(x, train=train).mean(axis=1)
        else:
            words = tokens != self.padding_token
            x = encoder(x, words[:, None, None, :], train=train)
            number = jnp.maximum(words.sum(axis=1, keepdims=True), 1).astype(x.dtype)
            pooled = jnp.where(words[..., None], x, jnp.zeros_like(x)).sum(axis=1) / number
        return nn.Dense(self.num_outputs, dtype=self.dtype, name="head")(pooled)


class LSTM(nn.Module):
    """Tokens (batch, length) or vectors (batch, length, features) -> outputs (batch, outputs).

    Tokens are embedded; layers of LSTM cells, each over the outputs of the one before; the last
    layer's state after the last position goes through dropout and a dense layer.

    Source: Hochreiter, Schmidhuber 1997, "Long Short-Term Memory".

    Attributes:
        num_outputs: the size of the last layer.
        vocabulary: the number of tokens; None for vectors.
        width: the size of the embeddings and of the cells' state.
        layers: the number of layers.
        dropout: the rate between the layers and before the last one.
        padding_token: the token that fills up short texts at their end, which is not read; None if
            all have one length.
        dtype: of the computation.
    """

    num_outputs: int = 2
    vocabulary: int | None = None
    width: int = 128
    layers: int = 1
    dropout: float = 0.0
    padding_token: int | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Array, *, train: bool = False) -> Float[Array, "batch outputs"]:
        is_tokens = jnp.issubdtype(x.dtype, jnp.integer)
        if is_tokens != (self.vocabulary is not None) or x.ndim != 3 - is_tokens:
            raise ValueError(
                "An lstm takes tokens, integers (batch, length), with vocabulary, or vectors "
                f"(batch, length, features) without; got {x.dtype} {tuple(x.shape)} and "
                f"vocabulary={self.vocabulary}."
            )
        lengths = None
        if self.vocabulary is not None:
            if self.padding_token is not None:
                lengths = jnp.maximum((x != self.padding_token).sum(axis=1), 1)
            x = nn.Embed(self.vocabulary, self.width, dtype=self.dtype, name="embedding")(x)
        x = x.astype(self.dtype)
        last = x[:, 0]
        for i in range(self.layers):
            cell = nn.OptimizedLSTMCell(self.width, dtype=self.dtype, name=f"lstm{i + 1}")
            (_, last), x = nn.RNN(cell, return_carry=True)(x, seq_lengths=lengths)
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        last = nn.Dropout(self.dropout, deterministic=not train)(last)
        return nn.Dense(self.num_outputs, dtype=self.dtype, name="head")(last)
