"""The vision transformer."""

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from bnn_jax.models.encoder import Encoder


class ViT(nn.Module):
    """Images (batch, height, width, channels) -> outputs (batch, outputs).

    The image is cut into patches, each mapped linearly to a vector; a learned class vector is put
    before them and learned positions are added; an encoder with normalization before each block;
    the class vector's output goes through a dense layer.

    Source: Dosovitskiy et al. 2021, "An Image is Worth 16x16 Words", arXiv:2010.11929.

    Attributes:
        num_outputs: the size of the last layer.
        patch_size: the height and width of a patch, which divide those of the image.
        width: the size of the vectors, a multiple of `heads`.
        layers: the number of blocks.
        heads: of the attention.
        dropout: the rate within the blocks, and after the positions.
        dtype: of the computation.
    """

    num_outputs: int = 10
    patch_size: int = 4
    width: int = 192
    layers: int = 6
    heads: int = 3
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        size = self.patch_size
        if x.shape[1] % size or x.shape[2] % size:
            raise ValueError(
                f"patch_size must divide the height and width of the images, got {size} for "
                f"{x.shape[1]}x{x.shape[2]}."
            )
        patches = nn.Conv(self.width, (size, size), size, dtype=self.dtype, name="patches")(x)
        patches = patches.reshape((len(x), -1, self.width))
        first = self.param("class", nn.initializers.zeros, (1, 1, self.width))
        first = jnp.broadcast_to(first.astype(patches.dtype), (len(x), 1, self.width))
        tokens = jnp.concatenate([first, patches], axis=1)
        shape = (1, *tokens.shape[1:])
        positions = self.param("positions", nn.initializers.normal(0.02), shape)
        tokens = tokens + jnp.broadcast_to(positions.astype(tokens.dtype), tokens.shape)
        tokens = nn.Dropout(self.dropout, deterministic=not train)(tokens)
        encoder = Encoder(self.layers, self.heads, self.dropout, self.dtype, name="encoder")
        encoded = encoder(tokens, train=train)
        return nn.Dense(self.num_outputs, dtype=self.dtype, name="head")(encoded[:, 0])
