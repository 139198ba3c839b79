"""The loss with two factors, and the weight of the KL over the course of training.

    loss = dnn_factor * data_loss + bnn_factor * KL(posterior || prior)

With a data loss that is the mean negative log likelihood of a batch, and N training examples,
dnn_factor = 1 and bnn_factor = 1 / N make the loss the negative ELBO per training example, in nats,
whatever the batch size: `elbo_factors(num_data=N)`. (N and 1 give the same times N.)

A schedule is a function of the step that multiplies bnn_factor.

Sources: the factors are MindSpore's `WithBNNLossCell`; Blundell et al. 2015, arXiv:1505.05424,
section 3.4 (minibatch weights); Bowman et al. 2016, arXiv:1511.06349 (linear warm-up);
Fu et al. 2019, arXiv:1903.10145 (cyclical).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

Schedule = Callable[[Any], Any]


def bnn_loss(
    data_loss: Float[Array, "..."],
    kl: Float[Array, ""],
    *,
    dnn_factor: Any = 1.0,
    bnn_factor: Any = 1.0,
) -> Float[Array, ""]:
    """dnn_factor * data_loss + bnn_factor * kl, for a data loss reduced to a scalar."""
    if jnp.ndim(data_loss) != 0:
        raise ValueError(
            f"The data loss has to be a scalar, got shape {jnp.shape(data_loss)}: let loss_fn "
            "return the mean over the batch. (The KL is added once, not to every element.)"
        )
    return dnn_factor * data_loss + bnn_factor * kl


def elbo_factors(num_data: int) -> tuple[float, float]:
    """(dnn_factor, bnn_factor) = (1, 1 / num_data): the negative ELBO per training example."""
    if isinstance(num_data, bool) or not isinstance(num_data, int) or num_data < 1:
        raise ValueError(
            f"num_data is the number of training examples, an integer >= 1; got {num_data!r}."
        )
    return 1.0, 1.0 / num_data


def check_factor(name: str, value: Any) -> float:
    """A factor of the loss: an int or a float that is not negative, as in MindSpore."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} has to be an int or a float, got {value!r}.")
    if not value >= 0:
        raise ValueError(f"{name} has to be >= 0, got {value!r}.")
    return float(value)


def constant() -> Schedule:
    """1 at every step: the ELBO."""
    return lambda step: jnp.ones((), jnp.float32)


def linear(*, warmup_steps: int) -> Schedule:
    """From 0 to 1 over the first steps, then 1."""
    _at_least_one("warmup_steps", warmup_steps)
    return lambda step: jnp.minimum(jnp.asarray(step, jnp.float32) / warmup_steps, 1.0)


def cyclical(*, total_steps: int, cycles: int, ramp: float = 0.5) -> Schedule:
    """`cycles` times from 0 to 1 over a fraction `ramp` of the cycle, then 1 until its end."""
    _at_least_one("total_steps", total_steps)
    _at_least_one("cycles", cycles)
    if not 0.0 < ramp <= 1.0:
        raise ValueError(f"ramp is the rising fraction of a cycle, 0 < ramp <= 1; got {ramp!r}.")
    period = total_steps / cycles

    def schedule(step: Any) -> Any:
        position = jnp.mod(jnp.asarray(step, jnp.float32), period) / period
        return jnp.minimum(position / ramp, 1.0)

    return schedule


def blundell(*, num_batches: int) -> Schedule:
    """num_batches * 2^(M - i) / (2^M - 1) for batch i = 1..M of each epoch.

    The KL weighs most in the first batches of an epoch and fades; the weights of an epoch sum to M,
    so over an epoch the KL counts exactly as much as with `constant`.
    """
    _at_least_one("num_batches", num_batches)

    def schedule(step: Any) -> Any:
        i = jnp.mod(jnp.asarray(step, jnp.int32), num_batches).astype(jnp.float32) + 1.0
        # 2^(M - i) / (2^M - 1) overflows from M = 128; this is the same.
        return num_batches * jnp.exp2(-i) / -jnp.expm1(-num_batches * jnp.log(2.0))

    return schedule


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name} has to be >= 1, got {value!r}.")
