"""The loss of a network with Bayesian layers: dnn_factor * data loss + bnn_factor * KL."""

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PyTree

from bnn_jax.bnn_layers import _arguments
from bnn_jax.bnn_layers.layer import kl_by_layer


class WithBNNLossCell(nnx.Module):
    """loss_fn(backbone(x), label) * dnn_factor + bnn_factor * KL, summed over all Bayesian layers.

    Each Bayesian layer counts once, also if it is used twice or held by two containers. The
    backbone may be a Bayesian layer itself. If loss_fn is a mean over examples and the training set
    has N examples, dnn_factor=1 and bnn_factor=1/N give the negative ELBO per example; dnn_factor=N
    and bnn_factor=1 give the negative ELBO.

    Args:
        backbone: the network, called as backbone(x).
        loss_fn: a function of (outputs, label) that returns a scalar.
        dnn_factor: factor of the data loss, >= 0.
        bnn_factor: factor of the KL divergence, >= 0.
        reverse_kl: use KL(prior || posterior), as MindSpore does, instead of
            KL(posterior || prior).

    Raises:
        TypeError: a factor is not an int or a float, or the backbone is not an nnx.Module.
        ValueError: a factor is negative or, at the call, the loss is not a scalar.
    """

    def __init__(
        self,
        backbone: nnx.Module,
        loss_fn: Callable[..., PyTree],
        dnn_factor: float = 1,
        bnn_factor: float = 1,
        reverse_kl: bool = False,
    ) -> None:
        if not isinstance(backbone, nnx.Module):
            raise TypeError(f"WithBNNLossCell: backbone must be an nnx.Module, got {backbone!r}.")
        if not callable(loss_fn):
            raise TypeError(
                f"WithBNNLossCell: loss_fn must be a function of (outputs, label), got {loss_fn!r}."
            )
        self.backbone = backbone
        self.loss_fn = loss_fn
        self.dnn_factor = _factor("dnn_factor", dnn_factor)
        self.bnn_factor = _factor("bnn_factor", bnn_factor)
        self.reverse_kl = _arguments.boolean("WithBNNLossCell", "reverse_kl", reverse_kl)

    def __call__(self, x: PyTree, label: PyTree) -> Float[Array, ""]:
        """Returns the loss of one batch, a scalar."""
        data_loss = self.loss_fn(self.backbone(x), label)
        if isinstance(data_loss, tuple | list | dict) or jnp.shape(data_loss) != ():
            what = getattr(data_loss, "shape", type(data_loss).__name__)
            raise ValueError(
                f"loss_fn must return a scalar, got {what}: reduce over the batch by mean or "
                "sum. (MindSpore adds the KL divergence to each element instead.)"
            )
        kl = sum(kl_by_layer(self.backbone, self.reverse_kl).values(), start=jnp.zeros(()))
        return jnp.asarray(data_loss, kl.dtype) * self.dnn_factor + kl * self.bnn_factor

    @property
    def backbone_network(self) -> nnx.Module:
        """The backbone. This is MindSpore's name for it."""
        return self.backbone


def _factor(name: str, value: object) -> float:
    factor = _arguments.number("WithBNNLossCell", name, value)
    if not factor >= 0:
        raise ValueError(f"WithBNNLossCell: {name} must be at least 0, got {value!r}.")
    return factor
