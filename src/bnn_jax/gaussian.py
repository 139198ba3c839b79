"""The posterior of a weight tensor: a fully factorised Gaussian, a leaf of the params tree.

A posterior is an ordinary params pytree in which chosen arrays are replaced by a `Gaussian` node.
`jit`, `grad`, `vmap`, optax and orbax see two arrays, `mean` and `rho`, and need to know no more.
The functions below act on whole trees; leaves that are not Gaussian pass through unchanged.

    std = softplus(rho) + 1e-6

Source: Blundell, Cornebise, Kavukcuoglu, Wierstra 2015, "Weight Uncertainty in Neural Networks",
arXiv:1505.05424, section 3.2; the floor and the initial values are MindSpore's `NormalPosterior`.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Bool, DTypeLike, Float, PyTree

from bnn_jax import noise
from bnn_jax.noise import PRNGKey

STD_FLOOR = 1e-6

# A float array; or what a tree transformation puts in its place (a shape, a sharding, None).
Leaf = Any


# log(1 + e) / e for 0 <= e <= 1, by least squares of the largest relative error: 3e-8.
_LOG1P = (
    0.9999999698819679,
    -0.4999949314926669,
    0.33319096896927647,
    -0.24842982586251025,
    0.19106007426455662,
    -0.1366324604265276,
    0.07822594431907273,
    -0.029505228912473966,
    0.005232690695210464,
)


@jax.custom_jvp
def softplus(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """log(1 + exp(x)), for float32 with a polynomial in place of log1p, to 2e-7 of the value.

    XLA computes log1p with branches, which takes longer on CPU than all else of a weight's std.
    """
    return _softplus(x, -jnp.abs(x))


@jax.custom_jvp
def softplus_anew(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The same in other words, so that XLA does not find `softplus` in it.

    Of what both the forward and the backward pass compute, XLA on CPU keeps the exponentials in
    between, an array as large as the weights. To compute them twice takes less memory.
    """
    return _softplus(x, jnp.minimum(x, -x))


def _softplus(x: Array, minus_magnitude: Array) -> Array:
    if x.dtype != jnp.float32:
        return jax.nn.softplus(x)
    e = jnp.exp(minus_magnitude)
    ratio = jnp.full_like(e, _LOG1P[-1])
    for coefficient in reversed(_LOG1P[:-1]):
        ratio = ratio * e + coefficient
    return jnp.maximum(x, 0.0) + e * ratio


softplus.defjvp(lambda at, towards: (softplus(*at), jax.nn.sigmoid(*at) * towards[0]))
softplus_anew.defjvp(lambda at, towards: (softplus_anew(*at), jax.nn.sigmoid(*at) * towards[0]))


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "rho"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians, one per element: mean and rho; std = softplus(rho) + 1e-6."""

    mean: Leaf
    rho: Leaf

    @property
    def std(self) -> Float[Array, "*shape"]:
        return softplus(self.rho) + STD_FLOOR

    @property
    def std_anew(self) -> Float[Array, "*shape"]:
        """The std for the KL divergence, see `softplus_anew`."""
        return softplus_anew(self.rho) + STD_FLOOR

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def dtype(self) -> Any:
        return self.mean.dtype

    @property
    def ndim(self) -> int:
        return self.mean.ndim

    @property
    def size(self) -> int:
        return self.mean.size


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "rho"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class _WithStd(Gaussian):
    """A Gaussian that holds its std in the place of rho."""

    @property
    def std(self) -> Float[Array, "*shape"]:
        return self.rho

    @property
    def std_anew(self) -> Float[Array, "*shape"]:
        return self.rho


def with_std(posterior: PyTree) -> PyTree:
    """The posterior with each std computed: to draw many samples of."""
    return jax.tree.map(
        lambda x: _WithStd(x.mean, x.std) if is_gaussian(x) else x,
        posterior,
        is_leaf=is_gaussian,
    )


def is_gaussian(x: Any) -> bool:
    return isinstance(x, Gaussian)


def init(
    key: PRNGKey,
    shape: tuple[int, ...],
    dtype: DTypeLike = jnp.float32,
    *,
    loc_mean: float = 0.0,
    loc_std: float = 0.1,
    rho_mean: float = -5.0,
    rho_std: float = 0.1,
) -> Gaussian:
    """A fresh posterior: mean ~ N(loc_mean, loc_std), rho ~ N(rho_mean, rho_std).

    The defaults are those of MindSpore's `NormalPosterior`; at rho = -5 the std is 0.0067.
    """
    mean_key, rho_key = jax.random.split(key)
    return Gaussian(
        mean=loc_mean + loc_std * noise.normal(mean_key, tuple(shape), dtype),
        rho=rho_mean + rho_std * noise.normal(rho_key, tuple(shape), dtype),
    )


def centred(weights: ArrayLike, std: ArrayLike, *, relative: bool = False) -> Gaussian:
    """A posterior around given weights, with the given std, or std times each weight's magnitude.

    Args:
        weights: the mean.
        std: a positive number, or an array that broadcasts to the weights' shape.
        relative: multiply std by |weight|. Below the floor of 1e-6 the std is the floor itself.

    Raises:
        TypeError: weights that are not floating point.
        ValueError: a std, given as a number, that is not positive.
    """
    mean = jnp.asarray(weights)
    if not jnp.issubdtype(mean.dtype, jnp.floating):
        raise TypeError(f"A random weight has to be floating point, got {mean.dtype}.")
    if isinstance(std, int | float) and not std > 0:
        raise ValueError(f"A posterior needs std > 0, got {std!r}.")
    target = jnp.broadcast_to(jnp.asarray(std, mean.dtype), mean.shape)
    if relative:
        target = target * jnp.abs(mean)
    return Gaussian(mean=mean, rho=rho_from_std(target))


def rho_from_std(std: ArrayLike) -> Float[Array, "..."]:
    """The rho whose std is the given one: the inverse of softplus(rho) + 1e-6.

    A std at or below the floor gives the smallest useful rho, -30, where softplus adds 1e-13.
    """
    excess = jnp.asarray(std) - STD_FLOOR
    positive = jnp.maximum(excess, 1e-13)
    return positive + jnp.log(-jnp.expm1(-positive))


def leaf_keys(key: PRNGKey, tree: PyTree) -> PyTree:
    """One key per leaf of the tree, by its position, whether it is Gaussian or not.

    So the same (key, posterior) gives the same weights everywhere, and making one leaf
    deterministic leaves the noise of all others as it was.
    """
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_gaussian)
    return jax.tree.unflatten(treedef, [jax.random.fold_in(key, i) for i in range(len(leaves))])


def deviation(key: PRNGKey, q: Gaussian) -> Float[Array, "*shape"]:
    """A draw's difference from the mean, std * epsilon."""
    return q.std * noise.normal(key, q.shape, q.dtype)


def deviations(key: PRNGKey, posterior: PyTree) -> PyTree:
    """A draw's difference from the mean for each leaf; None for those that are not random."""
    return jax.tree.map(
        lambda leaf, leaf_key: deviation(leaf_key, leaf) if is_gaussian(leaf) else None,
        posterior,
        leaf_keys(key, posterior),
        is_leaf=is_gaussian,
    )


def sample(
    key: PRNGKey, posterior: PyTree, *, antithetic: bool | Bool[Array, ""] = False
) -> PyTree:
    """One draw of all weights, mean + std * epsilon; with `antithetic`, mean - std * epsilon."""

    def shift(leaf: Any, spread: Any) -> Any:
        if not is_gaussian(leaf):
            return leaf
        if isinstance(antithetic, bool):
            return leaf.mean - spread if antithetic else leaf.mean + spread
        return jnp.where(antithetic, leaf.mean - spread, leaf.mean + spread)

    return jax.tree.map(shift, posterior, deviations(key, posterior), is_leaf=is_gaussian)


def mean(posterior: PyTree) -> PyTree:
    """The params tree with every Gaussian replaced by its mean."""
    return jax.tree.map(lambda x: x.mean if is_gaussian(x) else x, posterior, is_leaf=is_gaussian)


def std(posterior: PyTree) -> PyTree:
    """The tree of standard deviations; zero for leaves that are not random."""
    return jax.tree.map(
        lambda x: x.std if is_gaussian(x) else jnp.zeros_like(x), posterior, is_leaf=is_gaussian
    )


def path_name(path: tuple[Any, ...]) -> str:
    """A leaf's path as text, `conv1/kernel`: the name used in reports, filters and errors."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def random_leaves(posterior: PyTree) -> dict[str, Gaussian]:
    """Every Gaussian of the tree under its path, in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(posterior, is_leaf=is_gaussian)
    return {path_name(path): leaf for path, leaf in leaves if is_gaussian(leaf)}
