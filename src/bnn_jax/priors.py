"""Priors over weights, and the KL divergence of a posterior from them.

A prior is a frozen dataclass of numbers (or arrays that broadcast to the weight), registered as a
pytree. It serves every random weight, or a tree with a prior at each random position gives each its
own: that is how a prior centred on pretrained weights is kept, saved and restored.

KL divergences are in nats, summed over every random weight exactly once. They are functions of the
posterior and the prior alone, so a layer that is called twice still counts once.

Sources: Blundell et al. 2015, arXiv:1505.05424 (scale mixture, eq. 7; Monte Carlo, eq. 2);
Krishnan, Subedar, Tickoo 2020, arXiv:1906.05323 (prior centred on pretrained weights).
"""

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, DTypeLike, Float, PyTree

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import PRNGKey

# A number, or an array that broadcasts to the weight; or what a tree transformation puts there.
Number = Any

HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)


@runtime_checkable
class Prior(Protocol):
    """What a prior has to offer; any registered pytree with these methods will do."""

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """Log density of each element, in nats."""
        ...

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        """Independent draws."""
        ...

    def kl(self, q: Gaussian, *, reverse: bool = False) -> Float[Array, "*shape"] | None:
        """KL(q || prior) of each element, or KL(prior || q); None where no closed form is known."""
        ...


def _require_positive(prior: str, **values: Number) -> None:
    # Only of numbers: a tree transformation may put anything else here.
    for name, value in values.items():
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise ValueError(f"{prior} needs {name} > 0, got {value!r}.")


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "std"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class NormalPrior:
    """N(mean, std) for each weight; MindSpore's default is N(0, 0.1)."""

    mean: Number = 0.0
    std: Number = 0.1

    def __post_init__(self) -> None:
        _require_positive("NormalPrior", std=self.std)

    def log_prob(self, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return -0.5 * ((w - self.mean) / self.std) ** 2 - jnp.log(self.std) - HALF_LOG_2PI

    def sample(
        self, key: PRNGKey, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32
    ) -> Float[Array, "*shape"]:
        return self.mean + self.std * noise.normal(key, shape, dtype)

    def kl(self, q: Gaussian, *, reverse: bool = False) -> Float[Array, "*shape"]:
        p = (self.mean, self.std)
        std = gaussian.recomputed_std(q)
        return _normal_kl(p, (q.mean, std)) if reverse else _normal_kl((q.mean, std), p)


@partial(jax.tree_util.register_dataclass, data_fields=("pi", "std1", "std2"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class ScaleMixturePrior:
    """pi N(0, std1) + (1 - pi) N(0, std2): Blundell et al. 2015, equation 7. KL by Monte Carlo."""

    pi: Number
    std1: Number
    std2: Number

    def __post_init__(self) -> None:
        _require_positive("ScaleMixturePrior", std1=self.std1, std2=self.std2)
        if isinstance(self.pi, int | float) and not 0.0 < self.pi < 1.0:
            raise ValueError(f"ScaleMixturePrior needs 0 < pi < 1, got {self.pi!r}.")

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


@partial(jax.tree_util.register_dataclass, data_fields=("loc", "scale"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class LaplacePrior:
    """Laplace(loc, scale), density exp(-|w - loc| / scale) / (2 scale). KL in closed form."""

    loc: Number = 0.0
    scale: Number = 0.1

    def __post_init__(self) -> None:
        _require_positive("LaplacePrior", scale=self.scale)

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


@partial(jax.tree_util.register_dataclass, data_fields=("df", "loc", "scale"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class StudentTPrior:
    """Student's t with df degrees of freedom, location and scale. KL by Monte Carlo."""

    df: Number
    loc: Number = 0.0
    scale: Number = 0.1

    def __post_init__(self) -> None:
        _require_positive("StudentTPrior", df=self.df, scale=self.scale)

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
    """N(w, std) around each given weight: the prior of empirical Bayes (MOPED).

    Args:
        weights: a params tree, or a posterior, whose means are then taken.
        std: one std for all.

    Returns:
        A tree with a `NormalPrior` at each position. It is data: save it with the posterior.
    """
    _require_positive("centred_on", std=std)
    return jax.tree.map(lambda w: NormalPrior(mean=w, std=std), gaussian.mean(weights))


def prior_leaves(prior: PyTree) -> dict[str, Prior]:
    """Every prior of a tree of them, under its path."""
    leaves = jax.tree_util.tree_leaves_with_path(prior, is_leaf=_is_prior)
    return {gaussian.path_name(path): leaf for path, leaf in leaves if _is_prior(leaf)}


def kl_by_weight(
    posterior: PyTree,
    prior: Prior | PyTree,
    *,
    key: PRNGKey | None = None,
    weights: PyTree | None = None,
    reverse: bool = False,
) -> dict[str, Float[Array, ""]]:
    """KL(posterior || prior) of each random weight tensor, in nats, summed over its elements.

    Args:
        posterior: the params tree with Gaussian leaves.
        prior: one prior for all random weights, or a tree with one at each random position.
        key: draws the weights of the Monte Carlo estimate, for priors without a closed form.
        weights: instead of key, the weights sampled from the posterior in this step. (The reverse
            direction draws from the prior, and needs a key.)
        reverse: KL(prior || posterior), the direction that MindSpore computes.

    Returns:
        {path: scalar}, in the posterior's order; float32 at least, whatever the weights are in.

    Raises:
        ValueError: a prior tree lacks a random weight, a prior does not broadcast to its weight, or
            Monte Carlo is needed and neither key nor weights were given.
    """
    random = gaussian.random_leaves(posterior)
    prior_of = _prior_by_path(prior, random)
    keys = _keys_by_path(key, posterior)
    drawn = None if weights is None else _leaves_by_path(weights)

    def one(name: str, leaf: Gaussian) -> Float[Array, ""]:
        q, p = _at_least_float32((leaf, prior_of[name]))
        closed = p.kl(q, reverse=reverse)
        if closed is not None:
            return _sum_of(closed, name, q)
        if reverse:
            w = p.sample(_require_key(keys, name, p), q.shape, q.dtype)
            return _sum_of(p.log_prob(w) - _log_prob(q, w), name, q)
        if drawn is not None:
            w = _at_least_float32(drawn[name])
        else:
            w = q.mean + q.std * noise.normal(_require_key(keys, name, p), q.shape, q.dtype)
        return _sum_of(_log_prob(q, w) - p.log_prob(w), name, q)

    return {name: one(name, q) for name, q in random.items()}


def kl_by_layer(posterior: PyTree, prior: Prior | PyTree, **options: Any) -> dict[str, Array]:
    """`kl_by_weight`, summed over the weights of each layer (the path without its last part)."""
    layers: dict[str, Array] = {}
    for name, value in kl_by_weight(posterior, prior, **options).items():
        layer = name.rpartition("/")[0] or name
        layers[layer] = layers[layer] + value if layer in layers else value
    return layers


def kl_divergence(posterior: PyTree, prior: Prior | PyTree, **options: Any) -> Float[Array, ""]:
    """KL(posterior || prior) in nats over the whole tree; the options are `kl_by_weight`'s."""
    values = list(kl_by_weight(posterior, prior, **options).values())
    return sum(values[1:], start=values[0]) if values else jnp.zeros(())


def total(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """The sum of all elements, last axis first.

    In one go, XLA adds the elements of short axes one by one on a CPU, and in float32 the sum of a
    16x6x5x5 kernel is off by 1e-5. The barrier keeps the two sums apart.
    """
    return jnp.sum(lax.optimization_barrier(jnp.sum(x, axis=-1))) if x.ndim else x


def _at_least_float32(tree: Any) -> Any:
    """Sums over many weights overflow in float16, and in bfloat16 lose all but two digits."""

    def widen(x: Any) -> Any:
        if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x

    return jax.tree.map(widen, tree)


def _normal_kl(a: tuple[Any, Any], b: tuple[Any, Any]) -> Float[Array, "..."]:
    """KL(N(a) || N(b)) by element."""
    return _kl_of_normals(*a, *b)


@jax.custom_jvp
def _kl_of_normals(mean_a: Any, std_a: Any, mean_b: Any, std_b: Any) -> Float[Array, "..."]:
    """KL(N(mean_a, std_a) || N(mean_b, std_b)).

    With u = std_a / std_b and d = u - 1, taken from the difference of the two, it is
    (d (d + 2) + distance^2) / 2 - log(u), which keeps its precision where the two are nearly equal
    if the logarithm gets back what rounding took from u. There is no branch in it, for XLA on CPU
    would store what goes into one.
    """
    inverse = 1.0 / std_b
    u = std_a * inverse
    d = (std_a - std_b) * inverse
    log_u = jnp.log(u) + (d - (u - 1.0)) * u
    return 0.5 * (d * (d + 2.0) + jnp.square((mean_a - mean_b) * inverse)) - log_u


def _kl_of_normals_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    # By hand, with one division by an array: of the formula above, XLA on CPU would store six.
    mean_a, std_a, mean_b, std_b = primals
    inverse = 1.0 / std_b
    distance = (mean_a - mean_b) * inverse
    gradients: tuple[Callable[[], Array], ...] = (
        lambda: distance * inverse,
        lambda: (std_a - std_b) * inverse * ((std_a + std_b) * inverse) / std_a,
        lambda: -distance * inverse,
        lambda: inverse * (1.0 - jnp.square(std_a * inverse) - jnp.square(distance)),
    )
    value = _kl_of_normals(*primals)
    tangent = jnp.zeros_like(value)
    for gradient, d in zip(gradients, tangents, strict=True):
        if not isinstance(d, SymbolicZero):
            tangent = tangent + gradient() * d
    return value, tangent


_kl_of_normals.defjvp(_kl_of_normals_jvp, symbolic_zeros=True)


def _sum_of(kl: Array, name: str, q: Gaussian) -> Float[Array, ""]:
    if kl.shape != q.shape:
        raise ValueError(
            f"The prior of {name!r} does not broadcast to the weight's shape {q.shape}: their "
            f"divergence has the shape {kl.shape}. Give it numbers, or arrays of the weight's "
            "shape."
        )
    return total(kl)


def _log_prob(q: Gaussian, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return -0.5 * ((w - q.mean) / q.std) ** 2 - jnp.log(q.std) - HALF_LOG_2PI


def _leaves_by_path(tree: PyTree) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {gaussian.path_name(path): leaf for path, leaf in leaves}


def _keys_by_path(key: PRNGKey | None, posterior: PyTree) -> dict[str, PRNGKey]:
    return {} if key is None else _leaves_by_path(gaussian.leaf_keys(key, posterior))


def _require_key(keys: dict[str, PRNGKey], name: str, prior: Prior) -> PRNGKey:
    if name not in keys:
        raise ValueError(
            f"{type(prior).__name__} has no closed-form KL, so the divergence of {name!r} is a "
            "Monte Carlo estimate: pass key=, or (but for reverse=True) weights= sampled from the "
            "posterior."
        )
    return keys[name]


def _is_prior(x: Any) -> bool:
    return isinstance(x, Prior)


def _prior_by_path(prior: Prior | PyTree, random: dict[str, Gaussian]) -> dict[str, Prior]:
    if _is_prior(prior):
        return dict.fromkeys(random, prior)
    given = prior_leaves(prior)
    missing = [name for name in random if name not in given]
    if missing:
        raise ValueError(
            f"The prior tree has no prior for the random weights {missing}; it has them for "
            f"{sorted(given)}. Give one prior for all, or a tree with one at each random position."
        )
    return given
