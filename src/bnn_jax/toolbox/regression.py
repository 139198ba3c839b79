"""Errors and proper scores of predictions of numbers; lower is better.

Arrays have the examples on axis 0; further axes are further outputs, and a score is the mean over
examples and outputs. Every function runs inside `jit` and takes `weights`: an example of weight w
counts as w copies. Outside `jit`, NaN or infinite values are errors.

Sources: Gneiting, Raftery 2007, "Strictly proper scoring rules, prediction, and estimation",
doi:10.1198/016214506000001437 (CRPS); Ferro 2014, "Fair scores for ensemble forecasts",
doi:10.1002/qj.2270; Koenker, Bassett 1978, "Regression quantiles" (pinball loss).
"""

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import Weights
from bnn_jax.toolbox._predictive import Numbers, Samples, mean_std_targets, samples_and_targets


def rmse(predictions: Numbers, targets: Numbers, *, weights: Weights = None) -> Float[Array, ""]:
    """Root mean squared error, in the unit of the targets."""
    m, y = _examples.finite_floats(predictions=predictions, targets=targets)
    return jnp.sqrt(_examples.mean_of(_squared_error, _examples.example_weights(weights, m), m, y))


def gaussian_nll(
    mean: Numbers, std: Numbers, targets: Numbers, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean negative log density of N(mean, std^2) at the targets, in nats per number."""
    m, s, y = mean_std_targets(mean, std, targets)
    return _examples.mean_of(_gaussian_nll, _examples.example_weights(weights, m), m, s, y)


def crps_gaussian(
    mean: Numbers, std: Numbers, targets: Numbers, *, weights: Weights = None
) -> Float[Array, ""]:
    """Mean continuous ranked probability score of N(mean, std^2), in the unit of the targets.

    This is the integral of (cdf(x) - [x >= y])^2 over x, in closed form; it tends to the absolute
    error as std goes to 0.

        std * (z * (2 * Phi(z) - 1) + 2 * phi(z) - 1 / sqrt(pi)),    z = (y - mean) / std
    """
    m, s, y = mean_std_targets(mean, std, targets)
    return _examples.mean_of(_crps_gaussian, _examples.example_weights(weights, m), m, s, y)


def crps_samples(
    samples: Samples,
    targets: Numbers,
    *,
    fair: bool = True,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Mean continuous ranked probability score of predictive samples, in the unit of the targets.

        E|X - y| - E|X - X'| / 2

    Args:
        samples: draws of the target, noise included; not of its mean alone.
        targets: the observed values.
        fair: if True, the second mean is over pairs of different samples. The result is an unbiased
            estimate of the score of the distribution that the samples come from, and can be below
            0. If False, the mean is over all pairs: the score of the empirical distribution of the
            samples, which is higher by E|X - X'| / (2 * number of samples).
        weights: one per example.

    Raises:
        ValueError: fewer than two samples with `fair`, or shapes that do not match.

    The cost is samples * log(samples) per target, for samples are sorted.
    """
    x, y = samples_and_targets(samples, targets)
    if fair and len(x) < 2:
        raise ValueError(f"The fair CRPS needs at least 2 samples, got {len(x)}: pass fair=False.")
    score = _crps_fair if fair else _crps_plain
    return _examples.mean_of(score, _examples.example_weights(weights, y), x, y)


def pinball(
    quantiles: Numbers, targets: Numbers, *, level: float, weights: Weights = None
) -> Float[Array, ""]:
    """Mean pinball loss of predicted quantiles of one level, in the unit of the targets.

    The loss is level * (y - q) for a target above q and (1 - level) * (q - y) below. The true
    quantile minimises its expectation. At level 0.5 it is half the absolute error.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level of a quantile must be in (0, 1), got {level!r}.")
    q, y = _examples.finite_floats(quantiles=quantiles, targets=targets)
    return _examples.mean_of(_pinball, _examples.example_weights(weights, y), q, y, level)


def _squared_error(m: Array, y: Array) -> Array:
    return jnp.square(y - m)


def _gaussian_nll(m: Array, s: Array, y: Array) -> Array:
    return 0.5 * (jnp.square((y - m) / s) + np.log(2 * np.pi)) + jnp.log(s)


def _crps_gaussian(m: Array, s: Array, y: Array) -> Array:
    z = (y - m) / s
    density = jnp.exp(-0.5 * jnp.square(z)) / np.sqrt(2 * np.pi)
    return s * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))


def _crps_fair(x: Array, y: Array) -> Array:
    return _crps_of_pairs(x, y, pairs=len(x) * (len(x) - 1))


def _crps_plain(x: Array, y: Array) -> Array:
    return _crps_of_pairs(x, y, pairs=len(x) ** 2)


def _crps_of_pairs(x: Array, y: Array, *, pairs: int) -> Array:
    # Both terms depend on differences only, and small numbers lose less to rounding.
    distance = x - y[None]
    ranks = np.arange(1 - len(x), len(x), 2).reshape(-1, *(1,) * y.ndim)
    spread = jnp.sum(jnp.asarray(ranks, x.dtype) * jnp.sort(distance, axis=0), axis=0) / pairs
    return jnp.mean(jnp.abs(distance), axis=0) - spread


def _pinball(q: Array, y: Array, level: Array) -> Array:
    return jnp.maximum(level * (y - q), (level - 1) * (y - q))
