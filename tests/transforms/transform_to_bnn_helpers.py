"""Networks and functions for the tests of TransformToBNN."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from bnn_jax import noise
from bnn_jax.transforms import TrainOneStepCell, TransformToBNN, WithLossCell

rng = np.random.default_rng(0)
X = jnp.asarray(rng.normal(size=(8, 10, 10, 1)), jnp.float32)
ROWS = jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)
LABELS = jnp.asarray(rng.integers(0, 3, size=8))


def init(key: Any, shape: tuple[int, ...], dtype: Any, out_sharding: Any = None) -> Any:
    """Some weights; NumPy, because there is nothing to compile."""
    return jnp.asarray(np.random.default_rng(2).normal(0.0, 0.3, shape), dtype)


class Net(nnx.Module):
    """A small LeNet with batch norm, and layers in lists, dicts and nested modules."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        make: dict[str, Any] = {"kernel_init": init, "bias_init": init, "rngs": rngs}
        self.conv1 = nnx.Conv(1, 4, (3, 3), padding="VALID", use_bias=False, **make)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Dict(conv=nnx.Conv(4, 4, (3, 3), strides=2, **make))])
        self.body = nnx.Sequential(nnx.Linear(64, 16, **make), nnx.relu)
        self.heads = nnx.data({"main": [nnx.Linear(16, 3, **make)], "steps": 2})

    def __call__(self, x: Any) -> Any:
        x = nnx.relu(self.norm(self.conv1(x)))
        x = nnx.relu(self.blocks[0]["conv"](x))
        return self.heads["main"][0](self.body(x.reshape((x.shape[0], -1))))


class Holder(nnx.Module):
    """Modules under any attributes; calling it applies them in turn."""

    def __init__(self, **modules: Any) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    def __call__(self, x: Any) -> Any:
        for name in sorted(vars(self)):
            if isinstance(getattr(self, name), nnx.Module):
                x = getattr(self, name)(x)
        return x


class Twice(nnx.Linear):
    """Computes something else than its base."""

    def __call__(self, inputs: Any, out_sharding: Any = None) -> Any:
        return 2 * super().__call__(inputs)


class Named(nnx.Linear):
    """Computes what its base computes."""


def cross_entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def square(outputs: Any, targets: Any) -> Any:
    return jnp.mean(jnp.square(outputs - 1.0))


def linear(*shape: int, **options: Any) -> nnx.Linear:
    options = {"kernel_init": init, "rngs": nnx.Rngs(0), **options}
    return nnx.Linear(*(shape or (3, 3)), **options)


def trainable(net: nnx.Module, tx: Any = None, loss_fn: Any = square) -> TrainOneStepCell:
    return TrainOneStepCell(WithLossCell(net, loss_fn), optax.sgd(0.1) if tx is None else tx)


def transformer(net: nnx.Module, tx: Any = None, **options: Any) -> TransformToBNN:
    return TransformToBNN(trainable(net, tx), **options)


def lenet(tx: Any = None) -> tuple[Net, TransformToBNN]:
    net = Net(nnx.Rngs(0))
    return net, TransformToBNN(trainable(net, tx, cross_entropy), 1, 1e-4, rngs=nnx.Rngs(1))


def snapshot(module: Any) -> dict[str, Any]:
    """Every variable by path, copied."""
    leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(module)))
    return {
        jax.tree_util.keystr(p): np.array(
            jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        )
        for p, x in leaves
    }


def types(module: nnx.Module) -> dict[str, type]:
    return {".".join(map(str, path)): type(m) for path, m in nnx.iter_modules(module)}


def no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "normal", lambda key, shape, dtype=None: jnp.zeros(shape, dtype))


LAYERS = ["conv1", "blocks.0.conv", "body.layers.0", "heads.main.0"]


def conv(**options: Any) -> nnx.Conv:
    options = {"kernel_size": (3, 3), "kernel_init": init, "rngs": nnx.Rngs(0), **options}
    return nnx.Conv(2, 4, **options)


def assert_nothing_replaced(
    net: nnx.Module, call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    before, modules = snapshot(net), [id(m) for _, m in nnx.iter_modules(net)]
    with pytest.raises(error, match=message):
        call()
    assert [id(m) for _, m in nnx.iter_modules(net)] == modules
    for name, value in snapshot(net).items():
        np.testing.assert_array_equal(value, before[name])
