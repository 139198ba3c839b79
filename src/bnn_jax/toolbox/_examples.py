"""The inputs of every metric: one entry per example along axis 0, and a weight for each example.

An example of weight w counts as w copies of it, so weights need not sum to 1. Shapes are always
checked. Values are checked outside `jit` only: NaN, infinite values and labels out of range raise
errors. A metric checks its inputs, then runs a compiled function. Numbers of less than 32 bits are
computed in float32.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Integer, Real

ArrayIn = Array | np.ndarray

Probabilities = Float[ArrayIn, "examples classes"]
Labels = Integer[ArrayIn, "examples"]
Weights = Real[ArrayIn, "examples"] | None


def known(x: ArrayLike) -> np.ndarray | None:
    """Returns the values as a numpy array, or None inside `jit`, where they are unknown."""
    return None if isinstance(x, jax.core.Tracer) else np.asarray(x)


def floats(**arrays: ArrayIn) -> tuple[Array, ...]:
    """Converts the named arrays to their widest floating point type; all must have one shape."""
    converted = {name: at_least_float32(x) for name, x in arrays.items()}
    shapes = {name: x.shape for name, x in converted.items()}
    if len(set(shapes.values())) > 1:
        got = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{' and '.join(shapes)} must be of the same shape; got {got}.")
    dtype = np.result_type(*(x.dtype for x in converted.values()))
    return tuple(x.astype(dtype) for x in converted.values())


def finite_floats(**arrays: ArrayIn) -> tuple[Array, ...]:
    """Converts as `floats` does, and refuses NaN and infinite values."""
    converted = floats(**arrays)
    for name, x in zip(arrays, converted, strict=True):
        check_finite(name, x)
    return converted


def labelled(
    probabilities: ArrayIn, labels: ArrayIn, weights: ArrayIn | None
) -> tuple[
    Float[Array, "examples classes"], Integer[Array, " examples"], Float[Array, " examples"]
]:
    """Checks and converts the inputs of a metric of class probabilities."""
    p = class_probabilities(probabilities)
    labels = class_labels(labels, examples=p.shape[0], classes=p.shape[1])
    return p, labels, example_weights(weights, p)


def class_probabilities(
    probabilities: ArrayIn, name: str = "probabilities"
) -> Float[Array, "examples classes"]:
    """Checks that the rows are finite, not negative and sum to 1."""
    p = at_least_float32(probabilities)
    if p.ndim != 2:
        raise ValueError(
            f"{name} must be of shape (examples, classes), got {p.shape}: reshape them "
            "to (-1, classes); for two classes, stack [1 - p, p] along the last axis."
        )
    values = known(p)
    if values is None:
        return p
    check_finite(name, p)
    tolerance = max(1e-3, 4 * float(jnp.finfo(jnp.asarray(probabilities).dtype).eps))
    sums = values.sum(axis=1)
    wrong = (values < 0).any(axis=1) | (np.abs(sums - 1) > tolerance)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must be >= 0 and sum to 1 in each row; row "
            f"{row} has minimum {values[row].min():.4g} and sum {sums[row]:.4g}. "
            "For logits, pass jax.nn.softmax(logits)."
        )
    return p


def class_labels(labels: ArrayIn, *, examples: int, classes: int) -> Integer[Array, " examples"]:
    """Checks that there is one class number per example, from 0 to classes - 1."""
    labels = jnp.asarray(labels)
    if labels.shape != (examples,) or not jnp.issubdtype(labels.dtype, jnp.integer):
        raise ValueError(
            f"labels must be {examples} class numbers, one per example; got {labels.dtype} of "
            f"shape {labels.shape}. For one-hot labels, pass labels.argmax(-1)."
        )
    values = known(labels)
    if values is not None and values.size and not (values.min() >= 0 and values.max() < classes):
        raise ValueError(
            f"labels must be in 0 .. {classes - 1}, as there are {classes} classes; got "
            f"{values.min()} .. {values.max()}."
        )
    return labels.astype(int)


def example_weights(weights: ArrayIn | None, like: Array) -> Float[Array, " examples"]:
    """Checks that there is one weight per entry of axis 0 of `like`; by default all are 1."""
    if like.ndim == 0 or len(like) == 0:
        raise ValueError(f"A metric needs at least one example on axis 0, got shape {like.shape}.")
    if weights is None:
        return jnp.asarray(np.ones(len(like), like.dtype))
    w = jnp.asarray(weights)
    if w.shape != (len(like),):
        raise ValueError(f"weights must be one per example, ({len(like)},); got {w.shape}.")
    values = known(w)
    if values is not None and not ((values >= 0).all() and 0 < values.sum() < np.inf):
        raise ValueError(
            "weights must be >= 0, finite and not all 0; got minimum "
            f"{values.min():.4g} and sum {values.sum():.4g}."
        )
    return w.astype(like.dtype)


def check_rankable(name: str, scores: Array) -> None:
    """Checks scores that examples are sorted by: one per example, none NaN."""
    if scores.ndim != 1:
        raise ValueError(f"{name} must be of shape (examples,), got {scores.shape}.")
    check_not_nan(name, scores)


def check_finite(name: str, x: Array) -> None:
    """Refuses NaN and infinite values."""
    values = known(x)
    if values is not None:
        _refuse(name, "finite", "NaN or infinite", np.asarray(~np.isfinite(values)))


def check_not_nan(name: str, x: Array) -> None:
    """Refuses NaN. Infinite values pass: an interval or a threshold may be infinite."""
    values = known(x)
    if values is not None:
        _refuse(name, "numbers", "NaN", np.asarray(np.isnan(values)))


def check_positive(name: str, x: Array) -> None:
    values = known(x)
    if values is not None and not (values > 0).all():
        raise ValueError(f"{name} must be > 0 everywhere, got a minimum of {values.min():.4g}.")


def check_at_least_one(name: str, value: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, got {value!r}.")


@partial(jax.jit, static_argnums=0)
def mean_of(
    score: Callable[..., Array], weights: Float[Array, " examples"], *arguments: ArrayLike
) -> Float[Array, ""]:
    """Returns the weighted mean over examples of score(*arguments), averaged over further axes."""
    return mean(score(*arguments), weights)


def mean(
    values: Float[Array, " examples *outputs"], weights: Float[Array, " examples"]
) -> Float[Array, ""]:
    """Returns the weighted mean over examples of the mean over all other axes."""
    per_example = jnp.mean(values.reshape(len(values), -1), axis=1)
    return jnp.sum(weights * per_example) / jnp.sum(weights)


def running_sums(
    keys: Float[Array, " examples"], values: Float[Array, "examples columns"]
) -> tuple[Float[Array, " examples"], Float[Array, "examples columns"]]:
    """Returns the keys in ascending order, and for each the sum of values over all keys <= it.

    Equal keys have equal sums, so the result does not depend on the order of the examples.
    """
    order = jnp.argsort(keys)
    ascending = keys[order]
    last = jnp.searchsorted(ascending, ascending, side="right") - 1
    return ascending, jnp.cumsum(values[order], axis=0)[last]


def at_least_float32(x: ArrayIn) -> Float[Array, "..."]:
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        return x.astype(float)
    return x if x.dtype.itemsize >= 4 else x.astype(jnp.float32)


def _refuse(name: str, rule: str, kind: str, wrong: np.ndarray) -> None:
    if wrong.any():
        first = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise ValueError(
            f"{name} must be {rule}; {int(wrong.sum())} of {wrong.size} values are {kind}, the "
            f"first at index {first}. Outputs of a network that diverged cannot be scored."
        )
