"""Ordinary NNX networks for sequences: attention, recurrence, language models."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class EncoderDecoder(nnx.Module):
    """A transformer with cross attention, two inputs and a padding mask as keyword."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        attention = partial(
            nnx.MultiHeadAttention, num_heads=2, in_features=8, decode=False, rngs=rngs
        )
        self.source_embed, self.target_embed = (nnx.Embed(9, 8, rngs=rngs) for _ in range(2))
        self.encode, self.decode = (attention(use_bias=False) for _ in range(2))
        self.cross, self.norm = attention(), nnx.LayerNorm(8, rngs=rngs)
        self.head = nnx.Linear(8, 9, rngs=rngs)

    def __call__(self, source: Any, target: Any, *, mask: Any = None) -> Any:
        x = self.source_embed(source)
        memory = x + self.encode(x, mask=mask)
        y = self.target_embed(target)
        y = y + self.decode(y, mask=nnx.make_causal_mask(target))
        y = y + self.cross(self.norm(y), memory, mask=mask)
        return self.head(y)


class Gru(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.rnn = nnx.RNN(nnx.GRUCell(3, 5, rngs=rngs), rngs=rngs)
        self.head = nnx.Linear(5, 2, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.head(self.rnn(x)[:, -1])


class BidirectionalRnn(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        forward = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs), rngs=rngs)
        backward = nnx.RNN(nnx.SimpleCell(3, 4, rngs=rngs), rngs=rngs)
        self.both = nnx.Bidirectional(forward, backward, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.both(x)


class TiedGpt(nnx.Module):
    """A causal language model whose logits use the embedding table again."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.embed = nnx.Embed(11, 8, rngs=rngs)
        self.positions = nnx.Param(0.1 * jax.random.normal(rngs.params(), (6, 8)))
        self.attention = nnx.MultiHeadAttention(2, 8, use_bias=False, decode=False, rngs=rngs)
        self.norm1, self.norm2 = (nnx.LayerNorm(8, rngs=rngs) for _ in range(2))

    def __call__(self, ids: Any) -> Any:
        x = self.embed(ids) + self.positions[: ids.shape[1]][None]
        x = x + self.attention(self.norm1(x), mask=nnx.make_causal_mask(ids))
        return self.embed.attend(self.norm2(x))


def rotate(x: Any) -> Any:
    """Rotary position embedding of (batch, length, heads, dim)."""
    half = x.shape[-1] // 2
    frequency = 100.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = jnp.arange(x.shape[1], dtype=jnp.float32)[:, None] * frequency[None]
    sin, cos = (f(angle)[None, :, None, :] for f in (jnp.sin, jnp.cos))
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


class GemmaBlock(nnx.Module):
    """RMS norms, rotary attention with one key and value head, gated MLP; Einsum layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.pre_attention, self.pre_mlp = (nnx.RMSNorm(6, rngs=rngs) for _ in range(2))
        self.q = nnx.Einsum("btd,ndh->btnh", (2, 6, 4), rngs=rngs)
        self.kv = nnx.Einsum("bsd,cdh->cbsh", (2, 6, 4), rngs=rngs)
        self.o = nnx.Einsum("btnh,nhd->btd", (2, 4, 6), rngs=rngs)
        linear = partial(nnx.Linear, use_bias=False, rngs=rngs)
        self.gate_proj, self.up_proj, self.down_proj = linear(6, 9), linear(6, 9), linear(9, 6)

    def __call__(self, x: Any) -> Any:
        y = self.pre_attention(x)
        k, v = self.kv(y)
        q, k = rotate(self.q(y)), rotate(k[:, :, None])[:, :, 0]
        logits = jnp.einsum("btnh,bsh->bnts", q, k) * 0.5
        causal = jnp.tril(jnp.ones(logits.shape[-2:], bool))[None, None]
        weights = nnx.softmax(jnp.where(causal, logits, -1e9))
        x = x + self.o(jnp.einsum("bnts,bsh->btnh", weights, v))
        y = self.pre_mlp(x)
        return x + self.down_proj(nnx.gelu(self.gate_proj(y)) * self.up_proj(y))


class DecodingAttention(nnx.Module):
    """One step of decoding with a cache of keys and values, and normalised queries and keys."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(2, 8, normalize_qk=True, decode=True, rngs=rngs)
        self.attention.init_cache((3, 5, 8))
        self.out = nnx.Linear(8, 4, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.out(self.attention(x))
