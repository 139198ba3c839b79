"""The priors: frozen dataclasses with `log_prob`, `sample` and `kl`."""

import dataclasses
import math
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, DTypeLike, Float, PyTree

from bnn_jax import gaussian, noise
from bnn_jax._parameters import check_finite, check_given, check_positive, check_range, parameters
from bnn_jax.gaussian import Gaussian
from bnn_jax.gaussian import Leaf as Number
from bnn_jax.noise import PRNGKey
from bnn_jax.priors.normal_kl import normal_kl

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@runtime_checkable
class Prior(Protocol):
    """A distribution of weights: any registered pytree with these methods."""

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Returns the log density of each element, in nats."""
        ...

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        """Returns independent draws."""
        ...

    def kl(self, q: Gaussian, *, reverse: bool = False) -> Float[Array, "*shape"] | None:
        """Returns KL(q || prior) of each element, or KL(prior || q); None without a closed form."""
        ...


@parameters
@dataclasses.dataclass(frozen=True)
class NormalPrior:
    """N(mean, std) for each weight; MindSpore's default is N(0, 0.1)."""

    mean: Number = 0.0
    std: Number = 0.1

    def __post_init__(self) -> None:
        check_given("NormalPrior", mean=self.mean, std=self.std)
        check_finite("NormalPrior", mean=self.mean)
        check_positive("NormalPrior", std=self.std)

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -0.5 * ((w - self.mean) / self.std) ** 2 - jnp.log(self.std) - HALF_LOG_2PI

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        return self.mean + self.std * noise.normal(key, shape, dtype)

    def kl(self, q: Gaussian, *, reverse: bool = False) -> Float[Array, "*shape"]:
        p = (self.mean, self.std)
        std = gaussian.recomputed_std(q)
        return normal_kl(p, (q.mean, std)) if reverse else normal_kl((q.mean, std), p)


@parameters
@dataclasses.dataclass(frozen=True)
class ScaleMixturePrior:
    """pi N(0, std1) + (1 - pi) N(0, std2): Blundell et al. 2015, equation 7. KL by Monte Carlo."""

    pi: Number
    std1: Number
    std2: Number

    def __post_init__(self) -> None:
        check_given("ScaleMixturePrior", pi=self.pi, std1=self.std1, std2=self.std2)
        check_positive("ScaleMixturePrior", std1=self.std1, std2=self.std2)
        check_range("ScaleMixturePrior", "pi", self.pi, low=0.0, high=1.0)

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        wide = jnp.log(self.pi) + NormalPrior(0.0, self.std1).log_prob(w)
        narrow = jnp.log1p(-jnp.asarray(self.pi)) + NormalPrior(0.0, self.std2).log_prob(w)
        return jnp.logaddexp(wide, narrow)

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        which_key, value_key = jax.random.split(key)
        scale = jnp.where(jax.random.bernoulli(which_key, self.pi, shape), self.std1, self.std2)
        return scale.astype(dtype) * noise.normal(value_key, shape, dtype)

    def kl(self, q: Gaussian, *, reverse: bool = False) -> None:
        return None


@parameters
@dataclasses.dataclass(frozen=True)
class LaplacePrior:
    """Laplace(loc, scale), density exp(-|w - loc| / scale) / (2 scale). KL in closed form."""

    loc: Number = 0.0
    scale: Number = 0.1

    def __post_init__(self) -> None:
        check_given("LaplacePrior", loc=self.loc, scale=self.scale)
        check_finite("LaplacePrior", loc=self.loc)
        check_positive("LaplacePrior", scale=self.scale)

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -jnp.abs(w - self.loc) / self.scale - jnp.log(2.0 * jnp.asarray(self.scale))

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        return self.loc + self.scale * jax.random.laplace(key, shape, dtype)

    def kl(self, q: Gaussian, *, reverse: bool = False) -> Float[Array, "*shape"]:
        distance = q.mean - self.loc
        log_normaliser = jnp.log(2.0 * jnp.asarray(self.scale))
        if reverse:
            second_moment = 2.0 * jnp.asarray(self.scale) ** 2 + distance**2
            cross_entropy = jnp.log(q.std) + HALF_LOG_2PI + 0.5 * second_moment / q.std**2
            return cross_entropy - log_normaliser - 1.0
        # E|w - loc| under q is the mean of a folded normal.
        z = distance / q.std
        folded = q.std * math.sqrt(2.0 / math.pi) * jnp.exp(-0.5 * z**2) + distance * (
            jax.scipy.special.erf(z / math.sqrt(2.0))
        )
        return folded / self.scale + log_normaliser - jnp.log(q.std) - HALF_LOG_2PI - 0.5


@parameters
@dataclasses.dataclass(frozen=True)
class StudentTPrior:
    """Student's t with df degrees of freedom, location and scale. KL by Monte Carlo."""

    df: Number
    loc: Number = 0.0
    scale: Number = 0.1

    def __post_init__(self) -> None:
        check_given("StudentTPrior", df=self.df, loc=self.loc, scale=self.scale)
        check_finite("StudentTPrior", loc=self.loc)
        check_positive("StudentTPrior", df=self.df, scale=self.scale)

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        df = jnp.asarray(self.df, jnp.result_type(w))
        z = (w - self.loc) / self.scale
        # The difference of two gammaln would lose all digits at large df.
        log_beta = jax.scipy.special.betaln(jnp.full_like(df, 0.5), 0.5 * df)
        log_normaliser = log_beta + 0.5 * jnp.log(df) + jnp.log(self.scale)
        return -0.5 * (df + 1.0) * jnp.log1p(z**2 / df) - log_normaliser

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        return self.loc + self.scale * jax.random.t(key, self.df, shape, dtype)

    def kl(self, q: Gaussian, *, reverse: bool = False) -> None:
        return None


def centred_on(weights: PyTree, std: float) -> PyTree:
    """Returns N(w, std) around each given weight: the prior of empirical Bayes (MOPED).

    Args:
        weights: a params tree, or a posterior, whose means are used.
        std: one std for all.

    Returns:
        A tree with a `NormalPrior` at each position. It is data: save it with the posterior.
    """
    check_positive("centred_on", std=std)
    return jax.tree.map(lambda w: NormalPrior(mean=w, std=std), gaussian.mean(weights))
