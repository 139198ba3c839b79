"""The variance of stochastic gradients of a network of three hidden layers, and its training."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from bnn_jax import gaussian, to_bnn, train
from bnn_jax.transforms import BayesianModel

BOTTOM, TOP = "layers_0/kernel", "layers_6/kernel"


def network(width: int) -> nn.Module:
    """Three hidden layers of rectified linear units, as users write it."""
    hidden = [layer for _ in range(3) for layer in (nn.Dense(width), nn.relu)]
    return nn.Sequential([*hidden, nn.Dense(10)])


def cross_entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def flat_images(images: Any) -> jax.Array:
    """(examples, pixels) in 0..1."""
    return jnp.asarray(np.asarray(images).reshape(len(images), -1), jnp.float32) / 255.0


def converted(width: int, pixels: int, estimator: str) -> BayesianModel:
    module = network(width)
    variables = module.init(jax.random.key(0), jnp.zeros((1, pixels)))
    return to_bnn(module, variables, estimator=estimator, where="kernels")


def dropout_posterior(params: Any) -> Any:
    """Variational dropout with independent weight noise: N(w, alpha w^2) around each kernel.

    alpha = p / (1 - p) for dropout rates p of 0.2 at the pixels and 0.5 at hidden units. It is
    fixed, so the KL from the paper's prior is a constant and the ELBO is the expected likelihood.
    """

    def leaf(path: Any, w: Any) -> Any:
        name = gaussian.path_name(path)
        if not name.endswith("kernel"):
            return w
        return gaussian.centred(w, 0.5 if name == BOTTOM else 1.0, relative=True)

    return jax.tree_util.tree_map_with_path(leaf, params)


def dropout_loss(model: BayesianModel, params: Any, key: Any, x: Any, labels: Any) -> Any:
    return cross_entropy(model.apply(key, dropout_posterior(params), x), labels)


def trained(
    model: BayesianModel, x: Any, labels: Any, *, steps: int, batch: int, learning_rate: float
) -> Any:
    """The params after some steps of Adam on the ELBO of variational dropout."""
    optimizer = optax.adam(learning_rate)

    def step(carry: Any, key: Any) -> tuple[Any, None]:
        params, state = carry
        data_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(data_key, (batch,), 0, len(x))
        loss = partial(dropout_loss, model)
        grads = jax.grad(loss)(params, noise_key, x[chosen], labels[chosen])
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def run(params: Any, keys: Any) -> Any:
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[0][0]

    return run(model.network.params, jax.random.split(jax.random.key(1), steps))


def trained_by_elbo(model: BayesianModel, x: Any, labels: Any, *, steps: int, batch: int) -> Any:
    """The posterior after some steps of Adam on the ELBO, means and stds learned."""
    optimizer = optax.adam(1e-3)
    step = train.build_step(model.forward(), cross_entropy, optimizer, model.prior, num_data=len(x))

    @jax.jit
    def run(state: Any, keys: Any) -> Any:
        def body(now: Any, key: Any) -> tuple[Any, None]:
            chosen = jax.random.randint(key, (batch,), 0, len(x))
            return step(now, jax.random.key(2), (x[chosen], labels[chosen]))[0], None

        return jax.lax.scan(body, state, keys)[0]

    keys = jax.random.split(jax.random.key(1), steps)
    return run(train.init(model.posterior, optimizer), keys).posterior


def of_means(model: BayesianModel, posterior: Any) -> Callable[[Any, Any, Any], dict[str, Any]]:
    """The gradient of the loss with respect to the means of the kernels."""

    def loss(q: Any, key: Any, x: Any, labels: Any) -> Any:
        return cross_entropy(model.apply(key, q, x), labels)

    def gradient(key: Any, x: Any, labels: Any) -> dict[str, Any]:
        grads = gaussian.random_leaves(jax.grad(loss)(posterior, key, x, labels))
        return {path: q.mean for path, q in grads.items()}

    return gradient


def gradient_variance(
    gradient: Callable[[Any, Any, Any], dict[str, Any]],
    x: Any,
    labels: Any,
    *,
    batch: int,
    pairs: int,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Estimates of the variance of a stochastic gradient, summed over each weight's elements.

    Args:
        gradient: (key of the noise, x, labels) -> {path: gradient of the mean loss}.
        batch: examples, drawn independently and with replacement.
        pairs: number of estimates, each half the squared distance of two independent gradients.

    Returns:
        {path: (pairs,)}, whose mean is the variance and whose spread gives its error.
    """

    def draw(key: Any) -> dict[str, Any]:
        data_key, noise_key = jax.random.split(key)
        chosen = jax.random.randint(data_key, (batch,), 0, len(x))
        return gradient(noise_key, x[chosen], labels[chosen])

    def pair(key: Any) -> dict[str, Any]:
        # A loop, not two calls, so that the gradient is compiled once.
        two = jax.lax.map(draw, jax.random.split(key))
        return {path: 0.5 * jnp.sum(jnp.square(g[0] - g[1])) for path, g in two.items()}

    keys = jax.random.split(jax.random.key(seed), pairs)
    found = jax.jit(lambda k: jax.lax.map(pair, k))(keys)
    return {path: np.asarray(v, np.float64) for path, v in found.items()}


def of_dropout(model: BayesianModel, params: Any) -> Callable[[Any, Any, Any], dict[str, Any]]:
    """The gradient of the loss with respect to the kernels, under dropout's posterior."""

    def gradient(key: Any, x: Any, labels: Any) -> dict[str, Any]:
        loss = partial(dropout_loss, model)
        grads = jax.grad(loss)(params, key, x, labels)
        leaves = jax.tree_util.tree_leaves_with_path(grads)
        named = {gaussian.path_name(path): g for path, g in leaves}
        return {path: g for path, g in named.items() if path.endswith("kernel")}

    return gradient


def slope(batches: Any, variances: Any) -> float:
    """Of log variance against log batch size."""
    return float(np.polyfit(np.log(batches), np.log(variances), 1)[0])
