"""MindSpore's training cells for NNX modules: a network with its loss, and one training step.

    train_net = TrainOneStepCell(WithLossCell(net, loss_fn), optax.adam(1e-3))
    loss = train_net(x, label)

`TransformToBNN` takes and returns these cells. `bnn_layers.WithBNNLossCell` is the loss cell of a
Bayesian network. docs/mindspore.md shows how to write other training steps.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Float, PyTree

from bnn_jax.bnn_layers import WithBNNLossCell


class WithLossCell(nnx.Module):
    """A network with its loss, loss_fn(backbone(x), label).

    Args:
        backbone: the network, called as backbone(x).
        loss_fn: a function of (outputs, label) that returns a scalar.

    Raises:
        TypeError: the backbone is not an nnx.Module, or loss_fn is not callable.
    """

    def __init__(self, backbone: nnx.Module, loss_fn: Callable[..., PyTree]) -> None:
        if not isinstance(backbone, nnx.Module):
            raise TypeError(f"WithLossCell: backbone must be an nnx.Module, got {backbone!r}.")
        if not callable(loss_fn):
            raise TypeError(
                f"WithLossCell: loss_fn must be a function of (outputs, label), got {loss_fn!r}."
            )
        self.backbone = backbone
        self.loss_fn = loss_fn

    def __call__(self, x: PyTree, label: PyTree) -> Float[Array, ""]:
        """Returns the loss of one batch, a scalar."""
        return self.loss_fn(self.backbone(x), label)

    @property
    def backbone_network(self) -> nnx.Module:
        """The backbone. This is MindSpore's name for it."""
        return self.backbone


class TrainOneStepCell(nnx.Module):
    """A compiled training step: cell(x, label) updates the backbone and returns the loss.

    The loss is that before the update. The call also updates batch statistics, random streams and
    other state of the network.

    Args:
        network: a `WithLossCell` or a `WithBNNLossCell`.
        optimizer: an optax transformation, which trains every nnx.Param of the backbone; or an
            nnx.Optimizer created for the backbone, nnx.Optimizer(net, tx, wrt=nnx.Param), which
            trains the variables that its filter `wrt` selects.

    Attributes:
        network: the given network.
        optimizer: the nnx.Optimizer, with its state.

    Raises:
        TypeError: the network or the optimizer has another type.
        ValueError: the nnx.Optimizer was created for another module, or it trains no variable.
    """

    def __init__(
        self,
        network: WithLossCell | WithBNNLossCell,
        optimizer: optax.GradientTransformation | nnx.Optimizer,
    ) -> None:
        if not isinstance(network, WithLossCell | WithBNNLossCell):
            raise TypeError(
                "TrainOneStepCell: network must be a WithLossCell or a WithBNNLossCell, "
                f"got {type(network).__name__}."
            )
        self.network = network
        self.optimizer = _optimizer(network.backbone, optimizer)

    def __call__(self, x: PyTree, label: PyTree) -> Float[Array, ""]:
        """Performs one step on one batch and returns the loss before it."""
        return _train_step(self, x, label)


@nnx.jit
def _train_step(cell: TrainOneStepCell, x: PyTree, label: PyTree) -> Float[Array, ""]:
    network, optimizer = cell.network, cell.optimizer
    # The filter applies to paths in the backbone, but the gradient is that of the whole cell.
    state = nnx.to_flat_state(nnx.state(network.backbone, optimizer.wrt))
    trained = {("backbone", *path) for path, _ in state}
    argument = nnx.DiffState(0, lambda path, variable: tuple(path) in trained)
    loss_of = nnx.value_and_grad(lambda network: network(x, label), argnums=argument)
    loss, grads = loss_of(network)
    # Optimizers of other libraries may require the standard dtype promotion.
    with jax.numpy_dtype_promotion("standard"):
        optimizer.update(network.backbone, grads["backbone"])
    return loss


def _optimizer(
    backbone: nnx.Module, optimizer: optax.GradientTransformation | nnx.Optimizer
) -> nnx.Optimizer:
    if isinstance(optimizer, nnx.ModelAndOptimizer):
        raise TypeError(
            "TrainOneStepCell: optimizer must be an nnx.Optimizer without a network, got an "
            "nnx.ModelAndOptimizer."
        )
    if isinstance(optimizer, optax.GradientTransformation):
        optimizer = nnx.Optimizer(backbone, optimizer, wrt=nnx.Param)
    elif not isinstance(optimizer, nnx.Optimizer):
        raise TypeError(
            "TrainOneStepCell: optimizer must be an optax transformation or an nnx.Optimizer, "
            f"got {optimizer!r}."
        )
    if not jax.tree.leaves(nnx.state(backbone, optimizer.wrt)):
        raise ValueError(
            f"The optimizer trains nothing: its filter wrt={optimizer.wrt!r} selects no variable "
            "of the backbone."
        )
    expected = nnx.eval_shape(lambda: nnx.Optimizer(backbone, optimizer.tx, wrt=optimizer.wrt))
    if _shapes(optimizer) != _shapes(expected):
        raise ValueError(
            "The optimizer was created for another module than the backbone: create it with "
            "nnx.Optimizer(net, tx, wrt=...) for the net of the WithLossCell, or pass only tx."
        )
    return optimizer


def _shapes(optimizer: nnx.Optimizer) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(optimizer.opt_state)
    return {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
