"""The loss of a network with Bayesian layers: dnn_factor * data loss + bnn_factor * KL."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from bnn_jax.bnn_layers import _arguments
from bnn_jax.bnn_layers.layer import kl_by_layer


class WithBNNLossCell(nnx.Module):
    """loss_fn(backbone(x), label) * dnn_factor + bnn_factor * KL, summed over all Bayesian layers.

    Each Bayesian layer counts once: the backbone itself if it is one, and one that is used twice or
    sits in two containers. With a mean loss over N training examples, dnn_factor=1 and
    bnn_factor=1/N (or N and 1) is the negative ELBO (times N).

    Args:
        backbone: the network, called as backbone(x).
        loss_fn: a function of (outputs, label) that returns a scalar.
        dnn_factor: factor of the data loss, >= 0.
        bnn_factor: factor of the KL divergence, >= 0.
        reverse_kl: KL(prior || posterior), the direction that MindSpore computes, instead of
            KL(posterior || prior).

    Raises:
        TypeError: a factor that is no int or float; a backbone that is no nnx.Module.
        ValueError: a negative factor; at the call, a loss that is not a scalar.
    """

    def __init__(
        self,
        backbone: nnx.Module,
        loss_fn: Callable[..., Any],
        dnn_factor: float = 1,
        bnn_factor: float = 1,
        reverse_kl: bool = False,
    ) -> None:
        if not isinstance(backbone, nnx.Module):
            raise TypeError(f"WithBNNLossCell needs an nnx.Module as backbone, got {backbone!r}.")
        if not callable(loss_fn):
            raise TypeError(
                f"WithBNNLossCell needs a function of (outputs, label) as loss_fn, got {loss_fn!r}."
            )
        self.backbone = backbone
        self.loss_fn = loss_fn
        self.dnn_factor = _factor("dnn_factor", dnn_factor)
        self.bnn_factor = _factor("bnn_factor", bnn_factor)
        self.reverse_kl = _arguments.boolean("WithBNNLossCell", "reverse_kl", reverse_kl)

    def __call__(self, x: Any, label: Any) -> Float[Array, ""]:
        """The loss of one batch, a scalar."""
        data_loss = self.loss_fn(self.backbone(x), label)
        if isinstance(data_loss, tuple | list | dict) or jnp.shape(data_loss) != ():
            what = getattr(data_loss, "shape", type(data_loss).__name__)
            raise ValueError(
                f"loss_fn must return a scalar, got {what}: reduce over the batch by mean or "
                "sum. (MindSpore adds the KL divergence to every element.)"
            )
        kl = sum(kl_by_layer(self.backbone, self.reverse_kl).values(), start=jnp.zeros(()))
        return jnp.asarray(data_loss, kl.dtype) * self.dnn_factor + kl * self.bnn_factor

    @property
    def backbone_network(self) -> nnx.Module:
        """The backbone, under MindSpore's name."""
        return self.backbone


def _factor(name: str, value: Any) -> float:
    if not _arguments.number("WithBNNLossCell", name, value) >= 0:
        raise ValueError(f"WithBNNLossCell needs {name} >= 0, got {value!r}.")
    return value
