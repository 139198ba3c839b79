"""Stochastic variational inference: minimise the negative ELBO over minibatches.

    svi = SVI(WithLossCell(vae, ELBO()), optax.adam(1e-3))
    vae = svi.run(key, train_dataset, epochs=10)
    loss = svi.get_train_loss()

The noise of a step comes from the key and the step's number, so a second `run` with the same key
goes on as one longer run would have.

Source: Blei, Kucukelbir, McAuliffe 2017, arXiv:1601.00670, section 4.3.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from bnn_jax.bnn_layers import _arguments
from bnn_jax.infer.batches import reader
from bnn_jax.infer.loss_cell import WithLossCell
from bnn_jax.noise import PRNGKey
from bnn_jax.transforms import train_cells


class SVI:
    """Trains a network in place, every `nnx.Param` of it.

    Args:
        net_with_loss: a `WithLossCell` whose loss is an `ELBO`: the network, and what is minimised.
        optimizer: an optax transformation.

    Raises:
        TypeError: an argument of another type.
        ValueError: a network without parameters.
    """

    def __init__(
        self,
        net_with_loss: WithLossCell | train_cells.WithLossCell,
        optimizer: optax.GradientTransformation,
    ) -> None:
        if type(net_with_loss) is train_cells.WithLossCell:
            loss_fn: Any = net_with_loss.loss_fn
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
        self._opt_state: Any = None
        self._compiled: tuple[Any, Callable[..., Any]] | None = None
        self._steps = self._epochs = 0
        self._loss: float | None = None

    def run(
        self, key: PRNGKey, train_dataset: Any, epochs: int = 10, *, batch_size: int | None = None
    ) -> nnx.Module:
        """Train for some epochs; a further call goes on where this one ended.

        The network is put into training mode, and keeps what it has learned when it is interrupted.

        Args:
            key: gives the noise of every step, and the order of the examples.
            train_dataset: arrays, x or (x, label), shuffled anew for each epoch, without a last
                batch that is not full; or a list or another iterable of batches, taken as they
                come. A batch is x, (x, label), or a dict with "image" and "label".
            epochs: passes over the data.
            batch_size: the size of a batch, for arrays and only for them.

        Returns:
            The network itself: the backbone of net_with_loss.

        Raises:
            TypeError: data of another kind, or images that are not floating point.
            ValueError: epochs < 1; an iterator that more than one epoch would need; an epoch
                without batches.
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
        """The loss per example, in nats, averaged over the steps of the last epoch.

        Raises:
            RuntimeError: there was no epoch yet.
        """
        if self._loss is None:
            raise RuntimeError("There is no training loss yet: call run(key, train_dataset) first.")
        return self._loss

    def _run_epoch(self, key: PRNGKey, batches: Any) -> None:
        parts: Any = nnx.split(self.net_with_loss, nnx.Param, ...)
        graph, params, others = parts
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
                "object whose iter() starts anew."
            )
        self._loss = float(np.sum(np.asarray(jax.device_get(losses), np.float64))) / examples

    def _step(self, graph: Any) -> Callable[..., Any]:
        """The compiled step of this structure of the network, made once."""
        if self._compiled is None or self._compiled[0] != graph:
            self._compiled = graph, jax.jit(_build_step(graph, self.optimizer))
        return self._compiled[1]


def _build_step(graph: Any, optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    def step(
        params: Any, others: Any, opt_state: Any, run_key: Any, index: Any, x: Any, label: Any
    ) -> tuple[Any, Any, Any, Any]:
        key = jax.random.fold_in(run_key, index)

        def loss_of(params: Any) -> tuple[Any, Any]:
            cell = nnx.merge(graph, params, others, copy=True)
            loss = cell(key, x, label)
            return loss, nnx.state(cell, nnx.Not(nnx.Param))

        (loss, new_others), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        # The optimizer is others' code, which need not keep to a strict dtype promotion.
        with jax.numpy_dtype_promotion("standard"):
            updates, opt_state = optimizer.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params, new_others, opt_state, loss

    return step
