"""Standardisation as a part of an exported program: raw inputs in, the targets' units out."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bnn_jax import likelihoods

Statistic = Float[np.ndarray, "..."]
Call = Callable[..., dict[str, Array]]


@runtime_checkable
class Affine(Protocol):
    """The map x -> (x - shift) / scale, elementwise over the last axes."""

    @property
    def shift(self) -> Statistic: ...
    @property
    def scale(self) -> Statistic: ...


@runtime_checkable
class Scaling(Protocol):
    """The maps of the inputs and of the targets, as in `Fit.scaling`; None for none."""

    @property
    def inputs(self) -> Affine | None: ...
    @property
    def targets(self) -> Affine | None: ...


def scaled(call: Call, scaling: Scaling, likelihood: object, num_inputs: int) -> Call:
    """Returns the program that takes raw inputs and returns numbers in the targets' units.

    Args:
        call: the program of standardised inputs and targets; its last argument are the inputs.
        scaling: the maps.
        likelihood: whose outputs are scaled if they are numbers.
        num_inputs: of the network.

    Raises:
        ValueError: the maps do not fit the network.
    """
    if scaling.inputs is not None and num_inputs != 1:
        raise ValueError(
            f"A scaling is for a network of one input, and this one has {num_inputs}: leave it out."
        )
    if scaling.targets is not None and not isinstance(likelihood, likelihoods.Regression):
        raise ValueError("The targets of this likelihood have no scale: leave scaling out.")

    def program(*arguments: Array) -> dict[str, Array]:
        *words, x = arguments
        inputs = x if scaling.inputs is None else _standardised(x, scaling.inputs)
        outputs = call(*words, inputs)
        return outputs if scaling.targets is None else _in_units(outputs, scaling.targets)

    return program


def _standardised(x: Array, affine: Affine) -> Array:
    """Returns (x - shift) / scale in float32.

    The shift is rounded to float32 before the subtraction; what this changes is added afterwards.
    """
    shift, scale = (np.asarray(a, np.float64) for a in (affine.shift, affine.scale))
    rounded = shift.astype(np.float32)
    rest = ((rounded - shift) / scale).astype(np.float32)
    shape = (1,) * (x.ndim - shift.ndim)
    first, by, last = (
        jnp.asarray(a, jnp.float32).reshape(shape + a.shape) for a in (rounded, scale, rest)
    )
    return (x.astype(jnp.float32) - first) / by + last


def _in_units(outputs: dict[str, Array], affine: Affine) -> dict[str, Array]:
    mean = outputs["mean"]
    shape = (1,) * (mean.ndim - np.ndim(affine.shift))
    shift, scale = (
        jnp.asarray(a, mean.dtype).reshape(shape + np.shape(a))
        for a in (affine.shift, affine.scale)
    )
    variances = {
        name: value * jnp.square(scale) for name, value in outputs.items() if name != "mean"
    }
    return {"mean": mean * scale + shift, **variances}
