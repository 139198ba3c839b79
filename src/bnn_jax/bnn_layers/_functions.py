"""What a layer's prior and posterior functions give it, checked."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax import priors
from bnn_jax.bnn_layers.layer_distribution import NormalPosterior
from bnn_jax.gaussian import Gaussian

NUMBER = int | float | np.ndarray | np.generic | jax.Array


def check_prior(prior_fn: Any, layer: str, argument: str, shape: tuple[int, ...]) -> priors.Prior:
    """The prior that a layer's argument gives: an instance, or a class or function that makes one.

    Raises:
        TypeError: it gives no prior.
        ValueError: the prior's arrays do not broadcast to the weight.
    """
    is_instance = isinstance(prior_fn, priors.Prior) and not isinstance(prior_fn, type)
    if not is_instance and not callable(prior_fn):
        raise TypeError(
            f"{layer} needs a prior, or a class or function that returns one, as {argument}, "
            f"got {prior_fn!r}."
        )
    prior = prior_fn if is_instance else prior_fn()
    if isinstance(prior, type) or not isinstance(prior, priors.Prior):
        raise TypeError(f"{layer} needs {argument} to return a prior, it returned {prior!r}.")
    for leaf in jax.tree.leaves(prior):
        if isinstance(leaf, bool) or not isinstance(leaf, NUMBER):
            raise TypeError(f"{layer} needs numbers in the prior of {argument}, got {leaf!r}.")
        if not _broadcasts(jnp.shape(leaf), shape):
            raise ValueError(
                f"{layer}: the prior of {argument} has an array of shape {jnp.shape(leaf)}, which "
                f"does not broadcast to the weight's shape {shape}."
            )
    return prior


def check_posterior(
    posterior_fn: Any, layer: str, argument: str, name: str, shape: tuple[int, ...]
) -> NormalPosterior:
    """The posterior that a layer's argument gives, called with name= and shape= as in MindSpore.

    Raises:
        TypeError: it is no such function, or returns neither a NormalPosterior nor a Gaussian.
        ValueError: the posterior's shape is not the weight's.
    """
    try:
        posterior = posterior_fn(name=name, shape=shape)
    except TypeError as error:
        raise TypeError(
            f"{layer} needs a function of name= and shape= that returns a NormalPosterior as "
            f"{argument}: {error}"
        ) from error
    if isinstance(posterior, Gaussian):
        posterior = NormalPosterior.around(name, posterior)
    if not isinstance(posterior, NormalPosterior):
        raise TypeError(
            f"{layer} needs {argument} to return a NormalPosterior, it returned {posterior!r}."
        )
    if posterior.shape != shape:
        raise ValueError(
            f"{layer}: {argument} returned a posterior of shape {posterior.shape}; the weight's "
            f"shape is {shape}."
        )
    return posterior


def _broadcasts(small: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    return len(small) <= len(shape) and all(
        a in (1, b) for a, b in zip(reversed(small), reversed(shape), strict=False)
    )
