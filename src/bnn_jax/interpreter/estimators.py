"""Estimators: rules for y = linear(x, W) with W ~ N(mean, std), independent for each element.

The three rules give the same marginal distribution of y. They differ in the covariances of its
elements, and so in the variance of the gradients:

    reparam         W = mean + std * eps, with one sample of W for the whole batch.
    local_reparam   y ~ N(linear(x, mean), linear(x^2, std^2)), sampled for each output element.
                    Exact only if each example uses each weight once, as in (batch, in) @ (in, out).
    flipout         linear(x, mean) + out_signs * linear(x * in_signs, std * eps), with one sample
                    of eps for the batch. Random signs make the examples nearly independent. Within
                    an example, y has the same joint distribution as for reparam, also at positions
                    that share weights.

`linear` is any function that is linear in x and in W: a product, a convolution, an einsum. The
rules do not depend on layers. A registered class adds an estimator:

    @register("per_example")
    class PerExample(Estimator):
        def linear(self, weight, use, x):
            ...

Sources: Kingma, Salimans, Welling 2015, arXiv:1506.02557 (local reparameterisation);
Wen, Vicol, Ba, Tran, Grosse 2018, arXiv:1803.04386 (flipout).
"""

import abc
import enum
import math
from collections.abc import Callable, Mapping
from typing import ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax import noise
from bnn_jax.interpreter.linear_maps import Use
from bnn_jax.interpreter.random_weight import RandomArray
from bnn_jax.noise import Draw, PRNGKey

Linear = Callable[[Array, Array], Array]


class Situation(enum.Enum):
    """A use of a weight for which an estimator can be invalid. The values are used in errors."""

    NOT_PER_EXAMPLE = "does not enter a linear map of data with the examples on axis 0"
    REPEATED = "is used more than once in a forward pass"
    POSITIONS = "is used at more than one position of an example"


class Estimator(abc.ABC):
    """A rule for y = linear(x, W), and the situations in which it is valid.

    Attributes:
        fallbacks: the estimator that replaces this one in each situation in which it is invalid. In
            all other situations, this estimator is exact.
        draws_once: whether one sample of the weight serves all uses and examples. Any operation
            can use such a sample.
    """

    fallbacks: ClassVar[Mapping[Situation, str]] = {
        Situation.NOT_PER_EXAMPLE: "reparam",
        Situation.REPEATED: "reparam",
        Situation.POSITIONS: "flipout",
    }
    draws_once: ClassVar[bool] = False

    @abc.abstractmethod
    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        """Returns y = use.map(x, W) for a random W, with the examples on axis 0 of x."""

    def added(self, weight: RandomArray, shared: tuple[slice, ...], examples: int) -> Array:
        """Returns the values of a weight that is added to data, with one row for each example.

        The default draws an independent sample for each example.

        Args:
            weight: a bias, which is the same for all examples.
            shared: the slices that remove repeated values; size 1 on the axis of the examples.
            examples: the number of examples.
        """
        mean = weight.mean[shared]
        eps = noise.normal(weight.draw.key, (examples, *mean.shape[1:]), mean.dtype)
        return weight.draw.shift(mean, weight.std[shared] * eps)


ESTIMATORS: dict[str, Estimator] = {}

E = TypeVar("E", bound=Estimator)


def register(name: str) -> Callable[[type[E]], type[E]]:
    """Returns a class decorator that registers an `Estimator`, for `to_bnn(..., estimator=name)`.

    Raises:
        ValueError: the name is already registered.
    """

    def add(kind: type[E]) -> type[E]:
        if name in ESTIMATORS:
            raise ValueError(f"There is an estimator {name!r} already: use another name.")
        ESTIMATORS[name] = kind()
        return kind

    return add


def check_estimator(name: str) -> str:
    """Returns the name.

    Raises:
        ValueError: no estimator has this name.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"Unknown estimator {name!r}: choose one of {', '.join(ESTIMATORS)}.")
    return name


@register("reparam")
class Reparam(Estimator):
    """One sample of the weight for all uses."""

    fallbacks: ClassVar[Mapping[Situation, str]] = {}
    draws_once = True

    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        return use.map(x, weight.sample())

    def added(self, weight: RandomArray, shared: tuple[slice, ...], examples: int) -> Array:
        return weight.sample()[shared]


@register("local_reparam")
class LocalReparam(Estimator):
    """An independent sample of each output element."""

    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        return local_reparam(weight.draw, use.map, x, weight.mean, weight.std)


@register("flipout")
class Flipout(Estimator):
    """One sample of the weight, with random signs for each example."""

    fallbacks: ClassVar[Mapping[Situation, str]] = {
        Situation.NOT_PER_EXAMPLE: "reparam",
        Situation.REPEATED: "reparam",
    }

    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        return flipout(
            weight.draw,
            use.map,
            x,
            weight.mean,
            weight.deviation(),
            in_signs=use.in_signs,
            out_signs=use.out_signs,
        )

    def added(self, weight: RandomArray, shared: tuple[slice, ...], examples: int) -> Array:
        mean = weight.mean[shared]
        key = jax.random.fold_in(weight.draw.key, 1)
        signs = noise.signs(key, (examples, *mean.shape[1:]), mean.dtype)
        return weight.draw.shift(mean, weight.deviation()[shared] * signs)


def reparam(
    key: PRNGKey | Draw,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    std: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Returns linear(x, W) with one sample of W for the whole batch.

    Source: Blundell et al. 2015, arXiv:1505.05424.
    """
    draw = Draw.of(key)
    return linear(x, draw.shift(mean, std * noise.normal(draw.key, mean.shape, mean.dtype)))


def local_reparam(
    key: PRNGKey | Draw,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    std: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Returns independent samples of the output elements. Computes a second map, of the squares."""
    draw = Draw.of(key)
    y = linear(x, mean)
    variance = linear(jnp.square(x), jnp.square(std))
    # The derivative of sqrt is infinite at 0, and an all-zero input has variance 0.
    spread = jnp.sqrt(jnp.maximum(variance, jnp.finfo(variance.dtype).tiny))
    return draw.shift(y, spread * noise.normal(draw.key, y.shape, y.dtype))


def flipout(
    key: PRNGKey | Draw,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    deviation: Float[Array, "..."],
    *,
    in_signs: tuple[int, ...],
    out_signs: tuple[int, ...],
) -> Float[Array, "..."]:
    """Returns linear(x, W) with one sample of W and random signs for each example.

    Computes a second linear map.

    Args:
        deviation: std * eps, the difference of the sample from the mean.
        in_signs: the shape of the signs on x: full on the example and the contracted axes, else 1.
        out_signs: the shape of the signs on y: full on the example and the output axes, else 1.
    """
    draw = Draw.of(key)
    in_key, out_key = jax.random.fold_in(draw.key, 1), jax.random.fold_in(draw.key, 2)
    if math.prod(in_signs[1:]) == 1:
        # Each example has a single sign on x. It can be absorbed into the signs on y, so both maps
        # have the same x and can be computed as one.
        both = jax.vmap(linear, in_axes=(None, 0))(x, jnp.stack([mean, deviation]))
        y, flipped = both[0], both[1]
    else:
        y = linear(x, mean)
        flipped = linear(x * noise.signs(in_key, in_signs, x.dtype), deviation)
    return draw.shift(y, flipped * noise.signs(out_key, out_signs, flipped.dtype))
