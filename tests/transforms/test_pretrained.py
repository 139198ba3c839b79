"""A pretrained network becomes Bayesian without loss, and better calibrated after one epoch."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnn_jax import data, predict, priors, to_bnn, train
from bnn_jax.likelihoods import Categorical
from bnn_jax.models import LeNet5, banded_conv
from bnn_jax.toolbox import metrics

BATCH = 128
PRETRAINING_EPOCHS = 8


def cross_entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def batches(seed: int, size: int) -> Iterator[np.ndarray]:
    order = np.random.default_rng(seed).permutation(size)
    yield from order[: size // BATCH * BATCH].reshape(-1, BATCH)


def inputs(images: np.ndarray) -> jax.Array:
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    return jnp.asarray((padded / 255.0 - 0.1307) / 0.3081, jnp.float32)


@pytest.mark.slow
def test_a_pretrained_lenet(shared: Path, tmp_path: Path) -> None:
    mnist = data.load("mnist", data_dir=tmp_path, manual_dir=shared / "data" / "mnist")

    x, y = inputs(mnist.train.images), jnp.asarray(mnist.train.labels)
    x_test, y_test = inputs(mnist.test.images), jnp.asarray(mnist.test.labels)
    network = LeNet5(conv_general_dilated=banded_conv)
    steps = len(x) // BATCH

    variables = network.init(jax.random.key(0), x[:1])
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-3, PRETRAINING_EPOCHS * steps))
    opt_state = optimizer.init(variables)

    @jax.jit
    def plain_step(variables: Any, opt_state: Any, rows: Any) -> Any:
        grads = jax.grad(lambda v: cross_entropy(network.apply(v, x[rows]), y[rows]))(variables)
        with jax.numpy_dtype_promotion("standard"):  # which optax's schedules need
            updates, opt_state = optimizer.update(grads, opt_state)
        return optax.apply_updates(variables, updates), opt_state

    for epoch in range(PRETRAINING_EPOCHS):
        for rows in batches(epoch, len(x)):
            variables, opt_state = plain_step(variables, opt_state, rows)

    def score(logits_fn: Callable[[Any, Any], Any], num_samples: int) -> tuple[float, float]:
        found = predict(
            jax.random.key(1), jax.jit(logits_fn), x_test, num_samples, likelihood=Categorical()
        )
        probabilities = jnp.asarray(found.probabilities)
        accuracy = float(metrics.accuracy(probabilities, y_test))
        return accuracy, float(metrics.nll(probabilities, y_test))

    plain_accuracy, plain_nll = score(lambda key, x: network.apply(variables, x), 1)
    model = to_bnn(
        network,
        variables,
        initial_std=0.1,
        relative=True,
        prior=priors.centred_on(variables["params"], std=0.1),
    )
    converted_accuracy, converted_nll = score(
        lambda key, x: model.apply(key, model.posterior, x), 32
    )

    optimizer = optax.adam(optax.cosine_decay_schedule(1e-3, steps))
    step = train.build_step(model.forward(), cross_entropy, optimizer, model.prior, num_data=len(x))
    step = jax.jit(step, donate_argnums=0)
    state = train.init(model.posterior, optimizer)
    for rows in batches(100, len(x)):
        state, _ = step(state, jax.random.key(2), (x[rows], y[rows]))
    trained_accuracy, trained_nll = score(lambda key, x: model.apply(key, state.posterior, x), 32)

    print(f"\npretrained {100 * plain_accuracy:.2f} % {plain_nll:.4f}")
    print(f"converted  {100 * converted_accuracy:.2f} % {converted_nll:.4f}")
    print(f"one epoch  {100 * trained_accuracy:.2f} % {trained_nll:.4f}")
    assert plain_accuracy >= 0.989
    assert converted_accuracy >= plain_accuracy - 0.002
    assert trained_nll < plain_nll
