"""ResNet-20 for 32x32 images."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class ResNet20(nn.Module):
    """Images (batch, height, width, channels) -> logits (batch, classes).

    A 3x3 convolution, three stages of three blocks with 16, 32 and 64 channels, the mean over
    positions, a dense layer. Batch normalization follows each convolution. A shortcut that
    changes shape has a 1x1 convolution.

    `conv_general_dilated` computes the convolutions, as in `nn.Conv`; on CPU `stored_conv` is
    faster in training.

    Source: He, Zhang, Ren, Sun 2016, "Deep Residual Learning for Image Recognition",
    arXiv:1512.03385, section 4.2.
    """

    num_classes: int = 10
    dtype: DTypeLike = jnp.float32
    conv_general_dilated: Callable[..., Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"], *, train: bool = False
    ) -> Float[Array, "batch classes"]:
        conv = partial(
            nn.Conv,
            use_bias=False,
            dtype=self.dtype,
            conv_general_dilated=self.conv_general_dilated,
        )

        def norm(x: Array) -> Array:
            return nn.BatchNorm(use_running_average=not train, momentum=0.9, dtype=self.dtype)(x)

        x = nn.relu(norm(conv(16, (3, 3))(x)))
        for stage, channels in enumerate((16, 32, 64)):
            for block in range(3):
                stride = 2 if stage and not block else 1
                shortcut = x
                x = nn.relu(norm(conv(channels, (3, 3), stride)(x)))
                x = norm(conv(channels, (3, 3))(x))
                if shortcut.shape != x.shape:
                    shortcut = norm(conv(channels, (1, 1), stride)(shortcut))
                x = nn.relu(x + shortcut)
        return nn.Dense(self.num_classes, dtype=self.dtype)(x.mean(axis=(1, 2)))
