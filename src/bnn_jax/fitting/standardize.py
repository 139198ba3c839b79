"""Inputs and targets of regression with mean 0 and standard deviation 1.

The statistics come from the training data only. A prediction is returned in the targets' units:

    mean * scale + shift,   variance * scale^2,   log density - log(scale) for each target element
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float, PyTree

from bnn_jax.devices.processes import whole
from bnn_jax.predictive import Classification, Regression

Prediction = Classification | Regression
Statistic = Float[np.ndarray, "..."]


@dataclasses.dataclass(frozen=True)
class Affine:
    """The map x -> (x - shift) / scale, elementwise over the last axes.

    Attributes:
        shift: mean of the training data, without the example axis.
        scale: their standard deviation; 1 where they are constant.
    """

    shift: Statistic
    scale: Statistic

    @classmethod
    def of(cls, x: ArrayLike) -> "Affine":
        """Returns the map that gives the examples x (axis 0) mean 0 and standard deviation 1."""
        x = np.asarray(x, np.float64)
        scale = x.std(axis=0)
        return cls(x.mean(axis=0), np.where(scale > 0, scale, 1.0))

    @property
    def log_volume(self) -> float:
        """The logarithm of the product of the scales: what a log density loses by `undo`."""
        return float(np.sum(np.log(self.scale)))

    def apply(self, x: ArrayLike) -> Float[np.ndarray, "..."]:
        """Returns (x - shift) / scale in float32."""
        return ((np.asarray(whole(x), np.float64) - self.shift) / self.scale).astype(np.float32)

    def undo(self, predicted: Regression) -> Regression:
        """Returns a prediction of standardised targets in the units of the targets."""
        shift, scale = (s.astype(predicted.mean.dtype) for s in (self.shift, self.scale))
        log_prob: Any = predicted.log_prob
        return dataclasses.replace(
            predicted,
            mean=predicted.mean * scale + shift,
            aleatoric_variance=predicted.aleatoric_variance * scale**2,
            epistemic_variance=predicted.epistemic_variance * scale**2,
            quantiles={level: q * scale + shift for level, q in predicted.quantiles.items()},
            log_prob=None if log_prob is None else log_prob - self.log_volume,
        )


@dataclasses.dataclass(frozen=True)
class Standardizer:
    """The maps of inputs and of targets; None leaves the data as they are."""

    inputs: Affine | None = None
    targets: Affine | None = None

    def of_inputs(self, x: PyTree) -> PyTree:
        """Returns inputs as the network gets them."""
        return x if self.inputs is None else self.inputs.apply(x)

    def of_targets(self, y: ArrayLike) -> ArrayLike:
        """Returns targets as the likelihood gets them."""
        return y if self.targets is None else self.targets.apply(y)

    def losses_in_units(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the `nll` and `loss` of an epoch for densities in the units of the targets."""
        if self.targets is None:
            return {}
        shift = self.targets.log_volume
        weight = line.get("dnn_factor", 1.0)
        return {"nll": line["nll"] + shift, "loss": line["loss"] + weight * shift}

    def undo(self, predicted: Prediction) -> Prediction:
        """Returns a prediction in the units of the targets."""
        if self.targets is None or not isinstance(predicted, Regression):
            return predicted
        return self.targets.undo(predicted)
