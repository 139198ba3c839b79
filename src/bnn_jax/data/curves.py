"""Curves with known noise: regression data for checking both uncertainties of a prediction.

Inputs are drawn uniformly from `train_range`. Plots cover `shown_range`, which is wider, because a
network should be uncertain outside of its training data. With e ~ N(0, 1) and s = 0.02:

    blundell_curve          y = x + 0.3 sin(2 pi (x + s e)) + 0.3 sin(4 pi (x + s e)) + s e
    heteroscedastic_curve   y = 7 sin(x) + 3 |cos(x / 2)| e

The first is from Blundell et al. 2015, arXiv:1505.05424, section 5.2, whose noise N(0, 0.02) is
read as having standard deviation 0.02: with a variance of 0.02 the noise would be as large as the
curve. The noise passes through the sines: given x, y has a standard deviation from 0.01 to 0.13.
The second is from Depeweg, Hernandez-Lobato, Doshi-Velez, Udluft 2018, arXiv:1710.07283, here with
uniform inputs.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

Points = Float[np.ndarray, " points"]

BLUNDELL_NOISE = 0.02
_NODES = 40  # quadrature nodes for e; the error is at rounding level for these curves


@dataclasses.dataclass(frozen=True)
class Curve:
    """The distribution of y given x.

    Attributes:
        name: the name in a config.
        target: (x, e) -> y, with standard normal e.
        train_range: (low, high) of the inputs of examples.
        shown_range: (low, high) of plots and of `grid`.
    """

    name: str
    target: Callable[[np.ndarray, np.ndarray], np.ndarray]
    train_range: tuple[float, float]
    shown_range: tuple[float, float]

    def draw(
        self, count: int, *, seed: int | Sequence[int]
    ) -> tuple[Float[np.ndarray, " count"], Float[np.ndarray, " count"]]:
        """Draws examples (x, y) in float32; equal seeds and counts give equal examples."""
        generator = np.random.default_rng(seed)
        x = generator.uniform(*self.train_range, count)
        y = self.target(x, generator.standard_normal(count))
        return x.astype(np.float32), y.astype(np.float32)

    def mean(self, x: Points) -> Float[np.ndarray, " points"]:
        """Returns E[y | x], in float64."""
        return self._moments(x)[0]

    def noise_std(self, x: Points) -> Float[np.ndarray, " points"]:
        """Returns the standard deviation of y given x, the aleatoric uncertainty, in float64."""
        return self._moments(x)[1]

    def grid(self, count: int = 281) -> Float[np.ndarray, " count"]:
        """Returns evenly spaced inputs over `shown_range`, in float32."""
        return np.linspace(*self.shown_range, count, dtype=np.float32)

    def seen(self, x: Points) -> np.ndarray:
        """Returns a mask of the inputs that lie in `train_range`."""
        low, high = self.train_range
        return (x >= low) & (x <= high)

    def _moments(self, x: Points) -> tuple[np.ndarray, np.ndarray]:
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        weights = weights / weights.sum()
        y = self.target(x.astype(np.float64)[:, None], nodes[None, :])
        mean = y @ weights
        return mean, np.sqrt((y - mean[:, None]) ** 2 @ weights)


def _blundell(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    noise = BLUNDELL_NOISE * e
    moved = 2 * np.pi * (x + noise)
    return x + 0.3 * np.sin(moved) + 0.3 * np.sin(2 * moved) + noise


def _heteroscedastic(x: np.ndarray, e: np.ndarray) -> np.ndarray:
    return 7 * np.sin(x) + 3 * np.abs(np.cos(x / 2)) * e


CURVES: dict[str, Curve] = {
    curve.name: curve
    for curve in (
        Curve("blundell_curve", _blundell, train_range=(0.0, 0.5), shown_range=(-0.2, 1.2)),
        Curve(
            "heteroscedastic_curve",
            _heteroscedastic,
            train_range=(-4.0, 4.0),
            shown_range=(-8.0, 8.0),
        ),
    )
}
