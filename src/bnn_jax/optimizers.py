"""MindSpore's AdamWeightDecay as an optax transformation."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import PyTree


class AdamWeightDecayState(NamedTuple):
    """The moving averages of the gradient and of its square, zero at the start."""

    mu: PyTree
    nu: PyTree


def adam_weight_decay(
    learning_rate: optax.ScalarOrSchedule,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    mask: PyTree | Callable[[PyTree], PyTree] | None = None,
) -> optax.GradientTransformation:
    """Returns MindSpore's AdamWeightDecay: Adam with decoupled weight decay, no bias correction.

        mu <- b1 mu + (1 - b1) g,  nu <- b2 nu + (1 - b2) g^2
        p  <- p - learning_rate (mu / (sqrt(nu) + eps) + weight_decay p)

    Without the correction the first steps are large: (1 - b1) / sqrt(1 - b2) = 3.2 times the
    learning rate, where Adam's is one.

    Args:
        learning_rate: a number, or an optax schedule of the step.
        b1: the decay of the gradient's moving average.
        b2: the decay of the moving average of its square.
        eps: added to the square root.
        weight_decay: decoupled from the gradient, and scaled by the learning rate.
        mask: which parameters decay: a tree of booleans, or a function of the parameters that gives
            one; None for all. (MindSpore leaves out those named gamma and beta.)
    """

    def init(params: PyTree) -> AdamWeightDecayState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamWeightDecayState(mu=zeros, nu=zeros)

    def update(
        updates: PyTree, state: AdamWeightDecayState, params: PyTree | None = None
    ) -> tuple[PyTree, AdamWeightDecayState]:
        del params
        mu = jax.tree.map(lambda m, g: b1 * m + (1 - b1) * g, state.mu, updates)
        nu = jax.tree.map(lambda n, g: b2 * n + (1 - b2) * jnp.square(g), state.nu, updates)
        step = jax.tree.map(lambda m, n: m / (jnp.sqrt(n) + eps), mu, nu)
        return step, AdamWeightDecayState(mu, nu)

    steps = [optax.GradientTransformation(init, update)]
    if weight_decay:
        steps.append(optax.add_decayed_weights(weight_decay, mask))
    return optax.chain(*steps, optax.scale_by_learning_rate(learning_rate))
