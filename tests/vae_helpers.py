"""Small autoencoders whose numbers are known."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from bnn_jax.dpn import VAE

rng = np.random.default_rng(0)


def init(key: Any, shape: tuple[int, ...], dtype: Any, out_sharding: Any = None) -> Any:
    """Some weights; NumPy, because there is nothing to compile."""
    return jnp.asarray(np.random.default_rng(2).normal(0.0, 0.3, shape), dtype)


def dense(in_size: int, out_size: int) -> nnx.Linear:
    return nnx.Linear(in_size, out_size, kernel_init=init, bias_init=init, rngs=nnx.Rngs(0))


class Encoder(nnx.Module):
    """Flattens, appends the labels' one-hot vectors where there are any, and has one layer."""

    def __init__(self, in_size: int, hidden_size: int, num_classes: int = 0) -> None:
        self.fc = dense(in_size + num_classes, hidden_size)
        self.num_classes = num_classes

    def __call__(self, x: Any, y: Any = None) -> Any:
        x = x.reshape(len(x), -1)
        if y is not None:
            one_hot = (y[:, None] == jnp.arange(self.num_classes)[None]).astype(x.dtype)
            x = jnp.concatenate([x, one_hot], axis=1)
        return nnx.relu(self.fc(x))


class Decoder(nnx.Module):
    def __init__(self, hidden_size: int, shape: tuple[int, ...]) -> None:
        self.fc = dense(hidden_size, int(np.prod(shape)))
        self.shape = shape

    def __call__(self, h: Any) -> Any:
        return nnx.sigmoid(self.fc(h)).reshape(-1, *self.shape)


def small_vae(shape: tuple[int, ...] = (4, 4, 1), hidden: int = 8, latent: int = 3) -> VAE:
    encoder = Encoder(int(np.prod(shape)), hidden)
    return VAE(encoder, Decoder(hidden, shape), hidden, latent, rngs=nnx.Rngs(0))


def identity(x: Any) -> Any:
    return x


def factor_model(size: int = 5) -> tuple[VAE, np.ndarray, np.ndarray]:
    """A linear VAE with the exact posterior, and mean and covariance of its x.

    x = A z + b + noise of variance 1/2, with orthogonal columns a_j of A: then the codes are
    independent given x, with variance 1 / (1 + 2 |a_j|^2) and mean 2 a_j (x - b) times that.
    """
    q, _ = np.linalg.qr(rng.normal(size=(size, size)))
    a = q[:, :2] * np.array([2.0, 0.7])
    b = rng.normal(size=size)
    variance = 1.0 / (1.0 + 2.0 * np.sum(a**2, axis=0))
    to_mean = 2.0 * a * variance
    vae = VAE(identity, identity, size, 2, rngs=nnx.Rngs(0))
    for layer, kernel, bias in (
        (vae.dense1, to_mean, -b @ to_mean),
        (vae.dense2, np.zeros((size, 2)), np.log(variance)),
        (vae.dense3, a.T, b),
    ):
        layer.kernel.set_value(jnp.asarray(kernel, jnp.float32))
        layer.bias.set_value(jnp.asarray(bias, jnp.float32))
    return vae, b, a @ a.T + 0.5 * np.eye(size)


def layer(module: nnx.Linear, x: np.ndarray) -> np.ndarray:
    """A dense layer in float64."""
    kernel, bias = (np.asarray(p[...], np.float64) for p in (module.kernel, module.bias))
    return x @ kernel + bias
