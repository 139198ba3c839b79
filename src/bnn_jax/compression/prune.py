"""Pruning: the weights of a mean-field posterior that matter least become exactly zero.

    score = |mean| / std    the signal-to-noise ratio, by="snr"
    score = |mean|          by="magnitude"

A pruned weight has mean 0 and std 0, so every draw of it is 0. `gaussian.MeanAndStd` leaves hold
that std, which the rho of a `Gaussian` cannot. They can be sampled, predicted with and exported.
The KL divergence of a std of 0 is infinite, so a pruned posterior cannot be trained further.

Source: Blundell, Cornebise, Kavukcuoglu, Wierstra 2015, arXiv:1505.05424, section 5.1 and table 2.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from bnn_jax import gaussian
from bnn_jax._parameters import describe
from bnn_jax.gaussian import Gaussian, MeanAndStd
from bnn_jax.posteriors import MeanField

BY = ("snr", "magnitude")
SCOPES = ("global", "layer")


@dataclasses.dataclass(frozen=True)
class Pruned:
    """A pruned posterior.

    Attributes:
        posterior: of the type that was given, with `MeanAndStd` leaves.
        mask: the params tree with True where a random weight was kept; None for other leaves.
        fraction: pruned weights / random weights, as achieved.
    """

    posterior: PyTree
    mask: PyTree
    fraction: float


def prune(posterior: PyTree, fraction: float, *, by: str = "snr", scope: str = "global") -> Pruned:
    """Returns the posterior without the given fraction of its random weights.

    round(fraction * n) of n weights are pruned, those with the lowest scores; among equal scores
    the first in tree order.

    Args:
        posterior: a params tree with Gaussian leaves, or a `MeanField` of one.
        fraction: of the random weights, in [0, 1].
        by: the score, "snr" or "magnitude".
        scope: "global" ranks all random weights together; "layer" prunes the fraction of each
            layer, the weights with the same parent path.

    Raises:
        TypeError: a posterior that is not mean-field.
        ValueError: another argument out of range, or a mean or std that is not finite.
    """
    _check(fraction, by, scope)
    if isinstance(posterior, MeanField):
        pruned = prune(posterior.tree, fraction, by=by, scope=scope)
        whole = dataclasses.replace(posterior, tree=pruned.posterior)
        return dataclasses.replace(pruned, posterior=whole)
    random = gaussian.random_leaves(posterior)
    if not random:
        raise TypeError(
            "prune takes a params tree with Gaussian leaves or a MeanField, got "
            f"{type(posterior).__name__} without any."
        )
    scores = {path: _score(path, leaf, by) for path, leaf in random.items()}
    kept: dict[str, Bool[np.ndarray, ...]] = {}
    for paths in _groups(list(random), scope):
        kept |= _kept({path: scores[path] for path in paths}, fraction)

    def leaf_of(path: tuple[object, ...], leaf: PyTree) -> Any:
        if not gaussian.is_gaussian(leaf):
            return leaf
        mask = jnp.asarray(kept[gaussian.path_name(path)])
        zero = jnp.zeros((), leaf.dtype)
        return MeanAndStd(jnp.where(mask, leaf.mean, zero), jnp.where(mask, leaf.std, zero))

    def mask_of(path: tuple[object, ...], leaf: PyTree) -> Array | None:
        random = gaussian.is_gaussian(leaf)
        return jnp.asarray(kept[gaussian.path_name(path)]) if random else None

    total = sum(mask.size for mask in kept.values())
    new, mask = (
        jax.tree_util.tree_map_with_path(fn, posterior, is_leaf=gaussian.is_gaussian)
        for fn in (leaf_of, mask_of)
    )
    removed = total - sum(int(mask.sum()) for mask in kept.values())
    return Pruned(new, mask, removed / total)


def _check(fraction: float, by: str, scope: str) -> None:
    if isinstance(fraction, bool) or not isinstance(fraction, int | float | np.number):
        raise TypeError(f"fraction must be a number between 0 and 1, got {describe(fraction)}.")
    if not 0 <= fraction <= 1:
        raise ValueError(f"fraction must be between 0 and 1, got {fraction}.")
    if by not in BY:
        raise ValueError(f"by must be one of {', '.join(BY)}; got {by!r}.")
    if scope not in SCOPES:
        raise ValueError(f"scope must be one of {', '.join(SCOPES)}; got {scope!r}.")


def _score(path: str, leaf: Gaussian | MeanAndStd, by: str) -> Float[np.ndarray, "..."]:
    mean, std = np.asarray(leaf.mean, np.float64), np.asarray(leaf.std, np.float64)
    if not (np.isfinite(mean).all() and np.isfinite(std).all()):
        raise ValueError(
            f"The mean and std of every weight must be finite; those of {path} are not."
        )
    if by == "magnitude":
        return np.abs(mean)
    # A weight that was pruned before has no noise; it is the first to go again.
    return np.divide(np.abs(mean), std, out=np.where(mean == 0, 0.0, np.inf), where=std > 0)


def _groups(paths: list[str], scope: str) -> list[list[str]]:
    """Returns the paths that are ranked together."""
    if scope == "global":
        return [paths]
    layers: dict[str, list[str]] = {}
    for path in paths:
        layers.setdefault(path.rpartition("/")[0], []).append(path)
    return list(layers.values())


def _kept(
    scores: dict[str, Float[np.ndarray, "..."]], fraction: float
) -> dict[str, Bool[np.ndarray, "..."]]:
    flat = np.concatenate([score.ravel() for score in scores.values()])
    keep = np.ones(flat.size, bool)
    keep[np.argsort(flat, kind="stable")[: round(fraction * flat.size)]] = False
    ends = np.cumsum([score.size for score in scores.values()])[:-1]
    parts = zip(scores.items(), np.split(keep, ends), strict=True)
    return {path: part.reshape(score.shape) for (path, score), part in parts}
