"""TransformToBNN: the training cell, its optimizer and its filter."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from transform_to_bnn_helpers import (
    LABELS,
    ROWS,
    Holder,
    Net,
    X,
    cross_entropy,
    linear,
    snapshot,
    trainable,
)

from bnn_jax.bnn_layers import (
    WithBNNLossCell,
)
from bnn_jax.transforms import TransformToBNN


def small() -> Holder:
    return Holder(a=linear(), b=nnx.LayerNorm(3, rngs=nnx.Rngs(0)), c=linear())


@nnx.jit
def scale_gradient(network: WithBNNLossCell) -> Any:
    return nnx.grad(lambda network: network(ROWS, None))(network)["backbone"]["b"]["scale"][...]


@pytest.mark.parametrize(
    "tx",
    [
        optax.sgd(0.1, momentum=0.9, nesterov=True),
        optax.adamw(optax.piecewise_constant_schedule(0.1, {1: 0.01}), b1=0.5, weight_decay=0.3),
    ],
    ids=["momentum", "adamw"],
)
def test_the_optimizer_keeps_its_settings(tx: Any) -> None:
    """A layer norm's scale over three steps, against its gradients and optax alone."""
    net = small()
    train_net = trainable(net, nnx.Optimizer(net, tx, wrt=nnx.Param))
    train_net.optimizer.step[...] += 5
    train_bnn = TransformToBNN(train_net, 1, 1e-3).transform_to_bnn_model()
    assert train_bnn.optimizer.tx is tx
    assert train_bnn.optimizer.wrt == train_net.optimizer.wrt
    assert int(train_bnn.optimizer.step[...]) == 0
    scale = start = net.b.scale[...]
    state = tx.init(scale)
    for _ in range(3):
        gradient = scale_gradient(nnx.clone(train_bnn.network))  # a clone: noise is drawn once
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(gradient, state, scale)
        scale = optax.apply_updates(scale, updates)
        train_bnn(ROWS, None)
    np.testing.assert_allclose(net.b.scale[...], scale, rtol=1e-5)
    assert float(jnp.abs(scale - start).max()) > 1e-3
    assert int(train_bnn.optimizer.step[...]) == 3


def test_a_filter_is_kept() -> None:
    net = small()
    # A path from the backbone on, not from the cell.
    wrt = nnx.All(nnx.Param, lambda path, value: path[0] in ("a", "b"))
    train_net = trainable(net, nnx.Optimizer(net, optax.sgd(0.1), wrt=wrt))
    train_bnn = TransformToBNN(train_net).transform_to_bnn_model()
    before, trained = snapshot(net), nnx.to_pure_dict(nnx.state(net, nnx.Param))
    train_bnn(ROWS, None)
    after = nnx.to_pure_dict(nnx.state(net, nnx.Param))
    moved = jax.tree.map(lambda x, y: bool(np.any(x != y)), trained, after)
    assert all(jax.tree.leaves([moved["a"], moved["b"]]))
    assert not any(jax.tree.leaves(moved["c"]))
    assert len(before) > len(jax.tree.leaves(moved))  # random streams besides


def test_training_lowers_the_loss_and_compiles_once() -> None:
    net = Net(nnx.Rngs(0))
    traces = []

    def loss_fn(logits: Any, labels: Any) -> Any:
        traces.append(None)
        return cross_entropy(logits, labels)

    transform = TransformToBNN(trainable(net, optax.adam(1e-2), loss_fn), 1, 1e-4)
    train_bnn = transform.transform_to_bnn_model()
    before = snapshot(train_bnn.network)
    losses = [float(train_bnn(X, LABELS))]
    once = len(traces)
    losses += [float(train_bnn(X, LABELS)) for _ in range(30)]
    assert len(traces) == once
    assert np.mean(losses[-5:]) < 0.8 * losses[0]
    after = snapshot(train_bnn.network)
    changed = [name for name in before if not np.array_equal(before[name], after[name])]
    assert sum("untransformed_std" in name for name in changed) == 7
    assert "['backbone']['norm']['mean']" in changed  # batch statistics


def test_a_plain_cell_trains_as_optax_does() -> None:
    net, x, y = linear(3, 1), jnp.ones((4, 3)), jnp.zeros((4, 1))
    tx = optax.adam(0.1)
    cell = trainable(net, tx, lambda outputs, labels: jnp.mean(jnp.square(outputs - labels)))
    params = {"w": net.kernel[...], "b": net.bias[...]}
    state = tx.init(params)

    def loss(p: Any) -> Any:
        return jnp.mean(jnp.square(x @ p["w"] + p["b"][None] - y))

    for _ in range(3):
        value, grads = jax.value_and_grad(loss)(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = tx.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        assert float(cell(x, y)) == pytest.approx(float(value), rel=1e-4)
    np.testing.assert_allclose(net.kernel[...], params["w"], rtol=1e-5)
    np.testing.assert_allclose(net.bias[...], params["b"], rtol=1e-5)
    assert cell.network.backbone_network is net
