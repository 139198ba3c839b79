"""ResNet-20 for 32x32 images."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


class ResNet20(nn.Module):
    """Images (batch, height, width, channels) -> logits (batch, classes).

    A 3x3 convolution, three stages of three blocks with 16, 32 and 64 channels, the mean over
    positions, a dense layer. Batch normalisation after each convolution; a 1x1 convolution where a
    shortcut changes shape.

    Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, section 4.2.
    """

    num_classes: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        options: dict[str, Any] = {"use_bias": False, "dtype": self.dtype}

        def norm(x: Array) -> Array:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)

        x = nn.relu(norm(nn.Conv(16, (3, 3), **options)(x)))
        for stage, channels in enumerate((16, 32, 64)):
            for block in range(3):
                stride = 2 if stage and not block else 1
                shortcut = x
                x = nn.relu(norm(nn.Conv(channels, (3, 3), stride, **options)(x)))
                x = norm(nn.Conv(channels, (3, 3), **options)(x))
                if shortcut.shape != x.shape:
                    shortcut = norm(nn.Conv(channels, (1, 1), stride, **options)(shortcut))
                x = nn.relu(x + shortcut)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x.mean(axis=(1, 2)))
