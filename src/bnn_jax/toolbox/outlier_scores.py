"""Anomaly scores of a variational autoencoder, one per example; higher is more anomalous.

All scores take the same arguments: the examples x, (n, ...); the squared error of each draw and
example, (draws, n); the standard normal noise eps of the codes, (draws, n, latent); mean and std of
the codes, (n, latent). A code is mean + std * eps.

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
    """Returns the Euclidean distance from x to its reconstruction, averaged over draws.

    This is MindSpore's score.
    """
    return jnp.mean(jnp.sqrt(errors), axis=0)


def relative_distance(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """Returns the distance divided by the norm of x, because larger inputs have larger errors.

    An x of zeros has a score of inf, unless it is reconstructed exactly.
    """
    norm = jnp.sqrt(squared_error(x, jnp.zeros_like(x)))
    return distance(x, errors, eps, mean, std) / jnp.maximum(norm, jnp.finfo(norm.dtype).tiny)


def negative_elbo(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """Returns the training loss: mean squared error over draws plus KL(q || N(0, 1))."""
    return jnp.mean(errors, axis=0) + kl_divergence(mean, std)


def negative_bound(x: Examples, errors: Errors, eps: Eps, mean: Codes, std: Codes) -> Score:
    """Returns -log of the mean over draws of p(x | z) p(z) / q(z), a bound of -log p(x).

    The bound gets tighter with more draws, and omits the same constant as `infer.elbo`. With one
    draw its expectation is the negative ELBO.
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
