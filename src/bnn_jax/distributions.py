"""Methods of MindSpore's distributions that NumPyro lacks or defines differently.

NumPyro stands in for `mindspore.nn.probability.distribution` and `.bijector`; the table of
`docs/mindspore.md` lists the counterpart of every class and method. The functions here
fill the gaps: densities outside the support, distribution functions of discrete variables, modes
and divergences. They take NumPyro's univariate distributions, which are pytrees, so
`jit`, `grad` and `vmap` work on them.

NumPyro is an optional dependency: nothing else in the package imports this module.

Source: Chyzak, Nielsen 2019, arXiv:1905.10965 (divergence of two Cauchy distributions).
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln, rel_entr
from jaxtyping import Array, Float, Shaped

from bnn_jax._extras import optional_import

with optional_import("bnn_jax.distributions"):
    import numpyro.distributions as dist

# A function for each class and its subclasses.
Rules = dict[type, Callable[..., Any]]


def log_prob(d: dist.Distribution, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Returns the log density or log mass at each value, in nats; -inf outside the support.

    NumPyro's own `d.log_prob` checks the support only while it validates arguments, which it does
    not in a jitted function: there, `Uniform(0, 2)` has the density 0.5 at 3.

    Args:
        d: a univariate distribution of NumPyro.
        x: values that broadcast with the batch shape.
    """
    plain, x = _unexpanded(d), _values(d, x)
    if isinstance(plain, dist.Exponential):  # NumPyro's support lacks 0, the most probable value.
        x = jnp.where(x == 0.0, jnp.finfo(x.dtype).tiny, x)
    inside = plain.support(x)
    # Outside, the formulas may be nan, which would make the gradient of the `where` below nan.
    x = jnp.where(inside, x, jnp.asarray(plain.support.feasible_like(x)).astype(x.dtype))
    if isinstance(plain, dist.TransformedDistribution):
        x, log_jacobian, _ = _pulled_back(plain, x)
        value = log_prob(plain.base_dist, x) - log_jacobian
    elif isinstance(plain, dist.CategoricalProbs | dist.CategoricalLogits):
        value = plain.log_prob(x.astype(int))
    else:
        value = plain.log_prob(x)
    return jnp.where(inside, value, -jnp.inf)


def cdf(d: dist.Distribution, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    """Returns P(X <= x) for real x: 0 below the support, 1 above, a step at each discrete value.

    Args:
        d: a univariate distribution of NumPyro.
        x: values that broadcast with the batch shape.

    Raises:
        NotImplementedError: neither NumPyro nor this module has it for this class.
    """
    plain, x = _plain(d), _values(d, x)
    steps = _find(_STEPS, plain)
    if steps is not None:
        return jnp.where(x < 0.0, 0.0, steps(plain, jnp.floor(jnp.maximum(x, 0.0))))
    support = plain.support
    x = jnp.clip(x, getattr(support, "lower_bound", None), getattr(support, "upper_bound", None))
    if isinstance(plain, dist.TransformedDistribution):
        x, _, sign = _pulled_back(plain, x)
        value = cdf(plain.base_dist, x)
        return jnp.where(sign > 0, value, 1.0 - value)
    return _answer(plain, "cdf", {}, lambda d: d.cdf(x))


def mean(d: dist.Distribution) -> Float[Array, "..."]:
    """Returns the mean, in the batch shape; nan where it does not exist.

    A categorical variable counts as the number of its class, as in MindSpore (NumPyro returns nan);
    the mean of an affine transform is the transform of the mean.

    Raises:
        NotImplementedError: there is no closed form, as for other transforms.
    """
    return _answer(d, "mean", _MEAN, lambda d: d.mean)


def variance(d: dist.Distribution) -> Float[Array, "..."]:
    """Returns the variance, in the batch shape.

    A categorical variable counts as the number of its class.

    Raises:
        NotImplementedError: there is no closed form, as for a transform.
    """
    return _answer(d, "variance", _VARIANCE, lambda d: d.variance)


def mode(d: dist.Distribution) -> Shaped[Array, "..."]:
    """Returns the most probable value, in the batch shape; any one of several.

    As in MindSpore, nan where the density of a Beta or Gamma has no maximum inside its support: a
    concentration is 1 or less.

    Raises:
        NotImplementedError: it is not known for this class.
    """
    return _answer(d, "mode", _MODE, lambda d: d.mode)


def entropy(d: dist.Distribution) -> Float[Array, "..."]:
    """Returns the entropy in nats, in the batch shape: NumPyro's, and that of Gumbel.

    Raises:
        NotImplementedError: there is no closed form, as for a Poisson variable.
    """
    return _answer(d, "entropy", _ENTROPY, lambda d: d.entropy())


def kl_divergence(p: dist.Distribution, q: dist.Distribution) -> Float[Array, "..."]:
    """Returns KL(p || q) in nats, in the common batch shape: the mean of log p - log q under p.

    NumPyro's closed forms, and those that only MindSpore has: Bernoulli, Cauchy,
    exponential, geometric, Gumbel, log-normal and uniform distributions.

    Args:
        p: the distribution whose method `kl_loss` is in MindSpore.
        q: the distribution whose parameters `kl_loss` takes; of the same class.

    Raises:
        NotImplementedError: no closed form is known for this pair.
    """
    shape = lax.broadcast_shapes(p.batch_shape, q.batch_shape)
    p, q = _plain(p), _plain(q)
    rule = _find(_KL, p)
    if rule is None or rule is not _find(_KL, q):
        rule = dist.kl_divergence
    try:
        return jnp.broadcast_to(rule(p, q), shape)
    except NotImplementedError:
        raise NotImplementedError(
            f"No closed form of the KL divergence of {type(p).__name__} from {type(q).__name__} is "
            "known. Estimate it: the mean of log_prob(p, x) - log_prob(q, x) over samples x of p."
        ) from None


def _find(rules: Rules, d: dist.Distribution) -> Callable[..., Any] | None:
    return next((rules[cls] for cls in type(d).__mro__ if cls in rules), None)


def _answer(d: dist.Distribution, what: str, rules: Rules, default: Callable[..., Any]) -> Array:
    plain = _plain(d)
    try:
        value = (_find(rules, plain) or default)(plain)
    except NotImplementedError:
        raise NotImplementedError(
            f"No closed form of the {what} of {type(plain).__name__} is known. Estimate it from "
            "samples, d.sample(key, (n,))."
        ) from None
    return jnp.broadcast_to(value, lax.broadcast_shapes(jnp.shape(value), d.batch_shape))


def _unexpanded(d: dist.Distribution) -> dist.Distribution:
    return _unexpanded(d.base_dist) if isinstance(d, dist.ExpandedDistribution) else d


def _plain(d: dist.Distribution) -> dist.Distribution:
    """Returns the distribution without its expansion, and by probabilities instead of logits."""
    d = _unexpanded(d)
    by_probs = _BY_PROBS.get(type(d))
    return by_probs(d.probs) if by_probs else d


def _values(d: dist.Distribution, x: Shaped[Array, "..."]) -> Float[Array, "..."]:
    x = x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(float)
    return jnp.broadcast_to(x, lax.broadcast_shapes(x.shape, d.batch_shape))


def _pulled_back(d: dist.TransformedDistribution, y: Array) -> tuple[Array, Array, Any]:
    """Returns the values x of the base distribution, log |dy/dx|, and the sign of dy/dx."""
    log_jacobian, sign = jnp.zeros_like(y), 1
    for transform in reversed(d.transforms):
        x = transform.inv(y)
        log_jacobian = log_jacobian + transform.log_abs_det_jacobian(x, y)
        y, sign = x, sign * transform.sign
    return y, log_jacobian, sign


def _categorical_steps(d: dist.Distribution, k: Array) -> Array:
    probs = jnp.broadcast_to(d.probs, (*k.shape, d.probs.shape[-1]))
    number = lax.broadcasted_iota(k.dtype, probs.shape, probs.ndim - 1)
    return jnp.sum(jnp.where(number <= k[..., None], probs, 0.0), axis=-1)


def _categorical_mean(d: dist.Distribution) -> Array:
    number = lax.broadcasted_iota(d.probs.dtype, d.probs.shape, d.probs.ndim - 1)
    return jnp.sum(number * d.probs, axis=-1)


def _categorical_variance(d: dist.Distribution) -> Array:
    number = lax.broadcasted_iota(d.probs.dtype, d.probs.shape, d.probs.ndim - 1)
    centred = number - _categorical_mean(d)[..., None]
    return jnp.sum(jnp.square(centred) * d.probs, axis=-1)


def _affine_mean(d: dist.TransformedDistribution) -> Array:
    if not all(isinstance(t, dist.transforms.AffineTransform) for t in d.transforms):
        return d.mean
    value = mean(d.base_dist)
    for transform in d.transforms:
        value = transform(value)
    return value


def _beta_mode(d: dist.Beta) -> Array:
    a, b = d.concentration1 - 1.0, d.concentration0 - 1.0
    return jnp.where((a > 0.0) & (b > 0.0), a / (a + b), jnp.nan)


def _gamma_mode(d: dist.Gamma) -> Array:
    return jnp.where(d.concentration > 1.0, (d.concentration - 1.0) / d.rate, jnp.nan)


def _bernoulli_kl(p: Any, q: Any) -> Array:
    return rel_entr(p.probs, q.probs) + rel_entr(1.0 - p.probs, 1.0 - q.probs)


def _cauchy_kl(p: dist.Cauchy, q: dist.Cauchy) -> Array:
    distance = jnp.square(p.scale + q.scale) + jnp.square(p.loc - q.loc)
    return jnp.log(distance / (4.0 * p.scale * q.scale))


def _exponential_kl(p: dist.Exponential, q: dist.Exponential) -> Array:
    ratio = q.rate / p.rate
    return ratio - 1.0 - jnp.log(ratio)


def _gumbel_kl(p: dist.Gumbel, q: dist.Gumbel) -> Array:
    # Under p, the standardised x of q has the mean shift + euler_gamma * ratio, and exp(-x) the
    # mean exp(-shift) Gamma(1 + ratio).
    ratio, shift = p.scale / q.scale, (p.loc - q.loc) / q.scale
    mean_exp = jnp.exp(gammaln(1.0 + ratio) - shift)
    return shift + jnp.euler_gamma * (ratio - 1.0) - jnp.log(ratio) + mean_exp - 1.0


def _uniform_kl(p: dist.Uniform, q: dist.Uniform) -> Array:
    contained = (q.low <= p.low) & (p.high <= q.high)
    return jnp.where(contained, jnp.log((q.high - q.low) / (p.high - p.low)), jnp.inf)


_BY_PROBS = {
    dist.BernoulliLogits: dist.BernoulliProbs,
    dist.CategoricalLogits: dist.CategoricalProbs,
    dist.GeometricLogits: dist.GeometricProbs,
}
# The distribution function of a discrete variable at the whole number k >= 0.
_STEPS: Rules = {
    dist.BernoulliProbs: lambda d, k: jnp.where(k < 1.0, 1.0 - d.probs, 1.0),
    dist.CategoricalProbs: _categorical_steps,
    dist.GeometricProbs: lambda d, k: -jnp.expm1((k + 1.0) * jnp.log1p(-d.probs)),
    dist.Poisson: lambda d, k: d.cdf(k),
}
_MEAN: Rules = {
    dist.CategoricalProbs: _categorical_mean,
    dist.TransformedDistribution: _affine_mean,
}
_VARIANCE: Rules = {dist.CategoricalProbs: _categorical_variance}
_MODE: Rules = {
    dist.BernoulliProbs: lambda d: jnp.greater(d.probs, 0.5).astype(int),
    dist.Beta: _beta_mode,
    dist.CategoricalProbs: lambda d: jnp.argmax(d.probs, axis=-1),
    dist.Exponential: lambda d: jnp.zeros_like(d.rate),
    dist.Gamma: _gamma_mode,
    dist.GeometricProbs: lambda d: jnp.zeros_like(d.probs, int),
    dist.LogNormal: lambda d: jnp.exp(d.loc - jnp.square(d.scale)),
    dist.Poisson: lambda d: jnp.floor(d.rate),
} | dict.fromkeys(
    (dist.Cauchy, dist.Gumbel, dist.Laplace, dist.Logistic, dist.Normal, dist.StudentT),
    lambda d: d.loc,
)
_ENTROPY: Rules = {dist.Gumbel: lambda d: 1.0 + jnp.euler_gamma + jnp.log(d.scale)}
_KL: Rules = {
    dist.BernoulliProbs: _bernoulli_kl,
    dist.Cauchy: _cauchy_kl,
    dist.Exponential: _exponential_kl,
    dist.GeometricProbs: lambda p, q: _bernoulli_kl(p, q) / p.probs,
    dist.Gumbel: _gumbel_kl,
    dist.LogNormal: lambda p, q: dist.kl_divergence(p.base_dist, q.base_dist),
    dist.Uniform: _uniform_kl,
}
