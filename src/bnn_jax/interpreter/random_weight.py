"""A Gaussian weight during one forward pass: its noise, its uses and its views."""

import dataclasses
from collections.abc import Callable
from functools import cached_property

from jaxtyping import Array

from bnn_jax import gaussian
from bnn_jax.gaussian import Gaussian
from bnn_jax.noise import Draw


@dataclasses.dataclass
class Uses:
    """The uses of a weight in a forward pass.

    Attributes:
        per_example: the number of linear maps of data with the examples on axis 0, and of additions
            to such data.
        others: whether another operation uses the weight. Such an operation requires a sample.
        positions: whether an example uses the weight at several positions in one linear map.
    """

    per_example: int = 0
    others: bool = False
    positions: bool = False


@dataclasses.dataclass
class Weight:
    """One Gaussian leaf during one forward pass: its noise, its estimator and its uses.

    Attributes:
        applied: the rule of each use, for the report.
    """

    name: str
    posterior: Gaussian
    draw: Draw
    estimator: str
    uses: Uses = dataclasses.field(default_factory=Uses)
    applied: list[str] = dataclasses.field(default_factory=list)

    @cached_property
    def std(self) -> Array:
        return self.posterior.std

    @cached_property
    def drawn(self) -> Array:
        """The sample of the weight: drawn at the first use and the same for all later uses."""
        self.applied.append("reparam")
        return self.draw.shift(self.posterior.mean, self.deviation())

    def deviation(self) -> Array:
        """Returns the difference of the sample from the mean, std * eps."""
        return gaussian.deviation(self.draw.key, self.posterior)


def _itself(w: Array) -> Array:
    return w


@dataclasses.dataclass(frozen=True)
class RandomArray:
    """A view (reshaped, transposed, cast) of a weight that has not been sampled yet.

    Attributes:
        weight: the weight.
        shape: the shape of the view.
        view: the function that maps an array of the weight's shape to the view.
        copies: the axes along which the view repeats values of the weight.
    """

    weight: Weight
    shape: tuple[int, ...]
    view: Callable[[Array], Array] = _itself
    copies: tuple[int, ...] = ()

    @property
    def draw(self) -> Draw:
        return self.weight.draw

    @property
    def mean(self) -> Array:
        return self.view(self.weight.posterior.mean)

    @property
    def std(self) -> Array:
        return self.view(self.weight.std)

    def deviation(self) -> Array:
        return self.view(self.weight.deviation())

    def sample(self) -> Array:
        return self.view(self.weight.drawn)
