"""Wide residual networks for 32x32 images."""

from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class WideResNet(nn.Module):
    """Images (batch, height, width, channels) -> outputs (batch, outputs).

    A 3x3 convolution of 16 channels; three stages of (depth - 4) / 6 blocks with 16, 32 and 64
    times `width` channels, the second and third at half the size; batch normalization, relu, the
    mean over positions, a dense layer. A block is twice batch normalization, relu and a 3x3
    convolution, with dropout between the two. A shortcut that changes shape has a 1x1 convolution.

    Source: Zagoruyko, Komodakis 2016, "Wide Residual Networks", arXiv:1605.07146.

    Attributes:
        num_outputs: the size of the last layer.
        depth: the number of convolutions on the longest path, 6 n + 4.
        width: the factor of the channels; WRN-28-10 has depth 28 and width 10.
        dropout: the rate within a block.
        dtype: of the computation.
    """

    num_outputs: int = 10
    depth: int = 28
    width: int = 10
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch outputs"]:
        if self.depth < 10 or self.depth % 6 != 4:
            raise ValueError(
                f"depth of a wide_resnet must be 6 n + 4, such as 16, 22 or 28, got {self.depth}."
            )
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)

        def activation(x: Array) -> Array:
            norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)
            return nn.relu(norm(x))

        x = conv(16, (3, 3))(x)
        for stage, base in enumerate((16, 32, 64)):
            for block in range((self.depth - 4) // 6):
                channels = base * self.width
                stride = 2 if stage and not block else 1
                active = activation(x)
                same = x.shape[-1] == channels and stride == 1
                shortcut = x if same else conv(channels, (1, 1), stride)(active)
                x = activation(conv(channels, (3, 3), stride)(active))
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
                x = conv(channels, (3, 3))(x) + shortcut
        return nn.Dense(self.num_outputs, dtype=self.dtype)(activation(x).mean(axis=(1, 2)))
