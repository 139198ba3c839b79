"""The values that a step reports, their sums over steps, and their means."""

import dataclasses
import math
from functools import partial
from typing import Generic, SupportsFloat, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

Number = TypeVar("Number")  # an array in a step; what a tree transformation makes of it elsewhere

_WITH_KL = ("loss", "kl", "kl_by_layer")


@partial(
    jax.tree_util.register_dataclass,
    data_fields=(
        "loss",
        "nll",
        "kl",
        "dnn_factor",
        "bnn_factor",
        "kl_by_layer",
        "metrics",
        "steps",
        "kl_steps",
    ),
    meta_fields=(),
)
@dataclasses.dataclass(frozen=True)
class StepInfo(Generic[Number]):
    """The values of a step, before its update; or their sums over steps, by `+`.

    Attributes:
        loss: dnn_factor * nll + bnn_factor * kl.
        nll: the data loss, the mean over batch and Monte Carlo samples.
        kl: KL(posterior || prior) in nats, summed over all random weights.
        dnn_factor, bnn_factor: the factors of this step, the schedule included.
        kl_by_layer: {layer: its share of kl}.
        metrics: what metric_fn returned, the mean over the Monte Carlo samples.
        steps: 1, or the number of steps in the sum.
        kl_steps: the number of those steps that have the value of the KL. In the others `kl`,
            `kl_by_layer` and `loss` are nan, and a sum leaves them out.
    """

    loss: Number
    nll: Number
    kl: Number
    dnn_factor: Number
    bnn_factor: Number
    kl_by_layer: PyTree  # an orbax checkpoint treats an empty dict as a leaf
    metrics: PyTree
    steps: Number
    kl_steps: Number

    def __add__(self: "StepInfo[Array]", other: "StepInfo[Array]") -> "StepInfo[Array]":
        """Returns the sums over the steps of both; other is one step."""
        valued = {
            name: jax.tree.map(lambda x: jnp.where(other.kl_steps > 0, x, 0), getattr(other, name))
            for name in _WITH_KL
        }
        return jax.tree.map(jnp.add, self, dataclasses.replace(other, **valued))

    def has_mean(self: "StepInfo[Array]", name: str) -> bool:
        """Returns whether a field has a value in at least one of the summed steps."""
        return bool(self.kl_steps > 0) or name not in _WITH_KL

    def means(self: "StepInfo[Array]") -> dict[str, float | dict[str, float]]:
        """Returns the means over the summed steps as plain numbers, the metrics first.

        Values of the KL are means over the steps that have one, nan where none has. If only some
        steps have one, the loss is computed from the means of its parts.
        """
        sums = jax.device_get(self)
        steps, kl_steps = int(sums.steps), int(sums.kl_steps)

        def mean(name: str, value: SupportsFloat) -> float:
            count = kl_steps if name in _WITH_KL else steps
            return float(value) / count if count else math.nan

        numbers = {
            name: mean(name, getattr(sums, name))
            for name in ("loss", "nll", "kl", "dnn_factor", "bnn_factor")
        }
        if kl_steps < steps:
            numbers["loss"] = (
                numbers["dnn_factor"] * numbers["nll"] + numbers["bnn_factor"] * numbers["kl"]
            )
        metrics = {name: mean("metrics", value) for name, value in sums.metrics.items()}
        layers = {name: mean("kl_by_layer", x) for name, x in sums.kl_by_layer.items()}
        return {**metrics, **numbers, "kl_by_layer": layers}
