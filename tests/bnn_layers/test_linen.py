"""The linen layers: the NNX layers' numbers, with Gaussian leaves in an ordinary params tree."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

from bnn_jax import bnn_layers, gaussian, priors
from bnn_jax.bnn_layers import linen
from bnn_jax.gaussian import Gaussian

X = jax.random.normal(jax.random.key(7), (5, 3))
IMAGES = jax.random.normal(jax.random.key(8), (5, 6, 7, 2))

PAIRS = [
    ("DenseReparam", (3, 4, "relu"), {}, X),
    ("DenseLocalReparam", (3, 4), {"has_bias": False}, X),
    ("ConvReparam", (2, 4, 3), {"stride": 2, "group": 2, "has_bias": True}, IMAGES),
    ("ConvReparam", (2, 4, (3, 2)), {"pad_mode": "pad", "padding": (1, 2, 3, 0)}, IMAGES),
]


@pytest.mark.parametrize(("name", "args", "options", "x"), PAIRS)
def test_numbers_are_those_of_the_nnx_layer(
    name: str, args: tuple[Any, ...], options: dict[str, Any], x: jax.Array
) -> None:
    ours = getattr(linen, name)(None, *args[1:], **options)
    params = ours.init(jax.random.key(0), x)["params"]
    assert all(isinstance(leaf, Gaussian) for leaf in params.values())
    module = getattr(bnn_layers, name)(*args, **options, rngs=nnx.Rngs(0))
    kl = 0.0
    for weight, q in params.items():
        target = module.weight_posterior if weight == "kernel" else module.bias_posterior
        target.mean.set_value(q.mean)
        target.untransformed_std.set_value(q.rho)
    kl = float(priors.kl_divergence(params, priors.NormalPrior(0.0, 0.1)))
    assert kl == pytest.approx(float(module.compute_kl_loss()), rel=1e-5)

    mean = ours.apply({"params": params}, x, deterministic=True)
    np.testing.assert_array_equal(mean, module(x, deterministic=True))
    np.testing.assert_array_equal(ours.apply({"params": gaussian.mean(params)}, x, True), mean)

    class Key(nn.Module):
        @nn.compact
        def __call__(self) -> jax.Array:
            return self.make_rng("noise")

    noise_key = Key().apply({}, rngs={"noise": jax.random.key(1)})
    drawn = ours.apply({"params": params}, x, rngs={"noise": jax.random.key(1)})
    np.testing.assert_array_equal(drawn, module(x, rngs=noise_key))
    assert not np.array_equal(drawn, mean)


class Mixed(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = linen.ConvReparam(None, 4, 3)(x).mean((1, 2))
        return linen.DenseReparam(None, 2)(nn.Dense(3)(x))


def test_mixed_network_has_gradients_for_all_parameters() -> None:
    model = Mixed()
    params = model.init(jax.random.key(0), IMAGES)["params"]
    assert set(gaussian.random_leaves(params)) == {
        "ConvReparam_0/kernel",
        "DenseReparam_0/kernel",
        "DenseReparam_0/bias",
    }

    @jax.jit
    def loss(params: Any, key: jax.Array) -> jax.Array:
        y = model.apply({"params": params}, IMAGES, rngs={"noise": key})
        return jnp.mean(y**2) + 1e-3 * priors.kl_divergence(params, priors.NormalPrior(0.0, 0.1))

    gradient = jax.grad(loss)(params, jax.random.key(1))
    assert jax.tree.structure(gradient) == jax.tree.structure(params)
    assert all(float(jnp.max(jnp.abs(g))) > 0 for g in jax.tree.leaves(gradient))


def test_misuse() -> None:
    def init(layer: nn.Module) -> Any:
        return layer.init(jax.random.key(0), X)

    with pytest.raises(ValueError, match="in_channels=5, but the input's last axis is 3"):
        init(linen.DenseReparam(5, 4))
    with pytest.raises(KeyError, match="relu"):
        init(linen.DenseReparam(None, 4, activation="rely"))
    local = linen.DenseLocalReparam(None, 4)
    with pytest.raises(ValueError, match="approximate=True"):
        local.init(jax.random.key(0), jnp.ones((2, 5, 3)))
