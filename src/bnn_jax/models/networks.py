"""LeNet-5 and multilayer perceptrons."""

from collections.abc import Callable, Sequence
from functools import partial

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Float


class LeNet5(nn.Module):
    """LeNet-5 as in MindSpore's tests: images (batch, 32, 32, channels) -> logits (batch, classes).

    Two 5x5 convolutions without bias (6 and 16 channels, no padding), each followed by a 2x2 max
    pool and relu; dense layers of 120 and 84 units with relu; a dense layer of logits.

    `conv_general_dilated` computes the convolutions, as in `nn.Conv`; on CPU `banded_conv` is
    faster.

    Source: LeCun, Bottou, Bengio, Haffner 1998, "Gradient-based learning applied to document
    recognition", in MindSpore's form.
    """

    num_classes: int = 10
    dtype: DTypeLike = jnp.float32
    conv_general_dilated: Callable[..., Array] = lax.conv_general_dilated

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        conv = partial(
            nn.Conv,
            kernel_size=(5, 5),
            padding="VALID",
            use_bias=False,
            dtype=self.dtype,
            conv_general_dilated=self.conv_general_dilated,
        )
        # Equal to relu before the pool, on a quarter of the elements.
        x = nn.relu(max_pool_2x2(conv(6, name="conv1")(x)))
        x = nn.relu(max_pool_2x2(conv(16, name="conv2")(x)))
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(120, name="fc1", dtype=self.dtype)(x))
        x = nn.relu(nn.Dense(84, name="fc2", dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, name="fc3", dtype=self.dtype)(x)


class MLP(nn.Module):
    """A multilayer perceptron with relu.

    Blundell et al. 2015, arXiv:1505.05424, use two hidden layers of 400, 800 or 1200 units.
    """

    hidden: Sequence[int]
    num_outputs: int = 10
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        x = x.reshape((x.shape[0], -1))
        for i, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"fc{i + 1}", dtype=self.dtype)(x))
        return nn.Dense(self.num_outputs, name=f"fc{len(self.hidden) + 1}", dtype=self.dtype)(x)


def max_pool_2x2(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """Returns `nn.max_pool(x, (2, 2), (2, 2))`, computed as a maximum over a reshaped array.

    Its gradient avoids select-and-scatter, which takes a third of LeNet-5's training step on CPU.
    """
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
