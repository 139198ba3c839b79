"""Have Markov chains mixed? R-hat and the effective sample size of a number along the chains.

Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner 2021, "Rank-normalization, folding, and
localization: an improved R-hat", arXiv:1903.08008 (split R-hat, equations 1 to 4); Geyer 1992,
"Practical Markov chain Monte Carlo" (initial positive sequence).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Chains = Float[Array, "chains samples"]


def r_hat(chains: Chains) -> Float[Array, ""]:
    """Returns the split R-hat: near 1 if all halves of all chains have one distribution."""
    half = chains.shape[1] // 2
    parts = jnp.concatenate([chains[:, :half], chains[:, half : 2 * half]])
    within = jnp.mean(jnp.var(parts, axis=1, ddof=1))
    between = half * jnp.var(jnp.mean(parts, axis=1), ddof=1)
    return jnp.sqrt(((half - 1) / half * within + between / half) / within)


def effective_sample_size(chains: Chains) -> float:
    """Returns the number of independent samples with the same error of the mean."""
    x = np.asarray(chains, np.float64)
    count, length = x.shape
    centred = x - x.mean(axis=1, keepdims=True)
    size = 2 ** int(np.ceil(np.log2(2 * length)))
    spectrum = np.abs(np.fft.rfft(centred, size, axis=1)) ** 2
    autocovariance = np.fft.irfft(spectrum, size, axis=1)[:, :length] / length
    within = autocovariance[:, 0].mean() * length / (length - 1)
    means = x.mean(axis=1)
    between = means.var(ddof=1) if count > 1 else 0.0
    total = within * (length - 1) / length + between
    rho = 1.0 - (within - autocovariance.mean(axis=0) * length / (length - 1)) / total
    pairs = rho[: length // 2 * 2].reshape(-1, 2).sum(axis=1)
    stop = int(np.argmax(pairs < 0)) if (pairs < 0).any() else len(pairs)
    monotone = np.minimum.accumulate(pairs[:stop])
    time = max(-1.0 + 2.0 * monotone.sum(), 1.0 / np.log10(max(count * length, 10)))
    return float(count * length / time)
