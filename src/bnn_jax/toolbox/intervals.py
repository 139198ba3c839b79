"""Calibration and sharpness of predicted intervals and quantiles.

Report the coverage and the width of intervals together: either one alone is easy to achieve. A
whole predictive distribution is calibrated if its PIT values (probability integral transform),
cdf(target), are uniform.

Arrays have the examples on axis 0; further axes are further outputs, and a score is the mean over
all. Outside `jit`, NaN is an error; the ends of an interval may be infinite.

Sources: Gneiting, Balabdaoui, Raftery 2007, "Probabilistic forecasts, calibration and sharpness",
doi:10.1111/j.1467-9868.2007.00587.x; Gneiting, Raftery 2007, doi:10.1198/016214506000001437,
equation 43 (interval score); Kuleshov, Fenner, Ermon 2018, arXiv:1807.00263 (quantile
frequencies).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtr
from jaxtyping import Array, Float

from bnn_jax.toolbox import _examples
from bnn_jax.toolbox._examples import ArrayIn, Weights
from bnn_jax.toolbox._predictive import Numbers, Samples, mean_std_targets, samples_and_targets

LEVELS = tuple(i / 20 for i in range(1, 20))


def coverage(
    low: Numbers, high: Numbers, targets: Numbers, *, weights: Weights = None
) -> Float[Array, ""]:
    """Fraction of targets inside their interval, both ends included."""
    low, high, y = _low_high_targets(low, high, targets)
    return _examples.mean_of(_inside, _examples.example_weights(weights, y), low, high, y)


def mean_width(low: Numbers, high: Numbers, *, weights: Weights = None) -> Float[Array, ""]:
    """Mean width of intervals (sharpness), in the unit of the targets."""
    low, high = _low_high(low, high)
    return _examples.mean_of(_width, _examples.example_weights(weights, low), low, high)


def interval_score(
    low: Numbers, high: Numbers, targets: Numbers, *, level: float, weights: Weights = None
) -> Float[Array, ""]:
    """Mean of width + 2 / (1 - level) * (distance of the target from the interval).

    In the unit of the targets. This is a proper score for central intervals that should contain a
    fraction `level` of the targets: its expectation is smallest for the true quantiles.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level of an interval must be in (0, 1), got {level!r}.")
    low, high, y = _low_high_targets(low, high, targets)
    w = _examples.example_weights(weights, y)
    return _examples.mean_of(_winkler, w, low, high, y, level)


def pit_gaussian(
    mean: Numbers, std: Numbers, targets: Numbers
) -> Float[Array, " examples *outputs"]:
    """Returns the probability under N(mean, std^2) of a value below the target, in [0, 1]."""
    m, s, y = mean_std_targets(mean, std, targets)
    return ndtr((y - m) / s)


def pit_samples(samples: Samples, targets: Numbers) -> Float[Array, " examples *outputs"]:
    """Returns the fraction of samples below the target, in [0, 1]; equal ones count one half."""
    x, y = samples_and_targets(samples, targets)
    below, equal = ((x < y[None]).astype(x.dtype), (x == y[None]).astype(x.dtype))
    return jnp.mean(below + 0.5 * equal, axis=0)


def quantile_frequencies(
    pit: Numbers,
    *,
    levels: Sequence[float] | Float[ArrayIn, " levels"] = LEVELS,
    weights: Weights = None,
) -> Float[Array, " levels"]:
    """Returns the frequency of targets at or below the predicted quantile, for each level.

    For calibrated predictions the frequencies are equal to the levels. With abs(2 * pit - 1) in
    place of the PIT values, the result is the coverage of central intervals of these levels.
    """
    (values,) = _examples.floats(pit=pit)
    concrete = _examples.known(values)
    if concrete is not None and not ((concrete >= 0) & (concrete <= 1)).all():
        raise ValueError(
            "pit values must be in [0, 1], got "
            f"{concrete.min():.4g} .. {concrete.max():.4g}: pass pit_gaussian or pit_samples."
        )
    w = _examples.example_weights(weights, values)
    asked = jnp.asarray(levels, values.dtype)
    known = _examples.known(asked)
    if known is not None and not ((known >= 0) & (known <= 1)).all():
        raise ValueError(f"levels must be in [0, 1], got {known.min():.4g} .. {known.max():.4g}.")
    return _frequencies(values, asked, w)


def quantile_calibration_error(
    pit: Numbers,
    *,
    levels: Sequence[float] | Float[ArrayIn, " levels"] = LEVELS,
    weights: Weights = None,
) -> Float[Array, ""]:
    """Mean over levels of |frequency - level|, in [0, 1]; levels 0.05, 0.1, ... 0.95 by default."""
    frequencies = quantile_frequencies(pit, levels=levels, weights=weights)
    return jnp.mean(jnp.abs(frequencies - jnp.asarray(levels, frequencies.dtype)))


def _low_high(low: ArrayIn, high: ArrayIn) -> tuple[Array, Array]:
    lower, upper = _examples.floats(low=low, high=high)
    _examples.check_not_nan("low", lower)
    _examples.check_not_nan("high", upper)
    if (known := _examples.known(upper - lower)) is not None and (known < 0).mean() > 0.5:
        raise ValueError(
            f"low must be at most high, and is above it in {int((known < 0).sum())} of "
            f"{known.size} intervals: exchange the two. (A few crossing quantiles are accepted.)"
        )
    return lower, upper


def _low_high_targets(low: ArrayIn, high: ArrayIn, targets: ArrayIn) -> tuple[Array, Array, Array]:
    lower, upper, y = _examples.floats(low=low, high=high, targets=targets)
    _low_high(lower, upper)
    _examples.check_finite("targets", y)
    return lower, upper, y


def _inside(low: Array, high: Array, y: Array) -> Array:
    return ((low <= y) & (y <= high)).astype(y.dtype)


def _width(low: Array, high: Array) -> Array:
    return high - low


def _winkler(low: Array, high: Array, y: Array, level: Array) -> Array:
    outside = jnp.maximum(low - y, 0) + jnp.maximum(y - high, 0)
    return high - low + 2 / (1 - level) * outside


@jax.jit
def _frequencies(pit: Array, levels: Array, w: Array) -> Array:
    below = pit.reshape(len(pit), -1, 1) <= levels.reshape(1, 1, -1)
    per_example = jnp.mean(below.astype(pit.dtype), axis=1)
    return jnp.sum(w[:, None] * per_example, axis=0) / jnp.sum(w)
