"""The metrics of training batches that `fit` reports beside the loss."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
from jaxtyping import Array, PyTree

from bnn_jax.fitting.standardize import Standardizer
from bnn_jax.likelihoods import Bernoulli, Categorical, Likelihood, Regression

MetricFn = Callable[[PyTree, Array], Mapping[str, Array]]


def batch_metrics(likelihood: Likelihood, scaling: Standardizer) -> MetricFn | None:
    """Returns (outputs, targets) -> {name: mean over the batch}, or None for other likelihoods.

    Classes have an accuracy; numbers a squared error, in the squared units of the targets.
    """
    if isinstance(likelihood, Regression):
        targets = scaling.targets

        def error(outputs: PyTree, y: Array) -> dict[str, Array]:
            mean = likelihood.mean(outputs)
            deviation = mean - y.astype(mean.dtype)
            if targets is not None:
                deviation = deviation * jnp.asarray(targets.scale, deviation.dtype)[None]
            return {"squared_error": jnp.mean(jnp.square(deviation))}

        return error

    def accuracy(outputs: PyTree, y: Array) -> dict[str, Array]:
        if isinstance(likelihood, Bernoulli):
            correct = (outputs > 0) == (y > 0)
        else:
            correct = jnp.argmax(outputs, axis=-1) == y
        return {"accuracy": jnp.mean(correct.astype(jnp.float32))}

    return accuracy if isinstance(likelihood, Bernoulli | Categorical) else None
