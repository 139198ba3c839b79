"""The variational autoencoder.

    vae = VAE(encoder, decoder, hidden_size=400, latent_size=20, rngs=nnx.Rngs(0))
    reconstruction, x, mean, std = vae(key, x)

`infer.ELBO` takes this tuple.

Source: Kingma, Welling 2014, arXiv:1312.6114.
"""

from flax import nnx
from jaxtyping import Array, Float

from bnn_jax.dpn._latent import LatentModel, Network
from bnn_jax.noise import PRNGKey

Codes = Float[Array, "n latent"]


class VAE(LatentModel):
    """A user-defined encoder and decoder, joined by a Gaussian latent code.

    The code of an example is z ~ N(mean, std^2). Two dense layers compute mean and log variance
    from the encoder's output; a third maps z back to hidden_size for the decoder.

    Args:
        encoder: an NNX module, or a function; x of shape (n, ...) -> (n, hidden_size).
        decoder: as the encoder; (n, hidden_size) -> the reconstruction, of x's shape.
        hidden_size: the size of the encoder's output and of the decoder's input.
        latent_size: the size of the code, at most hidden_size.
        rngs: initialises the three dense layers (stream `params`).

    Raises:
        TypeError: an argument of the wrong type, such as a linen module.
        ValueError: sizes out of range; in a call, an encoder that returns the wrong shape.
    """

    def __init__(
        self,
        encoder: Network,
        decoder: Network,
        hidden_size: int,
        latent_size: int,
        *,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(encoder, decoder, hidden_size, latent_size, rngs=rngs)

    def __call__(self, key: PRNGKey, x: Array) -> tuple[Array, Array, Codes, Codes]:
        """Encodes x, draws one code per example and decodes it.

        Args:
            key: determines the noise of the codes.
            x: input of the encoder, examples on axis 0.

        Returns:
            The reconstruction, x unchanged, and mean and std of the codes, (n, latent_size).
        """
        mean, std = self.encode(x)
        return self.decode(self._draw(key, mean, std)), x, mean, std

    def encode(self, x: Array) -> tuple[Codes, Codes]:
        """Returns mean and std of the posterior of the codes, each (n, latent_size)."""
        return self._posterior(x)

    def decode(self, z: Codes) -> Array:
        """Returns the decoder's output for codes z, (n, latent_size)."""
        return self.decoder(self.dense3(z))

    def reconstruct_sample(self, key: PRNGKey, x: Array) -> Array:
        """Returns the reconstruction of x from one draw of its code."""
        return self(key, x)[0]

    def generate_sample(self, key: PRNGKey, generate_nums: int, shape: tuple[int, ...]) -> Array:
        """Generates examples by decoding codes from the prior N(0, 1).

        Args:
            key: determines the codes.
            generate_nums: number of examples.
            shape: the shape of the result, (generate_nums, ...) or (-1, ...).

        Raises:
            ValueError: the decoder's output cannot be reshaped to this shape.
        """
        z = self._draw_from_prior(key, generate_nums, shape)
        return self._shaped(self.decode(z), shape)
