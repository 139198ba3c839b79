"""The loss with two factors, and the weight of the KL over the course of training.

    loss = dnn_factor * data_loss + bnn_factor * KL(posterior || prior)

If the data loss is the mean negative log likelihood of a batch and there are N training examples,
dnn_factor = 1 and bnn_factor = 1 / N make the loss the negative ELBO per training example, in nats,
for any batch size: `elbo_factors(num_data=N)`. (N and 1 give N times that.)

A schedule is a function of the step that multiplies bnn_factor.

Sources: the factors are MindSpore's `WithBNNLossCell`; Blundell et al. 2015, arXiv:1505.05424,
section 3.4 (minibatch weights); Bowman et al. 2016, arXiv:1511.06349 (linear warm-up);
Fu et al. 2019, arXiv:1903.10145 (cyclical).
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from bnn_jax._parameters import check_count

# From the number of steps taken to the multiplier of bnn_factor.
Schedule = Callable[[ArrayLike], ArrayLike]


def bnn_loss(
    data_loss: Float[Array, "..."],
    kl: Float[Array, ""],
    *,
    dnn_factor: float | Float[Array, ""] = 1.0,
    bnn_factor: float | Float[Array, ""] = 1.0,
) -> Float[Array, ""]:
    """Returns dnn_factor * data_loss + bnn_factor * kl, for a data loss reduced to a scalar."""
    if jnp.ndim(data_loss) != 0:
        raise ValueError(
            f"The data loss must be a scalar, got shape {jnp.shape(data_loss)}: return the mean "
            "over the batch from loss_fn."
        )
    return dnn_factor * data_loss + bnn_factor * kl


def elbo_factors(num_data: int) -> tuple[float, float]:
    """Returns (1, 1 / num_data), the factors of the negative ELBO per training example."""
    if isinstance(num_data, bool) or not isinstance(num_data, int) or num_data < 1:
        raise ValueError(
            f"num_data, the number of training examples, must be an integer of at least 1, got "
            f"{num_data!r}."
        )
    return 1.0, 1.0 / num_data


def check_factor(name: str, value: object) -> float:
    """Returns a factor of the loss: an int or a float that is not negative, as in MindSpore."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be an int or a float, got {value!r}.")
    if not value >= 0:
        raise ValueError(f"{name} must be at least 0, got {value!r}.")
    return float(value)


def factors(
    num_data: int | None, dnn_factor: float | None, bnn_factor: float | None
) -> tuple[float, float]:
    """Returns (dnn_factor, bnn_factor): those of the ELBO for num_data examples, or the given ones.

    Raises:
        ValueError, TypeError: both num_data and factors, or neither; values out of range.
    """
    given = f"num_data={num_data}, dnn_factor={dnn_factor}, bnn_factor={bnn_factor}"
    if num_data is not None:
        if dnn_factor is not None or bnn_factor is not None:
            raise ValueError(f"Set num_data, or dnn_factor and bnn_factor, not both; got {given}.")
        return elbo_factors(num_data)
    if dnn_factor is None or bnn_factor is None:
        raise ValueError(f"Set num_data, or both dnn_factor and bnn_factor; got {given}.")
    return check_factor("dnn_factor", dnn_factor), check_factor("bnn_factor", bnn_factor)


def constant() -> Schedule:
    """A schedule that is 1 at every step: the ELBO."""
    return lambda step: jnp.ones((), jnp.float32)


def linear(*, warmup_steps: int) -> Schedule:
    """A schedule that rises from 0 to 1 over the first steps and stays at 1."""
    check_count("warmup_steps", warmup_steps)
    return lambda step: jnp.minimum(jnp.asarray(step, jnp.float32) / warmup_steps, 1.0)


def cyclical(*, total_steps: int, cycles: int, ramp: float = 0.5) -> Schedule:
    """A schedule of `cycles` cycles, each from 0 to 1 over a fraction `ramp`, then 1."""
    check_count("total_steps", total_steps)
    check_count("cycles", cycles)
    if not 0.0 < ramp <= 1.0:
        raise ValueError(f"ramp must be above 0 and at most 1, got {ramp!r}.")
    period = total_steps / cycles

    def schedule(step: ArrayLike) -> Array:
        position = jnp.mod(jnp.asarray(step, jnp.float32), period) / period
        return jnp.minimum(position / ramp, 1.0)

    return schedule


def blundell(*, num_batches: int) -> Schedule:
    """A schedule of num_batches * 2^(M - i) / (2^M - 1) for batch i = 1..M of each epoch.

    The KL weighs most in the first batches of an epoch. The weights of an epoch sum to M, as with
    `constant`.
    """
    check_count("num_batches", num_batches)

    def schedule(step: ArrayLike) -> Array:
        i = jnp.mod(jnp.asarray(step, jnp.int32), num_batches).astype(jnp.float32) + 1.0
        # 2^(M - i) / (2^M - 1) overflows from M = 128; this is the same.
        return num_batches * jnp.exp2(-i) / -jnp.expm1(-num_batches * jnp.log(2.0))

    return schedule
