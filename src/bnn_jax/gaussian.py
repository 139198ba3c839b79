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
from jaxtyping import Array, ArrayLike, DTypeLike, Float, PyTree

from bnn_jax import noise
from bnn_jax._compiler import one_program, recompute_softplus
from bnn_jax._compiler import softplus as softplus
from bnn_jax._parameters import check_finite, check_positive, check_values
from bnn_jax.noise import Draw, PRNGKey

STD_FLOOR = 1e-6

# A float array; or what a tree transformation puts in its place (a shape, a sharding, None).
Leaf = Any


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
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.mean.dtype

    @property
    def ndim(self) -> int:
        return self.mean.ndim

    @property
    def size(self) -> int:
        return self.mean.size


@partial(jax.tree_util.register_dataclass, data_fields=("mean", "std"), meta_fields=())
@dataclasses.dataclass(frozen=True)
class MeanAndStd:
    """Independent Gaussians with stored std: a `Gaussian` from which many samples are drawn."""

    mean: Leaf
    std: Leaf

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mean.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.mean.dtype


def with_std(posterior: PyTree) -> PyTree:
    """Returns the posterior with each std computed once, for many samples."""
    return jax.tree.map(
        lambda x: MeanAndStd(x.mean, x.std) if is_gaussian(x) else x,
        posterior,
        is_leaf=is_gaussian,
    )


def is_gaussian(x: object) -> bool:
    """Returns whether x is a `Gaussian` or a `MeanAndStd`."""
    return isinstance(x, Gaussian | MeanAndStd)


def recomputed_std(q: Gaussian | MeanAndStd) -> Float[Array, "*shape"]:
    """Returns the std for the KL divergence, which shares no memory with the forward pass's."""
    return recompute_softplus(q.rho) + STD_FLOOR if isinstance(q, Gaussian) else q.std


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
    """Returns a new posterior: mean ~ N(loc_mean, loc_std), rho ~ N(rho_mean, rho_std).

    The defaults are those of MindSpore's `NormalPosterior`; at rho = -5 the std is 0.0067.
    """
    mean_key, rho_key = jax.random.split(key)
    return Gaussian(
        mean=loc_mean + loc_std * noise.normal(mean_key, tuple(shape), dtype),
        rho=rho_mean + rho_std * noise.normal(rho_key, tuple(shape), dtype),
    )


def centred(weights: ArrayLike, std: ArrayLike, *, relative: bool = False) -> Gaussian:
    """Returns a posterior with given means, and the given std or std times each weight's magnitude.

    Args:
        weights: the mean.
        std: a positive number, or an array that broadcasts to the weights' shape.
        relative: multiply std by |weight|. Below the floor of 1e-6 the std is the floor itself.

    Raises:
        TypeError: the weights are not floating point.
        ValueError: the std is not positive and finite, or a weight is not finite.
    """
    mean = jnp.asarray(weights)
    if not jnp.issubdtype(mean.dtype, jnp.floating):
        raise TypeError(f"A random weight must be floating point, got {mean.dtype}.")
    check_finite("A posterior", mean=mean)
    check_positive("A posterior", std=std)
    target = jnp.broadcast_to(jnp.asarray(std, mean.dtype), mean.shape)
    if relative:
        target = target * jnp.abs(mean)
    return Gaussian(mean=mean, rho=rho_from_std(target))


def rho_from_std(std: ArrayLike) -> Float[Array, "..."]:
    """Returns the rho of a given std: the inverse of softplus(rho) + 1e-6.

    A std at or below the floor gives the smallest useful rho, -30, where softplus adds 1e-13.

    Raises:
        ValueError: a std is negative or NaN, outside `jit`.
    """
    std = jnp.asarray(std)
    check_values("rho_from_std", "std", std, lambda s: s >= 0, "must be at least 0")
    return _rho_from_std(std)


@one_program
def _rho_from_std(std: Array) -> Array:
    excess = std - STD_FLOOR
    positive = jnp.maximum(excess, 1e-13)
    return positive + jnp.log(-jnp.expm1(-positive))


def leaf_keys(key: PRNGKey, tree: PyTree) -> PyTree:
    """Returns one key per leaf of the tree, by its position, whether it is Gaussian or not.

    The same (key, posterior) gives the same weights everywhere, and making one leaf
    deterministic does not change the noise of the others.
    """
    leaves, treedef = jax.tree.flatten(tree, is_leaf=is_gaussian)
    return jax.tree.unflatten(treedef, [jax.random.fold_in(key, i) for i in range(len(leaves))])


def deviation(key: PRNGKey, q: Gaussian | MeanAndStd) -> Float[Array, "*shape"]:
    """Returns std * epsilon, the difference of a draw from the mean."""
    return q.std * noise.normal(key, q.shape, q.dtype)


def deviations(key: PRNGKey, posterior: PyTree) -> PyTree:
    """Returns the `deviation` of each leaf; None for those that are not random."""
    return jax.tree.map(
        lambda leaf, leaf_key: deviation(leaf_key, leaf) if is_gaussian(leaf) else None,
        posterior,
        leaf_keys(key, posterior),
        is_leaf=is_gaussian,
    )


def sample(key: PRNGKey | Draw, posterior: PyTree) -> PyTree:
    """Returns one draw of all weights, mean + sign * std * epsilon; the sign of a key is +1."""
    draw = Draw.of(key)
    return jax.tree.map(
        lambda leaf, spread: draw.shift(leaf.mean, spread) if is_gaussian(leaf) else leaf,
        posterior,
        deviations(draw.key, posterior),
        is_leaf=is_gaussian,
    )


def mean(posterior: PyTree) -> PyTree:
    """Returns the params tree with every Gaussian replaced by its mean."""
    return jax.tree.map(lambda x: x.mean if is_gaussian(x) else x, posterior, is_leaf=is_gaussian)


def std(posterior: PyTree) -> PyTree:
    """Returns the tree of standard deviations; zero for leaves that are not random."""
    return jax.tree.map(
        lambda x: x.std if is_gaussian(x) else jnp.zeros_like(x), posterior, is_leaf=is_gaussian
    )


def path_name(path: tuple[object, ...]) -> str:
    """Returns a leaf's path as text, `conv1/kernel`, as in reports, filters and errors."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def random_leaves(posterior: PyTree) -> dict[str, Leaf]:
    """Returns every `Gaussian` and `MeanAndStd` of the tree by its path, in tree order."""
    leaves = jax.tree_util.tree_leaves_with_path(posterior, is_leaf=is_gaussian)
    return {path_name(path): leaf for path, leaf in leaves if is_gaussian(leaf)}
