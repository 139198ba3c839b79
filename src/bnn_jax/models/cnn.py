"""A plain convolutional network for small images."""

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bnn_jax.models.networks import max_pool_2x2


class CNN(nn.Module):
    """Images (batch, height, width, channels) -> outputs (batch, outputs).

    For each entry of `channels` a 3x3 convolution, relu and a 2x2 max pool; then dense layers with
    relu and dropout, and a dense layer of outputs. Each pool halves the image, rounded down, so
    height and width must be at least 2 ** len(channels).

    Attributes:
        num_outputs: the size of the last layer.
        channels: those of each convolution.
        hidden: the units of each dense layer.
        dropout: the rate after each dense layer.
        dtype: of the computation.
    """

    num_outputs: int = 10
    channels: Sequence[int] = (32, 64)
    hidden: Sequence[int] = (128,)
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        smallest = 2 ** len(self.channels)
        if min(x.shape[1:3]) < smallest:
            raise ValueError(
                f"A cnn with {len(self.channels)} convolutions needs images of at least "
                f"{smallest}x{smallest}, got {x.shape[1]}x{x.shape[2]}: use fewer channels, or "
                "larger images."
            )
        for i, channels in enumerate(self.channels):
            conv = nn.Conv(channels, (3, 3), name=f"conv{i + 1}", dtype=self.dtype)
            x = nn.relu(max_pool_2x2(conv(x)))
        x = x.reshape((x.shape[0], -1))
        for i, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"fc{i + 1}", dtype=self.dtype)(x))
            x = nn.Dropout(self.dropout, deterministic=not train)(x)
        return nn.Dense(self.num_outputs, name="head", dtype=self.dtype)(x)
