"""Inputs with mean 0 and standard deviation 1, by the statistics of the training part alone.

The statistics are those of each feature, or of each channel of images. A feature that is only 0 or
1, as those of categories are, stays as it is. The scaling can be saved as JSON.
"""

import dataclasses
from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import PyTree, Shaped

from bnn_jax.data.dataset import Dataset, Splits
from bnn_jax.data.errors import DataError
from bnn_jax.data.inputs import Values

Statistic = Shaped[np.ndarray, " features"]
AnyArray = TypeVar("AnyArray", bound=PyTree)

_CHUNK = 2**12  # examples at once, to bound the memory


@dataclasses.dataclass(frozen=True)
class InputScaling:
    """The map x -> (x - shift) / scale over the last axis.

    Attributes:
        shift: a number for each feature or channel.
        scale: the same; positive.
    """

    shift: tuple[float, ...]
    scale: tuple[float, ...]

    @classmethod
    def fit(cls, data: Dataset) -> "InputScaling":
        """Returns the map that gives the inputs of a data set mean 0 and standard deviation 1.

        A constant feature gets the scale 1.

        Raises:
            DataError: the inputs are tokens.
        """
        if data.kind == "tokens":
            raise DataError("Tokens cannot be standardised, for they are no quantities.")
        mean, variance, binary = _statistics(data.inputs)
        # Rounding leaves a constant feature with a variance that is not quite 0.
        constant = variance <= (1e-6 * np.abs(mean)) ** 2
        shift = np.where(binary, 0.0, mean)
        scale = np.where(binary | constant, 1.0, np.sqrt(variance))
        return cls(tuple(shift.tolist()), tuple(scale.tolist()))

    def apply(self, inputs: AnyArray) -> AnyArray:
        """Returns the inputs (examples, ..., features) in float32; NumPy's or JAX's arrays.

        Raises:
            DataError: the number of features is another.
        """
        if inputs.ndim < 2 or inputs.shape[-1] != len(self.shift):
            raise DataError(
                f"The inputs must have {len(self.shift)} features on their last axis as in "
                f"training, got shape {tuple(inputs.shape)}."
            )
        shape = (1,) * (inputs.ndim - 1) + (-1,)
        shift, scale = (
            np.asarray(values, np.float32).reshape(shape) for values in (self.shift, self.scale)
        )
        return (inputs.astype(np.float32) - shift) / scale

    def to_json(self) -> dict[str, list[float]]:
        """Returns the scaling as a dictionary that `json.dump` can write."""
        return {"shift": list(self.shift), "scale": list(self.scale)}

    @classmethod
    def from_json(cls, saved: Mapping[str, PyTree]) -> "InputScaling":
        """Returns the scaling that `to_json` wrote.

        Raises:
            DataError: the dictionary is not of this form.
        """
        try:
            return cls(tuple(map(float, saved["shift"])), tuple(map(float, saved["scale"])))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"This is no saved input scaling ({type(error).__name__}: {error}): write one with "
                "json.dump(scaling.to_json(), file)."
            ) from error


def standardize_inputs(splits: Splits) -> tuple[Splits, InputScaling]:
    """Returns the parts with inputs that are standardised by the training part, and the scaling.

    Raises:
        DataError: the inputs are tokens.
    """
    scaling = InputScaling.fit(splits.train)

    def scaled(data: Dataset) -> Dataset:
        return dataclasses.replace(data, inputs=scaling.apply(data.inputs))

    return (
        dataclasses.replace(
            splits,
            train=scaled(splits.train),
            validation=None if splits.validation is None else scaled(splits.validation),
            test=None if splits.test is None else scaled(splits.test),
        ),
        scaling,
    )


def _statistics(inputs: Values) -> tuple[Statistic, Statistic, Statistic]:
    """Mean, variance, and whether all values are 0 or 1, over all axes but the last, in float64."""
    features = inputs.shape[-1]
    total = np.zeros(features)
    squares = np.zeros(features)
    binary = np.ones(features, bool)
    count = inputs.size // features
    chunks = [inputs[i : i + _CHUNK] for i in range(0, len(inputs), _CHUNK)]
    for chunk in chunks:
        rows = chunk.reshape(-1, features)
        total += rows.sum(axis=0, dtype=np.float64)
        binary &= ((rows == 0) | (rows == 1)).all(axis=0)
    mean = total / count
    for chunk in chunks:
        squares += ((chunk.reshape(-1, features) - mean) ** 2).sum(axis=0)
    return mean, squares / count, binary
