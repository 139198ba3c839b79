"""The conditional variational autoencoder: a VAE that also takes the class of each example.

    cvae = ConditionalVAE(encoder, decoder, 400, 20, num_classes=10, rngs=nnx.Rngs(0))
    reconstruction, x, mean, std = cvae(key, x, labels)

The encoder takes x and the integer labels. The label is appended to the code z as a one-hot
vector, so the layer back to hidden_size has latent_size + num_classes inputs, z first.

Source: Sohn, Lee, Yan 2015, "Learning structured output representation using deep conditional
generative models", NeurIPS 28. (The prior of z is N(0, 1) for every class.)
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, ArrayLike, Float, Int

from bnn_jax.bnn_layers import _arguments
from bnn_jax.dpn._latent import LatentModel, Network
from bnn_jax.noise import PRNGKey

Codes = Float[Array, "n latent"]
Labels = Int[Array, " n"]


class ConditionalVAE(LatentModel):
    """A `VAE` whose encoder and decoder are conditioned on a class label.

    Args:
        encoder: an NNX module, or a function; (x, labels) -> (n, hidden_size).
        decoder: as the encoder; (n, hidden_size) -> the reconstruction, of x's shape.
        hidden_size: the size of the encoder's output and of the decoder's input.
        latent_size: the size of the code, at most hidden_size.
        num_classes: labels run from 0 to num_classes - 1.
        rngs: initialises the three dense layers (stream `params`).

    Raises:
        TypeError: an argument of the wrong type, such as a linen module, or labels that are not
            integers.
        ValueError: sizes out of range; in a call, an encoder that returns the wrong shape, or
            labels out of range. (Under `jax.jit` values are unknown: there the outputs for labels
            out of range are NaN.)
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        hidden_size: int,
        latent_size: int,
        num_classes: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        self.num_classes = _arguments.positive_int("ConditionalVAE", "num_classes", num_classes)
        super().__init__(
            encoder, decoder, hidden_size, latent_size, num_classes=num_classes, rngs=rngs
        )

    def __call__(self, key: PRNGKey, x: Array, y: Labels) -> tuple[Array, Array, Codes, Codes]:
        """Encodes x, draws one code per example and decodes it.

        Args:
            key: determines the noise of the codes.
            x: input of the encoder, examples on axis 0.
            y: integer labels, (n,).

        Returns:
            The reconstruction, x unchanged, and mean and std of the codes, (n, latent_size).
        """
        mean, std = self.encode(x, y)
        return self.decode(self._draw(key, mean, std), y), x, mean, std

    def encode(self, x: Array, y: Labels) -> tuple[Codes, Codes]:
        """Returns mean and std of the posterior of the codes, each (n, latent_size)."""
        y = self._checked(y, len(x))
        return self._posterior(x, y)

    def decode(self, z: Codes, y: Labels) -> Array:
        """Returns the decoder's output for codes z, (n, latent_size), and classes y, (n,)."""
        y = self._checked(y, len(z))
        known = (y >= 0) & (y < self.num_classes)
        one_hot = jax.nn.one_hot(y, self.num_classes, dtype=z.dtype)
        one_hot = jnp.where(known[:, None], one_hot, jnp.asarray(jnp.nan, z.dtype))
        return self.decoder(self.dense3(jnp.concatenate([z, one_hot], axis=1)))

    def reconstruct_sample(self, key: PRNGKey, x: Array, y: Labels) -> Array:
        """Returns the reconstruction of x with classes y from one draw of the code."""
        return self(key, x, y)[0]

    def generate_sample(
        self, key: PRNGKey, sample_y: Labels, generate_nums: int, shape: tuple[int, ...]
    ) -> Array:
        """Generates examples of the classes sample_y by decoding codes from the prior N(0, 1).

        Args:
            key: determines the codes.
            sample_y: integer labels, (generate_nums,).
            generate_nums: number of examples.
            shape: the shape of the result, (generate_nums, ...) or (-1, ...).

        Raises:
            ValueError: the decoder's output cannot be reshaped to this shape.
        """
        z = self._draw_from_prior(key, generate_nums, shape)
        return self._shaped(self.decode(z, sample_y), shape)

    def _checked(self, y: ArrayLike, n: int) -> Labels:
        y = jnp.asarray(y)
        if not jnp.issubdtype(y.dtype, jnp.integer):
            raise TypeError(f"ConditionalVAE needs integer labels, got {y.dtype}.")
        if y.shape != (n,):
            raise ValueError(f"ConditionalVAE needs labels of shape ({n},), got {y.shape}.")
        if not isinstance(y, jax.core.Tracer) and not bool(
            jnp.all((y >= 0) & (y < self.num_classes))
        ):
            raise ValueError(
                f"ConditionalVAE needs labels from 0 to {self.num_classes - 1}, got values from "
                f"{y.min()} to {y.max()}."
            )
        return y
