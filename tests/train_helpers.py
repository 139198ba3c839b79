"""A small network and its training step, for the tests of training."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bnn_jax import train
from bnn_jax.interpreter import random_array
from bnn_jax.priors import NormalPrior
from core_helpers import data, random_posterior

X, LABELS = data(0, 12, 3), data(1, 12, 2)


def posterior() -> dict[str, Any]:
    return {
        "one": {"kernel": random_posterior(1, 3, 4), "bias": random_posterior(2, 4)},
        "two": {"kernel": random_posterior(3, 4, 2)},
    }


def network(estimator: str) -> train.Forward:
    def forward(k: Any, q: Any, variables: Any, x: Any) -> Any:
        # The keys of `gaussian.sample` for the whole tree, not one for each layer.
        def call(p: Any, inputs: Any) -> Any:
            hidden = jax.nn.tanh(inputs @ p["one"]["kernel"] + p["one"]["bias"][None])
            return hidden @ p["two"]["kernel"]

        outputs = random_array.apply(call, k, q, x, estimator=estimator)
        count = None if variables is None else {"calls": variables["calls"] + 1}
        return outputs, count

    return forward


def squared_error(outputs: Any, labels: Any) -> Any:
    return jnp.mean(jnp.sum((outputs - labels) ** 2, axis=-1))


def build(estimator: str = "reparam", optimizer: Any = None, **options: Any) -> Callable[..., Any]:
    if not {"num_data", "dnn_factor"} & set(options):
        options["num_data"] = len(X)
    prior = options.pop("prior", NormalPrior(0.0, 1.0))
    forward = network(estimator)
    return train.build_step(forward, squared_error, optimizer or optax.sgd(0.01), prior, **options)


def start(optimizer: Any = None, **options: Any) -> train.State:
    return train.init(posterior(), optimizer or optax.sgd(0.01), **options)


def assert_equal(got: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, expected)
