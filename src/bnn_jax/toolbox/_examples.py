"""What every metric is given: one entry per example along axis 0, and a weight for each example.

An example of weight w counts as w copies of it, so weights need not sum to 1. Shapes are always
checked; values only where they are known, so not inside `jit`. A metric checks what it is given,
then runs a compiled function. Numbers of less than 32 bits are computed in float32.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Real

ArrayIn = Array | np.ndarray

Probabilities = Float[ArrayIn, "examples classes"]
Labels = Integer[ArrayIn, "examples"]
Weights = Real[ArrayIn, "examples"] | None


def known(x: Any) -> np.ndarray | None:
    """The values as a numpy array, or None while they are traced."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def floats(**arrays: Any) -> tuple[Array, ...]:
    """The named arrays in their widest floating point type, all of the same shape."""
    converted = {name: _at_least_float32(x) for name, x in arrays.items()}
    shapes = {name: x.shape for name, x in converted.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} have to be of the same shape; got {got}.")
    dtype = np.result_type(*(x.dtype for x in converted.values()))
    return tuple(x.astype(dtype) for x in converted.values())


def labelled(
    probabilities: Any, labels: Any, weights: Any
) -> tuple[
    Float[Array, "examples classes"], Integer[Array, " examples"], Float[Array, " examples"]
]:
    """What the metrics of class probabilities are given, checked."""
    p = class_probabilities(probabilities)
    labels = class_labels(labels, examples=p.shape[0], classes=p.shape[1])
    return p, labels, example_weights(weights, p)


def class_probabilities(probabilities: Any) -> Float[Array, "examples classes"]:
    """Probabilities of classes, checked: rows that are not negative and sum to 1. NaN may pass."""
    p = _at_least_float32(probabilities)
    if p.ndim != 2:
        raise ValueError(
            f"probabilities have to be of shape (examples, classes), got {p.shape}: reshape them "
            "to (-1, classes); of two classes, stack [1 - p, p] along the last axis."
        )
    values = known(p)
    if values is None:
        return p
    tolerance = max(1e-3, 4 * float(jnp.finfo(jnp.asarray(probabilities).dtype).eps))
    sums = values.sum(axis=1)
    wrong = (values < 0).any(axis=1) | (np.abs(sums - 1) > tolerance)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            "probabilities have to be >= 0 and to sum to 1 in each row; row "
            f"{row} has minimum {values[row].min():.4g} and sum {sums[row]:.4g}. "
            "Of logits, pass jax.nn.softmax(logits)."
        )
    return p


def class_labels(labels: Any, *, examples: int, classes: int) -> Integer[Array, " examples"]:
    """Labels, checked: one class number per example."""
    labels = jnp.asarray(labels)
    if labels.shape != (examples,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels have to be {examples} class numbers, one per example; got {labels.dtype} of "
            f"shape {labels.shape}. Of one-hot labels, pass labels.argmax(-1)."
        )
    values = known(labels)
    if values is not None and values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(
            f"labels have to be in 0 .. {classes - 1}, as there are {classes} classes; got "
            f"{values.min()} .. {values.max()}."
        )
    return labels.astype(int)


def example_weights(weights: Any, like: Array) -> Float[Array, " examples"]:
    """One weight per entry of axis 0 of `like`, checked; by default all are 1."""
    if like.ndim == 0 or len(like) == 0:
        raise ValueError(f"A metric needs at least one example on axis 0, got shape {like.shape}.")
    if weights is None:
        return jnp.asarray(np.ones(len(like), like.dtype))
    w = jnp.asarray(weights)
    if w.shape != (len(like),):
        raise ValueError(f"weights have to be one per example, ({len(like)},); got {w.shape}.")
    values = known(w)
    if values is not None and not ((values >= 0).all() and 0 < values.sum() < np.inf):
        raise ValueError(
            "weights have to be >= 0, finite and not all 0; got minimum "
            f"{values.min():.4g} and sum {values.sum():.4g}."
        )
    return w.astype(like.dtype)


def check_rankable(name: str, scores: Array) -> None:
    """Scores to put examples in order by: one per example, none NaN."""
    if scores.ndim != 1:
        raise ValueError(f"{name} have to be of shape (examples,), got {scores.shape}.")
    values = known(scores)
    if values is not None and np.isnan(values).any():
        raise ValueError(f"{name} cannot be ranked: {int(np.isnan(values).sum())} are NaN.")


def check_positive(name: str, x: Array) -> None:
    values = known(x)
    if values is not None and (values <= 0).any():
        raise ValueError(f"{name} has to be > 0 everywhere, got a minimum of {values.min():.4g}.")


def check_at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} has to be an integer >= 1, got {value!r}.")


@partial(jax.jit, static_argnums=0)
def mean_of(
    score: Callable[..., Array], weights: Float[Array, " examples"], *arguments: Any
) -> Float[Array, ""]:
    """The weighted mean over examples of score(*arguments), the mean over its further axes."""
    return mean(score(*arguments), weights)


def mean(
    values: Float[Array, " examples *outputs"], weights: Float[Array, " examples"]
) -> Float[Array, ""]:
    """The weighted mean over examples of the mean over all other axes."""
    per_example = jnp.mean(values.reshape(len(values), -1), axis=1)
    return jnp.sum(weights * per_example) / jnp.sum(weights)


def running_sums(
    keys: Float[Array, " examples"], values: Float[Array, "examples columns"]
) -> tuple[Float[Array, " examples"], Float[Array, "examples columns"]]:
    """The keys in ascending order, and beside each the sum of values over all keys <= it.

    Equal keys have equal sums, so nothing depends on the order in which they came.
    """
    order = jnp.argsort(keys)
    ascending = keys[order]
    last = jnp.searchsorted(ascending, ascending, side="right") - 1
    return ascending, jnp.cumsum(values[order], axis=0)[last]


def _at_least_float32(x: Any) -> Float[Array, "..."]:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(float)
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)
