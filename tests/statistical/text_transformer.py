"""A text transformer in ordinary Flax code, and the memory of a training step of it.

python text_transformer.py ESTIMATOR     # trains a few steps, prints one line of JSON
"""

import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from bnn_jax import to_bnn, train
from bnn_jax.transforms import BayesianModel


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each behind a layer norm."""

    features: int
    heads: int

    @nn.compact
    def __call__(self, x: Any) -> Any:
        mask = nn.make_causal_mask(x[..., 0])
        attention = nn.MultiHeadDotProductAttention(num_heads=self.heads, name="attention")
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        hidden = nn.gelu(nn.Dense(4 * self.features)(nn.LayerNorm()(x)))
        return x + nn.Dense(self.features)(hidden)


class TextTransformer(nn.Module):
    """Tokens to logits of the next token; the embedding table is also the output layer's."""

    vocabulary: int
    features: int
    heads: int
    blocks: int
    length: int

    @nn.compact
    def __call__(self, tokens: Any) -> Any:
        table = nn.Embed(self.vocabulary, self.features, name="tokens")
        positions = nn.Embed(self.length, self.features, name="positions")
        x = table(tokens) + positions(jnp.arange(tokens.shape[1]))[None]
        for _ in range(self.blocks):
            x = Block(self.features, self.heads)(x)
        return table.attend(nn.LayerNorm()(x))


# 10.1 million parameters, 2.7 million of them in the embeddings.
LARGE = {"vocabulary": 8192, "features": 320, "heads": 5, "blocks": 6, "length": 128}
SMALL = {"vocabulary": 512, "features": 64, "heads": 2, "blocks": 1, "length": 64}


def next_token_loss(logits: Any, tokens: Any) -> Any:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits[:, :-1], tokens[:, 1:])
    return losses.mean()


def batch_of(sizes: dict[str, int], examples: int) -> tuple[Any, Any]:
    """Inputs and labels: the same tokens, one position apart in the loss."""
    shape = (examples, sizes["length"])
    tokens = jax.random.randint(jax.random.key(7), shape, 0, sizes["vocabulary"])
    return tokens, tokens


def weights(sizes: dict[str, int]) -> Any:
    """The network's variables before any training."""
    tokens, _ = batch_of(sizes, examples=1)
    return jax.jit(TextTransformer(**sizes).init)(jax.random.key(0), tokens)


def converted(
    sizes: dict[str, int], variables: Any, estimator: str, where: str = "layers"
) -> BayesianModel:
    return to_bnn(TextTransformer(**sizes), variables, estimator=estimator, where=where)


def start(model: BayesianModel) -> tuple[Any, Any]:
    """The first state and the training step."""
    optimizer = optax.adam(1e-3)
    step = jax.jit(
        train.build_step(
            model.forward(), next_token_loss, optimizer, model.prior, num_data=1_000_000
        ),
        donate_argnums=0,
    )
    return train.init(model.posterior, optimizer), step


def compiled_memory(step: Any, state: Any, batch: Any) -> dict[str, int]:
    """Bytes that XLA plans for one step: its arguments, its results and all in between."""
    plan = step.lower(state, jax.random.key(1), batch).compile().memory_analysis()
    parts = {
        "arguments": plan.argument_size_in_bytes,
        "results": plan.output_size_in_bytes - plan.alias_size_in_bytes,
        "temporary": plan.temp_size_in_bytes,
    }
    return {**parts, "peak": sum(parts.values())}


def peak_memory() -> int:
    """The most memory that this process has held, in bytes (Linux).

    Not getrusage's ru_maxrss: a child process inherits its parent's.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main(estimator: str, examples: int, steps: int) -> None:
    before = peak_memory()
    batch = batch_of(LARGE, examples)
    state, step = start(converted(LARGE, weights(LARGE), estimator))
    nll = []
    for _ in range(steps):
        state, info = step(state, jax.random.key(1), batch)
        nll.append(float(info.nll))
    after = peak_memory()
    print(json.dumps({"before": before, "peak": after, "nll": nll}))


if __name__ == "__main__":
    main(sys.argv[1], examples=8, steps=5)
