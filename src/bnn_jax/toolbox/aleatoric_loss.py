"""Losses by which a network learns the noise of its data, without labels for the noise.

The network predicts its outputs and their noise for each example. A large predicted noise reduces
the cost of errors but has a cost of its own, so the network learns a large noise where errors are
large.

Source: Kendall, Gal 2017, "What Uncertainties Do We Need in Bayesian Deep Learning for Computer
Vision?", arXiv:1703.04977, equations 8 (regression) and 12 (classification).
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, Int

Average = Literal["probabilities", "losses"]
Labels = Int[Array, "batch"]
Draws = Float[Array, "draws #batch #classes"]


def regression(
    outputs: Float[Array, "batch ..."],
    log_variance: Float[Array, "batch ..."],
    targets: Float[Array, "batch ..."],
) -> Float[Array, ""]:
    """Returns the mean over all elements of (y - f)^2 exp(-s) / 2 + s / 2, s the log variance.

    This is the negative log likelihood of a Gaussian in nats, without its constant log(2 pi) / 2.
    """
    if not outputs.shape == log_variance.shape == targets.shape:
        raise ValueError(
            "outputs, log_variance and targets must be of the same shape, got "
            f"{outputs.shape}, {log_variance.shape} and {targets.shape}: reshape the targets, such "
            "as y[:, None]."
        )
    residual = targets.astype(outputs.dtype) - outputs
    return jnp.mean(0.5 * jnp.exp(-log_variance) * jnp.square(residual) + 0.5 * log_variance)


def classification(
    logits: Float[Array, "batch classes"],
    std: Float[Array, "batch classes"],
    labels: Labels,
    noise: Draws,
    *,
    average: Average = "probabilities",
) -> Float[Array, ""]:
    """Returns the mean cross entropy of the noisy logits, logits + std * noise, in nats.

    Args:
        logits: outputs of the network.
        std: standard deviation of the noise of each logit.
        labels: class numbers.
        noise: independent standard normal draws, (draws, batch, classes): one for each logit.
        average: the quantity averaged over draws. "probabilities" is -log of the mean probability
            of the label, as in the paper. "losses" is the mean of -log probability, as in
            MindSpore; it cannot learn the noise, because cross entropy is convex in the logits:
            noise only raises its mean, so the best std is zero for any data.

    MindSpore's value is that of average="losses" with one number per draw, shared by all logits:
    noise of shape (draws, 1, 1).
    """
    if average not in ("probabilities", "losses"):
        raise ValueError(f"average must be 'probabilities' or 'losses', got {average!r}.")
    log_p = jax.nn.log_softmax(logits[None] + std[None] * noise)
    chosen = jnp.take_along_axis(log_p, labels[None, :, None], axis=-1)[..., 0]
    if average == "losses":
        return -jnp.mean(chosen)
    draws = jnp.asarray(noise.shape[0], chosen.dtype)
    return jnp.mean(jnp.log(draws) - logsumexp(chosen, axis=0))
