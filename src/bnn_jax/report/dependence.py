"""Which inputs of a table a prediction depends on, and how: the partial dependence.

The importance of an input is the increase of the error when its values are permuted among the
examples (Breiman 2001, "Random forests", doi:10.1023/A:1010933404324). The partial dependence on it
is the mean prediction over examples whose other inputs are their own (Friedman 2001,
doi:10.1214/aos/1013203451). Uncertainties are means over the same examples: those of the prediction
of one example, and not of the mean.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from bnn_jax.predictive.posterior_predictive import Classification, Regression

PLACES = 25  # of an input of numbers
FEW = 10  # an input with at most as many different numbers is drawn at each of them
MOST_EXAMPLES = 200  # that a partial dependence is a mean over
MOST_INPUTS = 6
MOST_CATEGORIES = 8
MOST_RANKED = 500  # held-out examples that the importance is computed from
PERMUTATIONS = 5

Inputs = Float[np.ndarray, "examples features"]
Curve = Float[np.ndarray, " places"]


@dataclasses.dataclass(frozen=True)
class Column:
    """An input of a table: its name, its features, and its categories if it has some."""

    name: str
    features: tuple[int, ...]
    categories: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """The places of one input at which predictions are drawn.

    Attributes:
        name: of the input.
        importance: increase of the error when the input is permuted.
        places: values of the input, increasing; for categories, their numbers from 0.
        categories: a name for each place; None for numbers.
        deciles: of the training examples; empty for categories.
    """

    name: str
    importance: float
    places: Curve
    categories: tuple[str, ...] | None
    deciles: Float[np.ndarray, " deciles"]

    @property
    def is_discrete(self) -> bool:
        """Whether the places are all values of the input."""
        return self.categories is not None or len(self.places) <= FEW


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dependence(Axis):
    """The partial dependence of predicted numbers on one input.

    Attributes:
        mean: of the predictive, over the examples.
        aleatoric_std, epistemic_std: square roots of the mean variances over the examples.
    """

    mean: Curve
    aleatoric_std: Curve
    epistemic_std: Curve


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassDependence(Axis):
    """The partial dependence of predicted classes on one input.

    Attributes:
        probabilities: of each class, over the examples.
        expected_entropy: the aleatoric part of the mean entropy over the examples, in nats.
        mutual_information: its epistemic part.
    """

    probabilities: Float[np.ndarray, "places classes"]
    expected_entropy: Curve
    mutual_information: Curve


def important(
    columns: Sequence[Column],
    error_of: Callable[[Inputs, np.ndarray], float],
    inputs: Inputs,
    *,
    seed: int = 0,
) -> list[tuple[Column, float]]:
    """Returns the most important inputs with their importance, the most important first.

    The cost is a prediction of at most MOST_RANKED examples for each input and permutation.

    Args:
        columns: the inputs.
        error_of: (inputs, positions of the examples) -> the error of their predictions.
        inputs: held-out examples.
        seed: of the permutations and of the choice of examples.
    """
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(inputs))[:MOST_RANKED])
    inputs = inputs[chosen]
    error = error_of(inputs, chosen) if columns else 0.0

    def importance(column: Column) -> float:
        increases = []
        for _ in range(PERMUTATIONS):
            changed = inputs.copy()
            features = list(column.features)
            changed[:, features] = inputs[rng.permutation(len(inputs))][:, features]
            increases.append(error_of(changed, chosen) - error)
        return float(np.mean(increases))

    ranked = sorted(((column, importance(column)) for column in columns), key=lambda p: -p[1])
    return ranked[:MOST_INPUTS]


def dependence(
    column: Column,
    importance: float,
    predict: Callable[[Inputs], Regression | Classification],
    train: Inputs,
    *,
    seed: int = 0,
) -> Dependence | ClassDependence:
    """Returns the partial dependence on one input.

    The cost is a prediction of at most PLACES * MOST_EXAMPLES examples.

    Args:
        column, importance: the input.
        predict: inputs -> the predictive; of numbers, with arrays of shape (examples,).
        train: the training inputs.
        seed: of the choice of examples.
    """
    some = np.random.default_rng(seed).permutation(len(train))[:MOST_EXAMPLES]
    values, names = _values(column, train)
    every = np.repeat(train[np.sort(some)][None], len(values), axis=0)
    every[:, :, list(column.features)] = values[:, None]
    predicted = predict(every.reshape(-1, train.shape[1]))

    def averaged(values_: np.ndarray) -> np.ndarray:
        return values_.reshape(len(values), -1, *values_.shape[1:]).mean(axis=1)

    numbers = train[:, column.features[0]]
    axis: dict[str, Any] = {
        "name": column.name,
        "importance": importance,
        "places": values[:, 0] if names is None else np.arange(len(names), dtype=train.dtype),
        "categories": names,
        "deciles": np.zeros(0) if names else np.quantile(numbers, np.arange(1, 10) / 10),
    }
    if isinstance(predicted, Classification):
        return ClassDependence(
            **axis,
            probabilities=averaged(predicted.probabilities),
            expected_entropy=averaged(predicted.expected_entropy),
            mutual_information=averaged(predicted.mutual_information),
        )
    return Dependence(
        **axis,
        mean=averaged(predicted.mean),
        aleatoric_std=np.sqrt(averaged(predicted.aleatoric_variance)),
        epistemic_std=np.sqrt(averaged(predicted.epistemic_variance)),
    )


def _values(
    column: Column, train: Inputs
) -> tuple[Float[np.ndarray, "places own"], tuple[str, ...] | None]:
    """Returns the features at each place, and the names of categories."""
    values = train[:, list(column.features)]
    if column.categories is not None:
        frequent = np.argsort(-values.sum(axis=0), kind="stable")[:MOST_CATEGORIES]
        names = tuple(column.categories[i] for i in frequent)
        return np.eye(len(column.categories), dtype=train.dtype)[frequent], names
    different = np.unique(values)
    if len(different) <= FEW:
        return different[:, None], None
    low, high = np.quantile(values, [0.02, 0.98])  # without the outermost values
    if low == high:
        low, high = different[0], different[-1]
    return np.linspace(low, high, PLACES, dtype=values.dtype)[:, None], None
