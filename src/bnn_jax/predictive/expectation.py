"""The expected log probability of targets under the moments of a network's outputs.

The outputs are taken to be independent normal variables with mean m and variance v.

    Normal             E log N(y; m, s^2) = -1/2 (log 2 pi + 2 E log s + ((y - m)^2 + v) E s^-2),
                       exact for a given s; for a network's own s = softplus(rho) + 1e-6 the two
                       expectations over rho are by Gauss-Hermite quadrature
    Poisson            y m - exp(m + v / 2) - log y!, exact
    one output for     Gauss-Hermite quadrature of each output: Bernoulli, and StudentT with a
    each target        given scale
    others             the average over the points of `output_points`: Categorical

Source: Wu, Nowozin, Meeds, Turner, Hernandez-Lobato, Gaunt 2019, arXiv:1810.03958, section 3.2.
Their network returns log s^2 in place of rho, and they keep the covariance of mean and log s^2,
which is neglected here like all others.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, PyTree

from bnn_jax.likelihoods import (
    Bernoulli,
    Likelihood,
    Normal,
    PerExample,
    Poisson,
    StudentT,
)
from bnn_jax.predictive import output_points

NODES = 20  # of Gauss-Hermite quadrature


def expected_log_prob(likelihood: Likelihood, outputs: PyTree, targets: Array) -> PerExample:
    """Returns the expected log probability (density) of each example, in nats.

    Args:
        likelihood: one of `bnn_jax.likelihoods`.
        outputs: as `moments.outputs` returns them.
        targets: array (examples, ...).

    Raises:
        ValueError, TypeError: outputs or targets that do not fit the likelihood.
    """
    at_means: Array = likelihood.log_prob(output_points.means(outputs), targets)
    if isinstance(likelihood, Normal):
        return _normal(likelihood, outputs, targets)
    if isinstance(likelihood, Poisson):
        rate = jnp.exp(outputs.mean + 0.5 * outputs.variance)
        counts = targets.astype(rate.dtype)
        return _summed(counts * outputs.mean - rate - gammaln(counts + 1.0))
    given = isinstance(likelihood, StudentT) and likelihood.scale is not None
    if given or isinstance(likelihood, Bernoulli):
        nodes, weights = _hermite(at_means.dtype)

        def at_node(z: Array) -> Array:
            return likelihood.log_prob(output_points.shifted(outputs, z), targets)

        return jnp.einsum("s,sn->n", weights, jax.vmap(at_node)(nodes))
    at = output_points.at_points(outputs)
    points = jnp.arange(output_points.POINTS)
    return jnp.mean(jax.vmap(lambda s: likelihood.log_prob(at(s), targets))(points), axis=0)


def _normal(likelihood: Normal, outputs: PyTree, targets: Array) -> Array:
    # The likelihood's mean picks the location out of the outputs; of their variances, its variance.
    mean = likelihood.mean(output_points.means(outputs))
    variance = likelihood.mean(output_points.variances(outputs))
    if likelihood.std is None:
        nodes, weights = _hermite(mean.dtype)
    else:
        nodes, weights = jnp.zeros(1, mean.dtype), jnp.ones(1, mean.dtype)
    # Only rho moves the variance of the noise, so shifting all outputs is shifting rho.
    noise = jax.vmap(lambda z: likelihood.variance(output_points.shifted(outputs, z)))(nodes)
    log_variance = jnp.tensordot(weights, jnp.log(noise), 1)
    precision = jnp.tensordot(weights, 1.0 / noise, 1)
    squares = jnp.square(targets.astype(mean.dtype) - mean) + variance
    return _summed(-0.5 * (math.log(2.0 * math.pi) + log_variance + squares * precision))


def _hermite(dtype: jnp.dtype) -> tuple[Array, Array]:
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
    return jnp.asarray(nodes, dtype), jnp.asarray(weights / weights.sum(), dtype)


def _summed(values: Array) -> Array:
    """The sum over all axes but that of the examples."""
    return jnp.sum(values, axis=tuple(range(1, values.ndim)))
