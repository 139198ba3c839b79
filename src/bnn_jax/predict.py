"""Posterior predictive: the mean over weight samples of what the network predicts.

Sample s uses fold_in(key, s) for every chunk of data. With a network that samples its weights
(reparam) the answer depends on the key and the number of samples, not on the chunks; local_reparam
and flipout draw noise for each example of a chunk, so there it does. One function is compiled and
called once for each sample and chunk; nothing is kept but a running sum, so memory does not grow
with either.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnn_jax.noise import PRNGKey


def mean_probabilities(
    key: PRNGKey,
    logits_fn: Callable[..., Float[Array, "batch classes"]],
    inputs: Any,
    *,
    num_samples: int,
    batch_size: int,
    antithetic: bool = False,
) -> Float[np.ndarray, "examples classes"]:
    """Class probabilities averaged over weight samples, for all examples.

    Args:
        key: with num_samples it determines the answer.
        logits_fn: (key, inputs) -> logits of one weight sample; jitted by the caller. Examples must
            not influence each other, or the padding would count.
        inputs: array (examples, ...).
        num_samples: weight samples.
        antithetic: draw the samples in pairs with opposite noise, which varies less with the key.
            logits_fn is then called as (key, inputs, negate).
        batch_size: examples a call. The last chunk is padded, so that one shape is compiled.

    Returns:
        Probabilities in float32.
    """
    if num_samples < 1 or batch_size < 1:
        raise ValueError(
            f"num_samples and batch_size have to be >= 1, got {num_samples} and {batch_size}."
        )
    if len(inputs) == 0:
        raise ValueError("There are no inputs to predict for: the first axis has length 0.")
    draws: list[tuple[PRNGKey, tuple[bool, ...]]] = [
        (jax.random.fold_in(key, s // 2), (bool(s % 2),))
        if antithetic
        else (jax.random.fold_in(key, s), ())
        for s in range(num_samples)
    ]
    chunks = []
    for start in range(0, len(inputs), batch_size):
        chunk = inputs[start : start + batch_size]
        missing = batch_size - len(chunk) if start else 0
        padded = jnp.pad(chunk, [(0, missing)] + [(0, 0)] * (chunk.ndim - 1))
        total: Any = 0.0
        for sample_key, negate in draws:
            total = total + _probabilities(logits_fn(sample_key, padded, *negate))
        chunks.append(np.asarray(total / num_samples)[: len(chunk)])
    return np.concatenate(chunks)


def _probabilities(logits: Float[Array, "batch classes"]) -> Float[Array, "batch classes"]:
    return jax.nn.softmax(logits.astype(jnp.float32))
