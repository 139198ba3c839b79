"""Calls and checks of the prior and posterior functions of a layer."""

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax import priors
from bnn_jax.bnn_layers.layer_distribution import NormalPosterior
from bnn_jax.gaussian import Gaussian

NUMBER = int | float | np.ndarray | np.generic | jax.Array


def check_prior(
    prior_fn: object, layer: str, argument: str, shape: tuple[int, ...]
) -> priors.Prior:
    """Returns the prior of a layer's argument: a prior, or a class or function that returns one.

    Raises:
        TypeError: the argument is not a prior and does not return one.
        ValueError: the prior's arrays do not broadcast to the shape of the weight.
    """
    prior = prior_fn
    if isinstance(prior_fn, type) or not isinstance(prior_fn, priors.Prior):
        if not callable(prior_fn):
            raise TypeError(
                f"{layer}: {argument} must be a prior, or a class or function that returns one, "
                f"got {prior_fn!r}."
            )
        prior = prior_fn()
    if isinstance(prior, type) or not isinstance(prior, priors.Prior):
        raise TypeError(f"{layer}: {argument} must return a prior, it returned {prior!r}.")
    for leaf in jax.tree.leaves(prior):
        if isinstance(leaf, bool) or not isinstance(leaf, NUMBER):
            raise TypeError(f"{layer}: the prior of {argument} must hold numbers, got {leaf!r}.")
        if not _broadcasts(jnp.shape(leaf), shape):
            raise ValueError(
                f"{layer}: the prior of {argument} has an array of shape {jnp.shape(leaf)}, which "
                f"does not broadcast to the shape {shape} of the weight."
            )
    return prior


def check_posterior(
    posterior_fn: object, layer: str, argument: str, name: str, shape: tuple[int, ...]
) -> NormalPosterior:
    """Returns posterior_fn(name=name, shape=shape), as in MindSpore.

    Raises:
        TypeError: the argument is not such a function, or it returns neither a NormalPosterior nor
            a Gaussian.
        ValueError: the posterior's shape is not that of the weight.
    """
    rule = (
        f"{layer}: {argument} must be a function of name= and shape= that returns a NormalPosterior"
    )
    if not callable(posterior_fn):
        raise TypeError(f"{rule}, got {posterior_fn!r}.")
    try:
        posterior = posterior_fn(name=name, shape=shape)
    except TypeError as error:
        raise TypeError(f"{rule}: {error}") from error
    if isinstance(posterior, Gaussian):
        posterior = NormalPosterior.around(name, posterior)
    if not isinstance(posterior, NormalPosterior):
        raise TypeError(
            f"{layer}: {argument} must return a NormalPosterior, it returned {posterior!r}."
        )
    if posterior.shape != shape:
        raise ValueError(
            f"{layer}: {argument} must return a posterior of the weight's shape {shape}, it "
            f"returned one of shape {posterior.shape}."
        )
    return posterior


def _broadcasts(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(small) <= len(shape) and all(
        a in (1, b) for a, b in zip(reversed(small), reversed(shape), strict=False)
    )
