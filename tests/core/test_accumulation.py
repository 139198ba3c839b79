"""Gradients of a batch from its parts: equal to those of the whole batch, in less memory."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from bnn_jax import NormalPrior, fit, infer, likelihoods, priors, to_bnn, train
from bnn_jax.train.accumulation import accumulated
from bnn_jax.train.loss import VariationalLoss

RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(24, 5)), jnp.float32)
Y = jnp.arange(24) % 3
PARAMS = {
    "first": 0.3 * jnp.ones((5, 8)),
    "last": jnp.asarray(RNG.normal(size=(8, 3)), jnp.float32),
}
PARTS = 4


def network(params: Any, x: Any) -> Any:
    return jnp.tanh(x @ params["first"]) @ params["last"]


def cross_entropy(outputs: Any, labels: Any) -> Any:
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(outputs, labels))


def accuracy(outputs: Any, labels: Any) -> Any:
    return {"accuracy": jnp.mean((jnp.argmax(outputs, -1) == labels).astype(jnp.float32))}


def assert_close(found: Any, expected: Any) -> None:
    def close(a: Any, b: Any) -> None:
        np.testing.assert_allclose(a, b, rtol=2e-6, atol=1e-7)

    jax.tree.map(close, found, expected)


def test_the_loss_and_the_gradient_are_those_of_the_whole_batch() -> None:
    def loss(params: Any, variables: Any, key: Any, batch: Any) -> Any:
        outputs = network(params, batch[0])
        return cross_entropy(outputs, batch[1]), (variables, accuracy(outputs, batch[1]))

    arguments = PARAMS, {}, jax.random.key(0), (X, Y)
    whole = jax.value_and_grad(loss, has_aux=True)(*arguments)
    parts = jax.jit(jax.value_and_grad(accumulated(loss, PARTS), has_aux=True))(*arguments)
    assert_close(parts, whole)
    assert_close(accumulated(loss, PARTS)(*arguments), whole[0])
    several = jax.vmap(accumulated(loss, PARTS), (0, None, None, None))
    assert_close(
        several(jax.tree.map(lambda w: w[None], PARAMS), *arguments[1:])[0][0], whole[0][0]
    )


def test_parts_are_every_kth_example_with_keys_and_variables_of_their_own() -> None:
    def loss(params: Any, count: Any, key: Any, batch: Any) -> Any:
        noise = jax.random.normal(key, ())
        return params * noise * jnp.sum(batch), (count + 1, {"seen": jnp.max(batch)})

    batch, key = jnp.arange(6.0), jax.random.key(3)
    gradient, (count, metrics) = jax.grad(accumulated(loss, 3), has_aux=True)(
        jnp.ones(()), jnp.zeros((), jnp.int32), key, batch
    )
    draws = [jax.random.normal(jax.random.fold_in(key, i), ()) for i in range(3)]
    sums = [0.0 + 3.0, 1.0 + 4.0, 2.0 + 5.0]
    assert_close(gradient, sum(d * s for d, s in zip(draws, sums, strict=True)) / 3)
    assert count == 3
    assert metrics["seen"] == (3 + 4 + 5) / 3


@pytest.mark.parametrize("estimator", ["reparam", "flipout"])
def test_a_step_adds_the_kl_once(estimator: str) -> None:
    prior = NormalPrior(std=1.0)
    model = to_bnn(network, PARAMS, where="*", prior=prior, estimator=estimator, initial_std=0.2)
    forward, q = model.forward(), model.posterior
    options: dict[str, Any] = {"num_data": 48, "metric_fn": accuracy, "num_samples": 2}
    arguments = forward, cross_entropy, optax.sgd(1.0), prior
    step = jax.jit(train.build_step(*arguments, accumulate_steps=PARTS, **options))
    state, info = step(train.init(q, optax.sgd(1.0)), jax.random.key(1), (X, Y))

    key = jax.random.fold_in(jax.random.key(1), 0)
    alone = VariationalLoss(forward, cross_entropy, accuracy, prior, 1.0, 2, False, False)

    def expected(q: Any) -> Any:
        losses = [
            alone.data_loss(q, {}, jax.random.fold_in(key, i), (X[i::PARTS], Y[i::PARTS]))[0]
            for i in range(PARTS)
        ]
        return sum(losses) / PARTS + priors.kl_divergence(q, prior) / 48

    value, gradient = jax.value_and_grad(expected)(q)
    assert_close(info.loss, value)
    assert_close(info.kl, priors.kl_divergence(q, prior))
    assert_close(state.posterior, jax.tree.map(jnp.subtract, q, gradient))


def test_parts_need_less_memory() -> None:
    params = {"first": jnp.ones((5, 2000)), "last": jnp.ones((2000, 3))}
    x, y = jnp.ones((512, 5)), jnp.zeros((512,), jnp.int32)
    model = to_bnn(network, params, where="*", prior=NormalPrior(std=1.0), estimator="reparam")

    def planned(parts: int) -> int:
        optimizer = optax.sgd(0.1)
        step = train.build_step(
            model.forward(),
            cross_entropy,
            optimizer,
            model.prior,
            num_data=512,
            accumulate_steps=parts,
        )
        state = train.init(model.posterior, optimizer)
        compiled = jax.jit(step).lower(state, jax.random.key(0), (x, y)).compile()
        return int(compiled.memory_analysis().temp_size_in_bytes)

    assert planned(8) < 0.3 * planned(1)


def test_a_fit_is_that_of_whole_batches() -> None:
    module = nn.Sequential([nn.Dense(8), nn.tanh, nn.Dense(3)])
    model = to_bnn(module, module.init(jax.random.key(0), X), prior=NormalPrior(std=1.0))

    def losses(method: Any, parts: int) -> list[float]:
        found = fit(
            jax.random.key(1),
            model,
            (X, Y),
            method=method,
            likelihood=likelihoods.Categorical(),
            epochs=3,
            batch_size=8,
            accumulate_steps=parts,
            progress=False,
        )
        return [line["loss"] for line in found.history]

    for method in (infer.map(), infer.ensemble(infer.map(), size=2, vectorized=True)):
        np.testing.assert_allclose(losses(method, 4), losses(method, 1), rtol=1e-5)
    for method in (infer.ivon(), infer.bayes_by_backprop(sticking_the_landing=True)):
        assert np.all(np.isfinite(losses(method, 2)))
    with pytest.raises(ValueError, match=r"accumulate_steps \(3\) must divide the batch"):
        losses(infer.map(), 3)
    with pytest.raises(ValueError, match="accumulate_steps must be a whole number of at least 1"):
        losses(infer.map(), 0)
