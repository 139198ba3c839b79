"""Ordinary Flax networks for examples and configs. None of them knows it can be Bayesian."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
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
    dtype: Any = jnp.float32
    conv_general_dilated: Callable[..., Any] = lax.conv_general_dilated

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch height width channels"]
    ) -> Float[Array, "batch classes"]:
        options: dict[str, Any] = {
            "padding": "VALID",
            "use_bias": False,
            "dtype": self.dtype,
            "conv_general_dilated": self.conv_general_dilated,
        }
        # The same as relu before the pool, on a quarter of the elements.
        x = nn.relu(max_pool_2x2(nn.Conv(6, (5, 5), name="conv1", **options)(x)))
        x = nn.relu(max_pool_2x2(nn.Conv(16, (5, 5), name="conv2", **options)(x)))
        x = x.reshape((x.shape[0], -1))
        x = nn.relu(nn.Dense(120, name="fc1", dtype=self.dtype)(x))
        x = nn.relu(nn.Dense(84, name="fc2", dtype=self.dtype)(x))
        return nn.Dense(self.num_classes, name="fc3", dtype=self.dtype)(x)


class MLP(nn.Module):
    """Fully connected, relu; Blundell et al. 2015 have two hidden layers of 400, 800, 1200."""

    hidden: Sequence[int]
    num_outputs: int = 10
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "batch ..."]) -> Float[Array, "batch outputs"]:
        x = x.reshape((x.shape[0], -1))
        for i, units in enumerate(self.hidden):
            x = nn.relu(nn.Dense(units, name=f"fc{i + 1}", dtype=self.dtype)(x))
        return nn.Dense(self.num_outputs, name=f"fc{len(self.hidden) + 1}", dtype=self.dtype)(x)


def max_pool_2x2(
    x: Float[Array, "batch height width channels"],
) -> Float[Array, "batch half_height half_width channels"]:
    """`nn.max_pool(x, (2, 2), (2, 2))`, as a maximum over a reshaped array.

    Its gradient needs no select-and-scatter, which on CPU takes a third of LeNet-5's training step.
    """
    b, h, w, c = x.shape
    return x[:, : h // 2 * 2, : w // 2 * 2].reshape(b, h // 2, 2, w // 2, 2, c).max(axis=(2, 4))
