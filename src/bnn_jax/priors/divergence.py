"""KL divergences of whole posteriors from their priors, by weight, by layer and in total."""

from typing import TypeGuard, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from bnn_jax import gaussian, noise
from bnn_jax._compiler import one_program
from bnn_jax.gaussian import Gaussian
from bnn_jax.gaussian import Leaf as Number
from bnn_jax.noise import PRNGKey
from bnn_jax.priors.families import HALF_LOG_2PI, Prior

Tree = TypeVar("Tree")


def prior_leaves(prior: PyTree) -> dict[str, Prior]:
    """Returns every prior of a tree of priors, by its path."""
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
    """Returns KL(posterior || prior) of each random weight, in nats, summed over its elements.

    Args:
        posterior: the params tree with Gaussian leaves.
        prior: one prior for all random weights, or a tree with one at each random position.
        key: draws the weights of the Monte Carlo estimate, for priors without a closed form.
        weights: instead of key, the weights sampled from the posterior in this step. (With
            reverse=True the draws are from the prior, which needs a key.)
        reverse: KL(prior || posterior), the direction that MindSpore computes.

    Returns:
        {path: scalar}, in the posterior's order, in float32 or wider.

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


def kl_by_layer(posterior: PyTree, prior: Prior | PyTree, **options: PyTree) -> dict[str, Array]:
    """Returns `kl_by_weight`, summed by layer (the path without its last part)."""
    layers: dict[str, Array] = {}
    for name, value in kl_by_weight(posterior, prior, **options).items():
        layer = name.rpartition("/")[0] or name
        layers[layer] = layers[layer] + value if layer in layers else value
    return layers


def kl_divergence(posterior: PyTree, prior: Prior | PyTree, **options: PyTree) -> Float[Array, ""]:
    """Returns KL(posterior || prior) in nats over the whole tree, with `kl_by_weight`'s options."""
    values = list(kl_by_weight(posterior, prior, **options).values())
    return sum(values[1:], start=values[0]) if values else jnp.zeros(())


@one_program
def total(x: Float[Array, "*shape"]) -> Float[Array, ""]:
    """Returns the sum of all elements, last axis first.

    XLA on CPU adds the elements of short axes one by one, and the float32 sum of a 16x6x5x5 kernel
    has an error of 1e-5. The barrier prevents it from merging the two sums.
    """
    return jnp.sum(lax.optimization_barrier(jnp.sum(x, axis=-1))) if x.ndim else x


def _at_least_float32(tree: Tree) -> Tree:
    """Sums over many weights overflow in float16, and have two digits in bfloat16."""

    def widen(x: Number) -> Number:
        if not isinstance(x, jax.Array) or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x

    return jax.tree.map(widen, tree)


def _sum_of(kl: Array, name: str, q: Gaussian) -> Float[Array, ""]:
    if kl.shape != q.shape:
        raise ValueError(
            f"The prior of {name!r} does not broadcast to the weight's shape {q.shape}: their "
            f"divergence has the shape {kl.shape}. Set its parameters to numbers, or to arrays of "
            "the weight's shape."
        )
    return total(kl)


def _log_prob(q: Gaussian, w: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return -0.5 * ((w - q.mean) / q.std) ** 2 - jnp.log(q.std) - HALF_LOG_2PI


def _leaves_by_path(tree: PyTree) -> dict[str, PyTree]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {gaussian.path_name(path): leaf for path, leaf in leaves}


def _keys_by_path(key: PRNGKey | None, posterior: PyTree) -> dict[str, PRNGKey]:
    return {} if key is None else _leaves_by_path(gaussian.leaf_keys(key, posterior))


def _require_key(keys: dict[str, PRNGKey], name: str, prior: Prior) -> PRNGKey:
    if name not in keys:
        raise ValueError(
            f"{type(prior).__name__} has no closed-form KL, so the divergence of {name!r} is a "
            "Monte Carlo estimate: pass key=, or without reverse=True weights= sampled from the "
            "posterior."
        )
    return keys[name]


def _is_prior(x: object) -> TypeGuard[Prior]:
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
