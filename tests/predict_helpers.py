"""A linear network and what `predict` must return for it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax import gaussian
from bnn_jax.likelihoods import Categorical
from bnn_jax.noise import Draw
from bnn_jax.predictive.posterior_predictive import predict
from core_helpers import data, key, random_posterior

Q = {"w": random_posterior(1, 3, 4)}
X = data(0, 10, 3)
LABELS = jnp.arange(10) % 4
S = 6


def network(params: Any, x: Any) -> Any:
    return x @ params["w"]


def outputs(seed: int, samples: int = S, antithetic: bool = False) -> np.ndarray:
    """Returns the values that `predict` averages, sample by sample, in float64."""
    each = []
    for s in range(samples):
        k = jax.random.fold_in(key(seed), s // 2 if antithetic else s)
        weights = gaussian.sample(Draw(k, -1 if antithetic and s % 2 == 1 else 1), Q)
        each.append(network(weights, X))
    return np.asarray(each, np.float64)


def softmax(logits: np.ndarray) -> np.ndarray:
    p = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def call(seed: int = 5, **kwargs: Any) -> Any:
    defaults: dict[str, Any] = {"num_samples": S, "likelihood": Categorical(), "posterior": Q}
    return predict(key(seed), network, X, **{**defaults, **kwargs})
