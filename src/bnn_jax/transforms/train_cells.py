"""MindSpore's training cells on NNX modules: a network with its loss, and one training step.

    train_net = TrainOneStepCell(WithLossCell(net, loss_fn), optax.adam(1e-3))
    loss = train_net(x, label)

They are what `TransformToBNN` takes and returns. `bnn_layers.WithBNNLossCell` is the first cell of
a Bayesian network; for anything further write the step yourself, as docs/mindspore.md shows.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float

from bnn_jax.bnn_layers import WithBNNLossCell


class WithLossCell(nnx.Module):
    """loss_fn(backbone(x), label).

    Args:
        backbone: the network, called as backbone(x).
        loss_fn: a function of (outputs, label) that returns a scalar.

    Raises:
        TypeError: a backbone that is no nnx.Module, a loss_fn that cannot be called.
    """

    def __init__(self, backbone: nnx.Module, loss_fn: Callable[..., Any]) -> None:
        if not isinstance(backbone, nnx.Module):
            raise TypeError(f"WithLossCell needs an nnx.Module as backbone, got {backbone!r}.")
        if not callable(loss_fn):
            raise TypeError(
                f"WithLossCell needs a function of (outputs, label) as loss_fn, got {loss_fn!r}."
            )
        self.backbone = backbone
        self.loss_fn = loss_fn

    def __call__(self, x: Any, label: Any) -> Float[Array, ""]:
        """The loss of one batch, a scalar."""
        return self.loss_fn(self.backbone(x), label)

    @property
    def backbone_network(self) -> nnx.Module:
        """The backbone, under MindSpore's name."""
        return self.backbone


class TrainOneStepCell(nnx.Module):
    """One training step per call, compiled: cell(x, label) updates the backbone, returns the loss.

    The loss is that before the update. Batch statistics, random streams and other state of the
    network are carried on.

    Args:
        network: a `WithLossCell` or a `WithBNNLossCell`.
        optimizer: an optax transformation, which then trains every nnx.Param of the backbone; or an
            nnx.Optimizer made for the backbone, nnx.Optimizer(net, tx, wrt=nnx.Param), whose
            filter `wrt` says what is trained.

    Attributes:
        network: as given.
        optimizer: the nnx.Optimizer, with its state.

    Raises:
        TypeError: a network or an optimizer of another type.
        ValueError: an nnx.Optimizer made for another module, or one that trains nothing.
    """

    def __init__(
        self,
        network: WithLossCell | WithBNNLossCell,
        optimizer: optax.GradientTransformation | nnx.Optimizer,
    ) -> None:
        if not isinstance(network, WithLossCell | WithBNNLossCell):
            raise TypeError(
                "TrainOneStepCell needs a WithLossCell or a WithBNNLossCell as network, "
                f"got {type(network).__name__}."
            )
        self.network = network
        self.optimizer = _optimizer(network.backbone, optimizer)

    def __call__(self, x: Any, label: Any) -> Float[Array, ""]:
        """One step on one batch; the loss before it."""
        return _train_step(self, x, label)


@nnx.jit
def _train_step(cell: TrainOneStepCell, x: Any, label: Any) -> Float[Array, ""]:
    network, optimizer = cell.network, cell.optimizer
    # The filter is meant for the backbone's paths, the gradient is taken of the whole cell.
    state = nnx.to_flat_state(nnx.state(network.backbone, optimizer.wrt))
    trained = {("backbone", *path) for path, _ in state}
    argument = nnx.DiffState(0, lambda path, variable: tuple(path) in trained)
    loss_of = nnx.value_and_grad(lambda network: network(x, label), argnums=argument)
    loss, grads = loss_of(network)
    # The optimizer is others' code, which need not keep to a strict dtype promotion.
    with jax.numpy_dtype_promotion("standard"):
        optimizer.update(network.backbone, grads["backbone"])
    return loss


def _optimizer(backbone: nnx.Module, optimizer: Any) -> nnx.Optimizer:
    if isinstance(optimizer, nnx.ModelAndOptimizer):
        raise TypeError(
            "TrainOneStepCell keeps the network itself: pass an nnx.Optimizer, "
            "got an nnx.ModelAndOptimizer."
        )
    if isinstance(optimizer, optax.GradientTransformation):
        optimizer = nnx.Optimizer(backbone, optimizer, wrt=nnx.Param)
    elif not isinstance(optimizer, nnx.Optimizer):
        raise TypeError(
            "TrainOneStepCell needs an optax transformation or an nnx.Optimizer as optimizer, "
            f"got {optimizer!r}."
        )
    if not jax.tree.leaves(nnx.state(backbone, optimizer.wrt)):
        raise ValueError(
            f"The optimizer trains nothing: the backbone has no variable that its filter "
            f"wrt={optimizer.wrt!r} chooses."
        )
    expected = nnx.eval_shape(lambda: nnx.Optimizer(backbone, optimizer.tx, wrt=optimizer.wrt))
    if _shapes(optimizer) != _shapes(expected):
        raise ValueError(
            "The optimizer was made for another module than the backbone: make it with "
            "nnx.Optimizer(net, tx, wrt=...) of the net that WithLossCell has, or pass tx alone."
        )
    return optimizer


def _shapes(optimizer: nnx.Optimizer) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(optimizer.opt_state)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
