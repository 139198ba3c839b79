"""The loss of a variational autoencoder: the negative evidence lower bound (ELBO), in nats.

For the model x ~ N(decoder(z), 1/2), z ~ N(0, 1) and the posterior q = N(mean, std^2) of z

    -ELBO(x) = sum (x - reconstruction)^2 + KL(q || N(0, 1)) + d/2 log(pi)

for an example of d numbers, where the reconstruction decodes one draw from q. The constant is
omitted, as in MindSpore, so the loss is squared error plus KL and never negative.

Source: Kingma, Welling 2014, arXiv:1312.6114, equation 10 and appendix B.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

_KNOWN = ("Normal",)

# Reconstruction, x, and mean and std of the codes.
VAEOutputs = tuple[Array, Array, Array, Array]


def squared_error(
    x: Float[Array, "n ..."], reconstruction: Float[Array, "n ..."]
) -> Float[Array, " n"]:
    """Returns the sum of squared differences for each example.

    Raises:
        ValueError: the two shapes differ. (JAX would broadcast them silently.)
    """
    if x.shape != reconstruction.shape:
        raise ValueError(
            f"The reconstruction must have the shape of x, {x.shape}, got "
            f"{reconstruction.shape}: reshape the decoder's output."
        )
    difference = _wide(x) - _wide(reconstruction)
    return jnp.sum(jnp.square(difference), axis=tuple(range(1, x.ndim)))


def kl_divergence(
    mean: Float[Array, "n latent"], std: Float[Array, "n latent"]
) -> Float[Array, " n"]:
    """Returns KL(N(mean, std^2) || N(0, 1)) for each example, in nats, summed over the code."""
    mean, std = _wide(mean), _wide(std)
    log_std = jnp.log(jnp.maximum(std, jnp.finfo(std.dtype).tiny))
    return jnp.sum(0.5 * (jnp.square(mean) + jnp.square(std) - 1.0) - log_std, axis=1)


class ELBO:
    """The negative ELBO of a batch: loss = elbo(vae(key, x)), summed over all examples.

    The name is MindSpore's; the value is the negative ELBO, so lower is better.

    Args:
        latent_prior: the prior of the code: "Normal" is N(0, 1).
        output_prior: the distribution of the output: "Normal" is N(reconstruction, 1/2), whose
            loss is the summed squared error.

    Raises:
        ValueError: any other name.
    """

    def __init__(self, latent_prior: str = "Normal", output_prior: str = "Normal") -> None:
        for name, value in (("latent_prior", latent_prior), ("output_prior", output_prior)):
            if value not in _KNOWN:
                raise ValueError(f"ELBO supports only {name}='Normal', got {value!r}.")
        self.latent_prior = latent_prior
        self.output_prior = output_prior

    def __call__(self, data: VAEOutputs, label: object = None) -> Float[Array, ""]:
        """Returns the loss of one batch.

        Args:
            data: (reconstruction, x, mean, std), as a VAE returns them.
            label: ignored; present because losses are called as loss_fn(outputs, label).

        Raises:
            ValueError: the shapes of the reconstruction and x differ.
        """
        reconstruction, x, mean, std = data
        return jnp.sum(squared_error(x, reconstruction)) + jnp.sum(kl_divergence(mean, std))


def _wide(x: Array) -> Array:
    """Converts to float32 at least, because the loss is a sum over many numbers."""
    return x if jnp.finfo(x.dtype).bits >= 32 else x.astype(jnp.float32)
