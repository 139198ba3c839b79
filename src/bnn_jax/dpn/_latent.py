"""The base class of both autoencoders: an encoder and a decoder, joined by a Gaussian latent code.

    features = encoder(x)                                (n, hidden_size)
    mean, std = dense1(features), exp(dense2(features) / 2)
    z = mean + std * noise                               (n, latent_size)
    reconstruction = decoder(dense3(z))                  decoder's input: (n, hidden_size)

The names of the three dense layers are MindSpore's, so that its parameters can be loaded.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen, nnx
from jaxtyping import Array, Float

from bnn_jax import noise
from bnn_jax.bnn_layers import _arguments
from bnn_jax.noise import PRNGKey

# An NNX module or a function.
Network = Callable[..., Array]


class LatentModel(nnx.Module):
    """The base of `VAE` and `ConditionalVAE`."""

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        hidden_size: int,
        latent_size: int,
        *,
        num_classes: int = 0,
        rngs: nnx.Rngs,
    ) -> None:
        name = type(self).__name__
        self.encoder = _network(name, "encoder", encoder)
        self.decoder = _network(name, "decoder", decoder)
        self.hidden_size = _arguments.positive_int(name, "hidden_size", hidden_size)
        self.latent_size = _arguments.positive_int(name, "latent_size", latent_size)
        if latent_size > hidden_size:
            raise ValueError(
                f"{name} needs latent_size <= hidden_size, got latent_size={latent_size} and "
                f"hidden_size={hidden_size}."
            )
        if not isinstance(rngs, nnx.Rngs):
            raise TypeError(f"{name} needs an nnx.Rngs as rngs, got {rngs!r}.")
        self.dense1 = nnx.Linear(hidden_size, latent_size, rngs=rngs)
        self.dense2 = nnx.Linear(hidden_size, latent_size, rngs=rngs)
        self.dense3 = nnx.Linear(latent_size + num_classes, hidden_size, rngs=rngs)

    def _posterior(
        self, *inputs: Array
    ) -> tuple[Float[Array, "n latent"], Float[Array, "n latent"]]:
        """Returns mean and std of q(z | inputs)."""
        features = self.encoder(*inputs)
        expected = (len(inputs[0]), self.hidden_size)
        if jnp.shape(features) != expected:
            raise ValueError(
                f"{type(self).__name__} needs an encoder that returns (n, hidden_size), here "
                f"{expected}, got {jnp.shape(features)}: flatten in the encoder, or change "
                "hidden_size."
            )
        return self.dense1(features), jnp.exp(0.5 * self.dense2(features))

    def _draw(
        self, key: PRNGKey, mean: Float[Array, "n latent"], std: Float[Array, "n latent"]
    ) -> Float[Array, "n latent"]:
        return mean + std * noise.normal(key, mean.shape, mean.dtype)

    def _draw_from_prior(
        self, key: PRNGKey, generate_nums: int, shape: tuple[int, ...]
    ) -> Float[Array, "n latent"]:
        name = type(self).__name__
        _arguments.positive_int(name, "generate_nums", generate_nums)
        if not isinstance(shape, tuple) or not shape or shape[0] not in (-1, generate_nums):
            raise ValueError(
                f"{name} needs the shape of the samples as ({generate_nums}, ...) or (-1, ...), "
                f"because generate_nums is {generate_nums}; got {shape!r}."
            )
        dtype = self.dense3.kernel[...].dtype
        return noise.normal(key, (generate_nums, self.latent_size), dtype)

    def _shaped(self, samples: Array, shape: tuple[int, ...]) -> Array:
        target = (len(samples), *shape[1:])
        if samples.size != math.prod(target):
            raise ValueError(
                f"{type(self).__name__}'s decoder returns {samples.shape}, which cannot be "
                f"reshaped to {target}."
            )
        return samples.reshape(target)


def _network(owner: str, name: str, value: object) -> Network:
    if isinstance(value, linen.Module):
        raise TypeError(
            f"{owner} needs an NNX module or a function as {name}, got the linen module "
            f"{type(value).__name__}: wrap it with nnx.bridge.ToNNX(module, rngs=...).lazy_init(x)."
        )
    if not callable(value) or isinstance(value, type):
        raise TypeError(f"{owner} needs an NNX module or a function as {name}, got {value!r}.")
    return value
