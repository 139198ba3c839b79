"""How strange an example is to a variational autoencoder: arrays in, one score for each out.

Every score has the same arguments: the examples x, (n, ...); the squared error of each draw and
example, (draws, n); the standard normal noise of the codes, (draws, n, latent); mean and std of the
codes, (n, latent). A code is mean + std * eps.

Sources: An, Cho 2015, "Variational autoencoder based anomaly detection using reconstruction
probability" (an average over draws); Burda, Grosse, Salakhutdinov 2016, arXiv:1509.00519, equation
8 (the importance-weighted bound).
"""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax.infer.elbo import kl_divergence, squared_error

Examples = Float[Array, "n ..."]
Errors = Float[Array, "draws n"]
Eps = Float[Array, "draws n latent"]
Codes = Float[Array, "n latent"]
Score = Float[Array, " n"]


def distance(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """The Euclidean distance from x to its reconstruction, the mean over draws: MindSpore's."""
    return jnp.mean(jnp.sqrt(errors), axis=0)


def relative_distance(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """The distance divided by the norm of x: the squared error grows with what there is to see.

    An x of zeros has the score inf, unless it is reconstructed exactly.
    """
    norm = jnp.sqrt(squared_error(x, jnp.zeros_like(x)))
    return distance(x, errors, eps, mean, std) / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)


def negative_elbo(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """Squared error, the mean over draws, plus KL(q || N(0, 1)): the loss of the training."""
    return jnp.mean(errors, axis=0) + kl_divergence(mean, std)


def negative_bound(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """-log of the mean over draws of p(x | z) p(z) / q(z): nearer to -log p(x) with every draw.

    Up to the constant that `infer.elbo` leaves out. Its expectation with one draw is the negative
    ELBO.
    """
    z = mean[None] + std[None] * eps
    log_std = jnp.log(jnp.maximum(std, jnp.finfo(std.dtype).tiny))
    log_ratio = 0.5 * (jnp.square(eps) - jnp.square(z)) + log_std[None]  # log p(z) - log q(z)
    log_weight = jnp.sum(log_ratio, axis=-1) - errors
    return math.log(len(errors)) - jax.nn.logsumexp(log_weight, axis=0)


SCORES: Mapping[str, Callable[[Examples, Errors, Eps, Codes, Codes], Score]] = {
    "distance": distance,
    "relative_distance": relative_distance,
    "negative_elbo": negative_elbo,
    "negative_bound": negative_bound,
}
