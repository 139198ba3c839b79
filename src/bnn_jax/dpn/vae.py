"""The variational autoencoder.

    vae = VAE(encoder, decoder, hidden_size=400, latent_size=20, rngs=nnx.Rngs(0))
    reconstruction, x, mean, std = vae(key, x)

`infer.ELBO` takes these four as they are.

Source: Kingma, Welling 2014, arXiv:1312.6114.
"""

from flax import nnx
from jaxtyping import Array, Float

from bnn_jax.dpn._latent import LatentModel, Network
from bnn_jax.noise import PRNGKey

Codes = Float[Array, "n latent"]


class VAE(LatentModel):
    """An encoder and a decoder of your own, joined by a Gaussian latent code.

    The code of an example is z ~ N(mean, std^2), with dense heads for mean and log variance on the
    encoder's output; a dense layer takes z back to hidden_size for the decoder.

    Args:
        encoder: an NNX module, or a function; x of shape (n, ...) -> (n, hidden_size).
        decoder: as the encoder; (n, hidden_size) -> the reconstruction, of x's shape.
        hidden_size: the size of the encoder's output and of the decoder's input.
        latent_size: the size of the code, at most hidden_size.
        rngs: initialises the three dense layers (stream `params`).

    Raises:
        TypeError: an argument of the wrong type, a linen module among them.
        ValueError: sizes out of range; at a call, an encoder that returns another shape.
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
        """Encode, draw one code for each example, decode.

        Args:
            key: gives the noise of the codes.
            x: whatever the encoder takes, examples on axis 0.

        Returns:
            The reconstruction, x as given, and mean and std of the codes, (n, latent_size).
        """
        mean, std = self.encode(x)
        return self.decode(self._draw(key, mean, std)), x, mean, std

    def encode(self, x: Array) -> tuple[Codes, Codes]:
        """Mean and std of the codes' posterior, each (n, latent_size)."""
        return self._posterior(x)

    def decode(self, z: Codes) -> Array:
        """The decoder's output for the codes z, (n, latent_size)."""
        return self.decoder(self.dense3(z))

    def reconstruct_sample(self, key: PRNGKey, x: Array) -> Array:
        """The reconstruction of x through one draw of its code."""
        return self(key, x)[0]

    def generate_sample(self, key: PRNGKey, generate_nums: int, shape: tuple[int, ...]) -> Array:
        """New examples: codes from the prior N(0, 1), decoded.

        Args:
            key: gives the codes.
            generate_nums: how many.
            shape: the shape of the result, (generate_nums, ...) or (-1, ...).

        Raises:
            ValueError: another shape, or one that the decoder's output cannot be reshaped to.
        """
        z = self._draw_from_prior(key, generate_nums, shape)
        return self._shaped(self.decode(z), shape)
