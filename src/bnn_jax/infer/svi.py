"""Stochastic variational inference: minimise the negative ELBO over minibatches.

    svi = SVI(WithLossCell(vae, ELBO()), optax.adam(1e-3))
    vae = svi.run(key, train_dataset, epochs=10)
    loss = svi.get_train_loss()

The noise of a step comes from the key and the step number, so two runs with the same key give the
same result as one longer run.

Source: Blei, Kucukelbir, McAuliffe 2017, arXiv:1601.00670, section 4.3.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import jax
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, ArrayLike, PyTree

from bnn_jax.bnn_layers import _arguments
from bnn_jax.infer.batches import Batch, Dataset, reader
from bnn_jax.infer.elbo import ELBO
from bnn_jax.infer.loss_cell import WithLossCell
from bnn_jax.noise import PRNGKey
from bnn_jax.transforms import train_cells

Graph: TypeAlias = nnx.GraphDef[WithLossCell]

# (params, other state, optimizer state, run key, step number, x, label) -> the first three, loss
Step = Callable[..., tuple[PyTree, PyTree, optax.OptState, Array]]


class SVI:
    """Trains every `nnx.Param` of a network in place.

    Args:
        net_with_loss: a `WithLossCell`: the network and its loss, an `ELBO`.
        optimizer: an optax transformation.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a network without parameters.
    """

    def __init__(
        self,
        net_with_loss: WithLossCell | train_cells.WithLossCell,
        optimizer: optax.GradientTransformation,
    ) -> None:
        if type(net_with_loss) is train_cells.WithLossCell:
            loss_fn = cast(ELBO, net_with_loss.loss_fn)  # WithLossCell checks the type
            net_with_loss = WithLossCell(net_with_loss.backbone, loss_fn)
        if not isinstance(net_with_loss, WithLossCell):
            raise TypeError(
                f"SVI needs an infer.WithLossCell as net_with_loss, got {net_with_loss!r}."
            )
        if not isinstance(optimizer, optax.GradientTransformation):
            raise TypeError(f"SVI needs an optax transformation as optimizer, got {optimizer!r}.")
        if not jax.tree.leaves(nnx.state(net_with_loss, nnx.Param)):
            raise ValueError("SVI needs a network with parameters (nnx.Param), got one without.")
        self.net_with_loss = net_with_loss
        self.optimizer = optimizer
        self._opt_state: optax.OptState | None = None
        self._compiled: tuple[Graph, Step] | None = None
        self._steps = self._epochs = 0
        self._loss: float | None = None

    def run(
        self,
        key: PRNGKey,
        train_dataset: Dataset,
        epochs: int = 10,
        *,
        batch_size: int | None = None,
    ) -> nnx.Module:
        """Trains for some epochs; a second call continues where the first ended.

        The network is put into training mode. An interrupted run keeps its parameters.

        Args:
            key: determines the noise of every step and the order of the examples.
            train_dataset: arrays, x or (x, label), which are reshuffled in each epoch and whose
                last incomplete batch is dropped; or an iterable of batches, used in its own order.
                A batch is x, (x, label), or a dict with "image" and "label".
            epochs: number of passes over the data.
            batch_size: examples per batch; required for arrays, and allowed only for them.

        Returns:
            The trained network, which is the backbone of net_with_loss.

        Raises:
            TypeError: unsupported data, or x that is not floating point.
            ValueError: epochs < 1; an iterator with more than one epoch; an epoch without batches.
        """
        _arguments.positive_int("SVI", "epochs", epochs)
        start_epoch = reader(train_dataset, epochs=epochs, batch_size=batch_size)
        noise_key, order_key = (jax.random.fold_in(key, i) for i in range(2))
        self.net_with_loss.train()
        for _ in range(epochs):
            self._run_epoch(noise_key, start_epoch(jax.random.fold_in(order_key, self._epochs)))
            self._epochs += 1
        return self.net_with_loss.backbone

    def get_train_loss(self) -> float:
        """Returns the loss per example, in nats, averaged over the last epoch.

        Raises:
            RuntimeError: no epoch has been run.
        """
        if self._loss is None:
            raise RuntimeError("There is no training loss yet: call run(key, train_dataset) first.")
        return self._loss

    def _run_epoch(self, key: PRNGKey, batches: Iterator[Batch]) -> None:
        graph, *states = nnx.split(self.net_with_loss, nnx.Param, ...)
        params, others = states
        step = self._step(graph)
        if self._opt_state is None:
            self._opt_state = self.optimizer.init(params)
        losses, examples = [], 0
        try:
            for x, label in batches:
                index = np.uint32(self._steps)
                params, others, self._opt_state, loss = step(
                    params, others, self._opt_state, key, index, x, label
                )
                losses.append(loss)
                examples += len(x)
                self._steps += 1
        finally:
            nnx.update(self.net_with_loss, params, others)
        if not losses:
            raise ValueError(
                f"train_dataset gave no batches in epoch {self._epochs + 1}: pass a list, or an "
                "object whose iter() starts again from the first batch."
            )
        self._loss = float(np.sum(np.asarray(jax.device_get(losses), np.float64))) / examples

    def _step(self, graph: Graph) -> Step:
        """Returns the compiled step for this network structure, built once."""
        if self._compiled is None or self._compiled[0] != graph:
            self._compiled = graph, jax.jit(_build_step(graph, self.optimizer))
        return self._compiled[1]


def _build_step(graph: Graph, optimizer: optax.GradientTransformation) -> Step:
    def step(
        params: PyTree,
        others: PyTree,
        opt_state: optax.OptState,
        run_key: PRNGKey,
        index: ArrayLike,
        x: Array,
        label: Array | None,
    ) -> tuple[PyTree, PyTree, optax.OptState, Array]:
        key = jax.random.fold_in(run_key, index)

        def loss_of(params: PyTree) -> tuple[Array, PyTree]:
            cell = nnx.merge(graph, params, others, copy=True)
            loss = cell(key, x, label)
            return loss, nnx.state(cell, nnx.Not(nnx.Param))

        (loss, new_others), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        # Third-party optimizers may rely on standard dtype promotion.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, new_others, opt_state, loss

    return step
