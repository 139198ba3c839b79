"""How a Gaussian weight enters a linear map: y = linear(x, W), W ~ N(mean, std) element by element.

Three rules with the same marginal distribution of y and three covariances, hence three gradient
variances:

    reparam         W = mean + std * eps, one draw shared by the whole batch.
    local_reparam   y ~ N(linear(x, mean), linear(x^2, std^2)), drawn for each output element.
                    Exact only where each example meets each weight once, as in (batch, in) @ (in,
                    out).
    flipout         linear(x, mean) + out_signs * linear(x * in_signs, std * eps): one draw of eps
                    for the batch, made nearly independent between examples by random signs.
                    Within an example it has the distribution of reparam, shared positions included.

`linear` is any function that is linear in x and in W: a product, a convolution, an einsum. The
rules know nothing of layers. Another estimator is a class with a name:

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
from typing import Any, ClassVar, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bnn_jax import noise
from bnn_jax.interpreter.linear_maps import Use
from bnn_jax.interpreter.random_weight import RandomArray
from bnn_jax.noise import Draw, PRNGKey

Linear = Callable[[Any, Any], Any]


class Situation(enum.Enum):
    """A use of a weight for which an estimator may be wrong."""

    NOT_PER_EXAMPLE = "does not enter a linear map of data with the examples on axis 0"
    REPEATED = "is used more than once in a forward pass"
    POSITIONS = "meets an example at more than one position"


class Estimator(abc.ABC):
    """A rule for y = linear(x, W), and where it holds.

    Attributes:
        fallbacks: the estimator that takes this one's place in each situation where it would be
            wrong. A situation that is missing is one where it is exact.
        draws_once: whether it draws one weight for all uses and examples, so that any operation
            may use it.
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
        """Returns a weight that is added to data, one row an example; by default drawn for each.

        Args:
            weight: a bias, which is the same for all examples.
            shared: the part of it without copies, with size 1 on the axis of the examples.
            examples: how many examples there are.
        """
        mean = weight.mean[shared]
        eps = noise.normal(weight.draw.key, (examples, *mean.shape[1:]), mean.dtype)
        return weight.draw.shift(mean, weight.std[shared] * eps)


ESTIMATORS: dict[str, Estimator] = {}

E = TypeVar("E", bound=Estimator)


def register(name: str) -> Callable[[type[E]], type[E]]:
    """A class decorator: makes an `Estimator` known by a name, as `to_bnn(..., estimator=name)`.

    Raises:
        ValueError: another estimator has the name.
    """

    def add(kind: type[E]) -> type[E]:
        if name in ESTIMATORS:
            raise ValueError(f"There is an estimator {name!r} already: choose another name.")
        ESTIMATORS[name] = kind()
        return kind

    return add


def check_estimator(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is not that of an estimator.
    """
    if name not in ESTIMATORS:
        raise ValueError(f"Unknown estimator {name!r}: choose one of {', '.join(ESTIMATORS)}.")
    return name


@register("reparam")
class Reparam(Estimator):
    """One draw of the weight, whatever uses it."""

    fallbacks: ClassVar[Mapping[Situation, str]] = {}
    draws_once = True

    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        return use.map(x, weight.sample())

    def added(self, weight: RandomArray, shared: tuple[slice, ...], examples: int) -> Array:
        return weight.sample()[shared]


@register("local_reparam")
class LocalReparam(Estimator):
    """A draw of each output element."""

    def linear(self, weight: RandomArray, use: Use, x: Array) -> Array:
        return local_reparam(weight.draw, use.map, x, weight.mean, weight.std)


@register("flipout")
class Flipout(Estimator):
    """One draw with random signs for each example."""

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
    """One weight draw for the whole batch; Blundell et al. 2015, arXiv:1505.05424."""
    draw = Draw.of(key)
    return linear(x, draw.shift(mean, std * noise.normal(draw.key, mean.shape, mean.dtype)))


def local_reparam(
    key: PRNGKey | Draw,
    linear: Linear,
    x: Float[Array, "..."],
    mean: Float[Array, "..."],
    std: Float[Array, "..."],
) -> Float[Array, "..."]:
    """An independent draw of every output element. Costs a second linear map, of the squares."""
    draw = Draw.of(key)
    y = linear(x, mean)
    variance = linear(jnp.square(x), jnp.square(std))
    # The derivative of sqrt is infinite at 0, which an all-zero input reaches.
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
    """One weight draw, decorrelated between examples by signs. Costs a second linear map.

    Args:
        deviation: std * eps, the draw's difference from the mean.
        in_signs: shape of the signs on x: full on the example and the contracted axes, else 1.
        out_signs: shape of the signs on y: full on the example and the output axes, else 1.
    """
    draw = Draw.of(key)
    in_key, out_key = jax.random.fold_in(draw.key, 1), jax.random.fold_in(draw.key, 2)
    if math.prod(in_signs[1:]) == 1:
        # An example has one sign on x, which multiplies those on y and changes nothing. So both
        # maps are of the same x, and one map.
        both = jax.vmap(linear, in_axes=(None, 0))(x, jnp.stack([mean, deviation]))
        y, flipped = both[0], both[1]
    else:
        y = linear(x, mean)
        flipped = linear(x * noise.signs(in_key, in_signs, x.dtype), deviation)
    return draw.shift(y, flipped * noise.signs(out_key, out_signs, flipped.dtype))
