"""Likelihoods: the distribution of a target given a network's outputs.

Each is a frozen dataclass with `log_prob(outputs, targets)`, one value per example in nats, summed
over all other axes, and `nll`, its negated mean: the data loss of an ELBO. `predict` asks the
classification likelihoods for probabilities, and the regression likelihoods for the mean, the
variance and the distribution function of one target.

The scale of Normal and StudentT is a given number, or the network's own: then its output is a pair
(mean, rho), or one array whose last axis holds the means and then the rhos, and
scale = softplus(rho) + 1e-6. A rho that depends on the input is heteroscedastic noise (Nix, Weigend
1994; Kendall, Gal 2017, arXiv:1703.04977); a rho that is one parameter is learned noise.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy import special, stats
from jaxtyping import Array, Float, Int, PyTree

from bnn_jax._parameters import check_array, check_positive, check_shape, check_values
from bnn_jax.gaussian import STD_FLOOR

PerExample = Float[Array, "batch"]


class Likelihood:
    """The base class of likelihoods."""

    def log_prob(self, outputs: PyTree, targets: Array) -> PerExample:
        """Returns each example's log probability (density), nats, summed over its elements."""
        raise NotImplementedError

    def check_targets(self, targets: PyTree) -> None:
        """Refuses targets that have no probability; `log_prob` does so outside `jit`."""
        if (name := type(self).__name__) in _RULES:
            is_right, rule = _RULES[name]
            check_values(name, "targets", targets, is_right, rule)

    def nll(self, outputs: PyTree, targets: Array) -> Float[Array, ""]:
        """Returns the mean over examples of the negative log probability, nats: a data loss."""
        return -jnp.mean(self.log_prob(outputs, targets))


class Classification(Likelihood):
    """A target that is one of finitely many classes."""

    def probabilities(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        """Returns the probabilities, which are averaged over weight samples."""
        raise NotImplementedError

    def entropy(self, probabilities: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        """Returns the entropy of the target, nats, from the (averaged) probabilities."""
        raise NotImplementedError


class Regression(Likelihood):
    """A target that is a number, or an array of independent numbers."""

    integers = False  # whether the targets are whole numbers

    def mean(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        raise NotImplementedError

    def variance(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        raise NotImplementedError

    def cdf(self, outputs: PyTree, values: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        """Returns the probability of a target at or below the values, element by element."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Categorical(Classification):
    """Classes from logits (batch, ..., classes); targets are labels (batch, ...).

    Args:
        temperature: divides the logits, > 0; `toolbox.temperature` fits it on held-out examples
            (Guo et al. 2017, arXiv:1706.04599).
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_positive("Categorical", temperature=self.temperature)

    def check_targets(self, targets: PyTree) -> None:
        check_array("labels", targets)
        if not jnp.issubdtype(jnp.result_type(targets), jnp.integer):
            found = jnp.result_type(targets)
            raise TypeError(f"Categorical: labels must be integers, got {found}: y.astype(int).")
        check_values("Categorical", "labels", targets, lambda y: y >= 0, "must be at least 0")

    def log_prob(
        self, outputs: Float[Array, "batch ... classes"], targets: Int[Array, "batch ..."]
    ) -> PerExample:
        self.check_targets(targets)
        rule = f"must be below the {outputs.shape[-1]} classes of the network"
        check_values("Categorical", "labels", targets, lambda y: y < outputs.shape[-1], rule)
        check_shape("labels", targets, outputs.shape[:-1])
        log_p = jax.nn.log_softmax(self._logits(outputs))
        return _per_example(jnp.take_along_axis(log_p, targets[..., None], axis=-1)[..., 0])

    def probabilities(
        self, outputs: Float[Array, "batch ... classes"]
    ) -> Float[Array, "batch ... classes"]:
        return jax.nn.softmax(self._logits(outputs))

    def entropy(
        self, probabilities: Float[Array, "batch ... classes"]
    ) -> Float[Array, "batch ..."]:
        return -jnp.sum(special.xlogy(probabilities, probabilities), axis=-1)

    def _logits(self, outputs: Array) -> Array:
        logits = at_least_float32(outputs)
        return logits if self.temperature == 1.0 else logits / self.temperature


@dataclasses.dataclass(frozen=True)
class Bernoulli(Classification):
    """Two classes from one logit (batch, ...); targets (batch, ...) are 0 or 1."""

    def log_prob(self, outputs: Float[Array, "batch ..."], targets: Array) -> PerExample:
        check_shape("targets", targets, outputs.shape)
        self.check_targets(targets)
        logits = at_least_float32(outputs)
        return _per_example(targets.astype(logits.dtype) * logits - jax.nn.softplus(logits))

    def probabilities(self, outputs: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        """Returns the probability of class 1."""
        return jax.nn.sigmoid(at_least_float32(outputs))

    def entropy(self, probabilities: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        other = 1.0 - probabilities
        return -special.xlogy(probabilities, probabilities) - special.xlogy(other, other)


@dataclasses.dataclass(frozen=True)
class Normal(Regression):
    """Gaussian noise.

    Args:
        std: of the noise, a number > 0, in the units of the targets; None: the network's own.
    """

    std: float | None = None

    def __post_init__(self) -> None:
        check_positive("Normal", std=self.std)

    def log_prob(self, outputs: PyTree, targets: Array) -> PerExample:
        mean, std = _location_and_scale(outputs, self.std)
        check_shape("targets", targets, mean.shape)
        self.check_targets(targets)
        return _per_example(stats.norm.logpdf(targets.astype(mean.dtype), mean, std))

    def mean(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        return _location_and_scale(outputs, self.std).location

    def variance(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        return jnp.square(_location_and_scale(outputs, self.std).scale)

    def cdf(self, outputs: PyTree, values: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        return stats.norm.cdf(values, *_location_and_scale(outputs, self.std))


@dataclasses.dataclass(frozen=True)
class StudentT(Regression):
    """Student's t noise: robust to outliers.

    Args:
        df: degrees of freedom, > 0. At 2 and below the variance is infinite.
        scale: a number > 0, in the units of the targets; None: the network's own.
    """

    df: float
    scale: float | None = None

    def __post_init__(self) -> None:
        check_positive("StudentT", df=self.df, scale=self.scale)

    def log_prob(self, outputs: PyTree, targets: Array) -> PerExample:
        location, scale = _location_and_scale(outputs, self.scale)
        check_shape("targets", targets, location.shape)
        self.check_targets(targets)
        df = jnp.asarray(self.df, location.dtype)
        return _per_example(stats.t.logpdf(targets.astype(location.dtype), df, location, scale))

    def mean(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        return _location_and_scale(outputs, self.scale).location

    def variance(self, outputs: PyTree) -> Float[Array, "batch ..."]:
        scale = _location_and_scale(outputs, self.scale).scale
        return jnp.square(scale) * (self.df / (self.df - 2) if self.df > 2 else jnp.inf)

    def cdf(self, outputs: PyTree, values: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        location, scale = _location_and_scale(outputs, self.scale)
        z = (values - location) / scale
        df = jnp.asarray(self.df, z.dtype)
        # The smaller tail; of two forms the one whose argument is not near 1.
        square = jnp.square(z)
        half, other = jnp.full_like(z, 0.5), jnp.full_like(z, 0.5 * self.df)
        near = 0.5 - 0.5 * special.betainc(half, other, square / (df + square))
        far = 0.5 * special.betainc(other, half, df / (df + square))
        tail = jnp.where(square < df, near, far)
        return jnp.where(z < 0, tail, 1.0 - tail)


@dataclasses.dataclass(frozen=True)
class Poisson(Regression):
    """Counts, whose log rate is the network's output (batch, ...)."""

    integers = True

    def log_prob(self, outputs: Float[Array, "batch ..."], targets: Array) -> PerExample:
        check_shape("targets", targets, outputs.shape)
        self.check_targets(targets)
        log_rate = at_least_float32(outputs)
        counts = targets.astype(log_rate.dtype)
        return _per_example(counts * log_rate - jnp.exp(log_rate) - special.gammaln(counts + 1.0))

    def mean(self, outputs: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        return jnp.exp(at_least_float32(outputs))

    def variance(self, outputs: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
        return self.mean(outputs)

    def cdf(
        self, outputs: Float[Array, "batch ..."], values: Float[Array, "batch ..."]
    ) -> Float[Array, "batch ..."]:
        counts = jnp.floor(values)
        tail = special.gammaincc(jnp.maximum(counts, 0.0) + 1.0, self.mean(outputs))
        return jnp.where(counts < 0, 0.0, tail)


def at_least_float32(x: Array) -> Array:
    """Returns x in float32 or wider, in which probabilities are averaged."""
    narrow = not jnp.issubdtype(x.dtype, jnp.floating) or jnp.finfo(x.dtype).bits < 32
    return x.astype(jnp.float32) if narrow else x


class _LocationAndScale(NamedTuple):
    location: Array
    scale: Array


def _location_and_scale(outputs: PyTree, given: float | None) -> _LocationAndScale:
    if given is not None:
        if isinstance(outputs, tuple | list):
            raise ValueError(
                f"The likelihood has its own scale ({given}), but the network returns a pair: "
                "leave the scale out to use the network's."
            )
        location = at_least_float32(outputs)
        return _LocationAndScale(location, jnp.full_like(location, given))
    if isinstance(outputs, tuple | list):
        if len(outputs) != 2:
            raise ValueError(f"The network must return (mean, rho), got {len(outputs)} values.")
        location, rho = outputs
    else:
        if outputs.shape[-1] % 2:
            raise ValueError(
                "Without a given scale the network's last axis holds the means and then as many "
                f"rhos, so its size must be even, got {tuple(outputs.shape)}. Give the likelihood "
                "a scale, or return (mean, rho)."
            )
        location, rho = jnp.split(outputs, 2, axis=-1)
    location = at_least_float32(location)
    scale = jax.nn.softplus(at_least_float32(jnp.asarray(rho))) + STD_FLOOR
    # A learned rho has no example axis.
    leading = (1,) * max(0, location.ndim - scale.ndim)
    return _LocationAndScale(
        location, jnp.broadcast_to(scale.reshape(leading + scale.shape), location.shape)
    )


def _per_example(log_prob: Array) -> PerExample:
    return jnp.sum(log_prob, axis=tuple(range(1, log_prob.ndim)))


def _are_counts(y: np.ndarray) -> np.ndarray:
    return np.isfinite(y) & (y >= 0) & (y == np.floor(y))


_RULES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "Bernoulli": (lambda y: (y == 0) | (y == 1), "must be 0 or 1"),
    "Normal": (np.isfinite, "must be finite"),
    "StudentT": (np.isfinite, "must be finite"),
    "Poisson": (_are_counts, "must be 0, 1, 2, ..."),
}
