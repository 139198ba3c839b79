"""The networks of the benchmark, from a small dense network to a transformer.

| | network | batch |
| --- | --- | --- |
| W1 | MLP 784-400-400-10 | 128 |
| W2 | MLP 784-1200-1200-10 (Blundell et al. 2015) | 128 |
| W3 | LeNet-5, 32x32 | 64 |
| W4 | ResNet-20, 32x32x3 | 64 |
| W5 | transformer, width 256, 4 layers, sequence 128 | 16 |
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import DTypeLike

from bnn_jax.models import MLP, LeNet5, banded_conv, stored_conv
from bnn_jax.models.resnet import ResNet20
from bnn_jax.models.transformer import Transformer
from bnn_jax.noise import PRNGKey


@dataclasses.dataclass(frozen=True)
class Workload:
    """A network, its batch size, and the estimators to time.

    Attributes:
        title: a description.
        network: dtype -> the Flax module.
        batch: examples per step.
        inputs: (key, examples) -> inputs.
        classes: the number of classes; labels have the shape of the logits without the last axis.
        estimators: name -> the argument `estimator` of `to_bnn`.
        train_options: keyword arguments of the network in training.
        faster: the name and the constructor of a faster form on CPU, or None.
    """

    title: str
    network: Callable[[DTypeLike], nn.Module]
    batch: int
    inputs: Callable[[PRNGKey, int], Array]
    classes: int
    estimators: Mapping[str, str | Mapping[str, str]]
    train_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    faster: tuple[str, Callable[[DTypeLike], nn.Module]] | None = None

    def in_fast_form(self) -> "Workload":
        """Returns the workload with the faster form of its network, if there is one."""
        if self.faster is None or jax.default_backend() != "cpu":
            return self
        return dataclasses.replace(self, network=self.faster[1], faster=None)


def _images(*shape: int) -> Callable[[PRNGKey, int], Array]:
    return lambda key, examples: jax.random.normal(key, (examples, *shape))


def _tokens(key: PRNGKey, examples: int) -> Array:
    return jax.random.randint(key, (examples, 128), 0, 256)


_DENSE = {"reparam": "reparam", "local_reparam": "local_reparam", "flipout": "flipout"}

WORKLOADS: dict[str, Workload] = {
    "W1": Workload(
        "MLP 784-400-400-10",
        lambda dtype: MLP((400, 400), dtype=dtype),
        128,
        _images(784),
        10,
        _DENSE,
    ),
    "W2": Workload(
        "MLP 784-1200-1200-10",
        lambda dtype: MLP((1200, 1200), dtype=dtype),
        128,
        _images(784),
        10,
        _DENSE,
    ),
    "W3": Workload(
        "LeNet-5",
        lambda dtype: LeNet5(dtype=dtype),
        64,
        _images(32, 32, 1),
        10,
        {
            "reparam": "reparam",
            "local_reparam": {"conv*": "reparam", "*": "local_reparam"},
            "flipout": "flipout",
        },
        faster=(
            "banded_conv",
            lambda dtype: LeNet5(dtype=dtype, conv_general_dilated=banded_conv),
        ),
    ),
    "W4": Workload(
        "ResNet-20",
        lambda dtype: ResNet20(dtype=dtype),
        64,
        _images(32, 32, 3),
        10,
        {"reparam": "reparam", "flipout": "flipout"},
        {"train": True},
        faster=(
            "stored_conv",
            lambda dtype: ResNet20(dtype=dtype, conv_general_dilated=stored_conv),
        ),
    ),
    "W5": Workload(
        "transformer 256x4",
        lambda dtype: Transformer(dtype=dtype),
        16,
        _tokens,
        256,
        {"reparam": "reparam", "flipout": "flipout"},
    ),
}


def labels(workload: Workload, key: PRNGKey, inputs: Array) -> Array:
    """Draws random labels for the inputs."""
    shape = inputs.shape[:2] if jnp.issubdtype(inputs.dtype, jnp.integer) else inputs.shape[:1]
    return jax.random.randint(key, shape, 0, workload.classes)
