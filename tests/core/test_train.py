"""The loss of a training step: its terms, its gradient and its options."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnn_jax import functional, gaussian, objective, priors, train
from bnn_jax.priors import NormalPrior, ScaleMixturePrior
from core_helpers import ESTIMATORS, data, key, no_noise, random_posterior
from train_helpers import LABELS, X, assert_equal, build, network, posterior, squared_error, start


@jax.jit
def data_loss(q: Any, k: Any) -> Any:
    """Of one sample of the weights."""
    return squared_error(network("reparam")(k, q, None, X)[0], LABELS)


def test_info_is_what_the_step_saw() -> None:
    step = jax.jit(build(num_samples=2, kl_schedule=objective.linear(warmup_steps=4)))
    state = dataclasses.replace(start(), step=jnp.asarray(1, jnp.int32))
    _, info = step(state, key(0), (X, LABELS))
    keys = jax.random.split(jax.random.fold_in(key(0), 1), 2)
    nll = np.mean([data_loss(posterior(), k) for k in keys])
    layers = priors.kl_by_layer(posterior(), NormalPrior(0.0, 1.0))
    assert float(info.nll) == pytest.approx(nll, rel=1e-5)
    assert {k: float(v) for k, v in info.kl_by_layer.items()} == pytest.approx(
        {k: float(v) for k, v in layers.items()}, rel=1e-5
    )
    assert float(info.kl) == pytest.approx(sum(map(float, layers.values())), rel=1e-5)
    assert (float(info.dnn_factor), float(info.bnn_factor)) == pytest.approx((1.0, 0.25 / 12))
    assert float(info.loss) == pytest.approx(nll + float(info.kl) * 0.25 / 12, rel=1e-5)
    assert info.metrics == {}


def test_the_update_is_the_gradient_of_that_loss() -> None:
    step = jax.jit(build(optimizer=optax.sgd(1.0)))
    state, _ = step(start(optax.sgd(1.0)), key(0), (X, LABELS))
    (k,) = jax.random.split(jax.random.fold_in(key(0), 0), 1)

    def loss(q: Any) -> Any:
        return data_loss(q, k) + priors.kl_divergence(q, NormalPrior(0.0, 1.0)) / 12

    expected = jax.tree.map(jnp.subtract, posterior(), jax.jit(jax.grad(loss))(posterior()))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        state.posterior,
        expected,
    )


@pytest.mark.parametrize("options", [{"num_data": 12}, {"dnn_factor": 12.0, "bnn_factor": 1.0}])
def test_the_elbo_of_an_epoch_does_not_depend_on_the_batch_size(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    no_noise(monkeypatch)  # the same weights for every batch
    frozen = optax.set_to_zero()
    elbos = []
    for size in (1, 4, 12):
        step = jax.jit(build(optimizer=frozen, **options))
        state, total = start(frozen), 0.0
        for first in range(0, 12, size):
            batch = X[first : first + size], LABELS[first : first + size]
            state, info = step(state, key(0), batch)
            total += float(info.loss) * size / (1 if "num_data" in options else 12)
        elbos.append(total)
    q = gaussian.mean(posterior())
    outputs = jnp.tanh(X @ q["one"]["kernel"] + q["one"]["bias"][None]) @ q["two"]["kernel"]
    nll = 12 * float(squared_error(outputs, LABELS))
    kl = float(priors.kl_divergence(posterior(), NormalPrior(0.0, 1.0)))
    np.testing.assert_allclose(elbos, nll + kl, rtol=1e-5)


def test_blundells_schedule_adds_up_to_the_same_kl() -> None:
    weights = []
    for schedule in (objective.constant(), objective.blundell(num_batches=4)):
        frozen = optax.set_to_zero()
        step = jax.jit(build(optimizer=frozen, kl_schedule=schedule))
        state, total = start(frozen), 0.0
        for _ in range(4):
            state, info = step(state, key(0), (X, LABELS))
            total += float(info.bnn_factor)
        weights.append(total)
    assert weights[0] == pytest.approx(4 / 12, rel=1e-6)
    assert weights[1] == pytest.approx(4 / 12, rel=1e-6)


def test_num_data_is_a_pair_of_factors() -> None:
    one = jax.jit(build(num_data=12))(start(), key(0), (X, LABELS))
    other = jax.jit(build(dnn_factor=1, bnn_factor=1 / 12))(start(), key(0), (X, LABELS))
    assert_equal(one, other)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_antithetic_pairs_have_opposite_noise(estimator: str) -> None:
    # Of a linear network and a linear loss nothing but the mean is left.
    def forward(k: Any, q: Any, variables: Any, x: Any) -> Any:
        y = functional.dense(k, q, x, estimator=estimator)
        return y, variables

    q = {"kernel": random_posterior(1, 3, 2)}
    step = train.build_step(
        forward,
        lambda outputs, labels: jnp.sum(outputs * labels),
        optax.sgd(0.01),
        NormalPrior(),
        num_data=12,
        num_samples=4,
        antithetic=True,
    )
    _, info = jax.jit(step)(train.init(q, optax.sgd(0.01)), key(0), (X, LABELS))
    expected = float(jnp.sum((X @ q["kernel"].mean) * LABELS))
    assert float(info.nll) == pytest.approx(expected, rel=1e-4)


def test_reverse_kl() -> None:
    _, info = jax.jit(build(reverse_kl=True))(start(), key(0), (X, LABELS))
    expected = priors.kl_divergence(posterior(), NormalPrior(0.0, 1.0), reverse=True)
    assert float(info.kl) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("prior", [NormalPrior(0.0, 1.0), ScaleMixturePrior(0.25, 1.0, 0.1)])
def test_the_value_of_the_kl_now_and_then(prior: Any) -> None:
    """Its gradient acts in every step; where the value is told, it is what it would have been."""
    always, rarely = jax.jit(build(prior=prior)), jax.jit(build(prior=prior, kl_every=3))
    one, other = start(), start()
    for i in range(5):
        one, expected = always(one, key(0), (X, LABELS))
        other, info = rarely(other, key(0), (X, LABELS))
        assert float(info.nll) == pytest.approx(float(expected.nll), rel=1e-5)
        for field in ("kl", "loss"):
            value = float(getattr(expected, field)) if i % 3 == 0 else math.nan
            assert float(getattr(info, field)) == pytest.approx(value, rel=1e-5, nan_ok=True)
        assert info.kl_by_layer.keys() == expected.kl_by_layer.keys()
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    with pytest.raises(ValueError, match="kl_every must be an integer of at least 1, got 0"):
        build(kl_every=0)


def test_a_monte_carlo_kl_sees_the_weights_of_the_forward_pass() -> None:
    prior = ScaleMixturePrior(0.25, 1.0, 0.1)
    _, info = jax.jit(build(prior=prior))(start(), key(0), (X, LABELS))
    (k,) = jax.random.split(jax.random.fold_in(key(0), 0), 1)
    weights = gaussian.sample(k, posterior())
    outputs = (
        jnp.tanh(X @ weights["one"]["kernel"] + weights["one"]["bias"][None])
        @ weights["two"]["kernel"]
    )
    assert float(info.nll) == pytest.approx(float(squared_error(outputs, LABELS)), rel=1e-5)
    kl = priors.kl_divergence(posterior(), prior, weights=weights)
    assert float(info.kl) == pytest.approx(float(kl), rel=1e-5)


def test_a_prior_for_each_weight_that_is_not_trained() -> None:
    prior = priors.centred_on(posterior(), 0.3)
    _, info = jax.jit(build(prior=prior))(start(), key(0), (X, LABELS))
    expected = priors.kl_divergence(posterior(), prior)
    assert float(info.kl) == pytest.approx(float(expected), rel=1e-5)


def test_metrics_and_variables() -> None:
    def metric_fn(outputs: Any, labels: Any) -> dict[str, Any]:
        return {"size": jnp.max(jnp.abs(outputs)), "count": jnp.asarray(len(labels))}

    step = jax.jit(build(metric_fn=metric_fn, num_samples=2))
    variables = {"calls": jnp.asarray(3.0)}
    state, info = step(start(variables=variables), key(0), (X, LABELS))
    assert float(state.variables["calls"]) == 4.0
    assert int(info.metrics["count"]) == 12
    assert float(info.metrics["size"]) > 0


def test_no_random_weights_at_all() -> None:
    def forward(k: Any, q: Any, variables: Any, x: Any) -> Any:
        return x @ q["kernel"], variables

    step = train.build_step(forward, squared_error, optax.sgd(0.1), NormalPrior(), num_data=12)
    state = train.init({"kernel": data(3, 3, 2)}, optax.sgd(0.1))
    _, info = jax.jit(step)(state, key(0), (X, LABELS))
    assert (float(info.kl), info.kl_by_layer) == (0.0, {})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"num_data": 12, "bnn_factor": 1.0},
            ValueError,
            "Set num_data, or .*, not both",
        ),
        (
            {"dnn_factor": 1.0},
            ValueError,
            "or both dnn_factor.*bnn_factor=None",
        ),
        (
            {"dnn_factor": -1.0, "bnn_factor": 1.0},
            ValueError,
            "dnn_factor must be.*-1.0",
        ),
        ({"num_data": 0}, ValueError, "integer of at least 1, got 0"),
        ({"num_samples": 0}, ValueError, "num_samples must be at least 1, got 0"),
        (
            {"num_samples": 3, "antithetic": True},
            ValueError,
            "must be even.*, got 3",
        ),
        ({"average_decay": 1.5}, ValueError, "average_decay.*1.5"),
    ],
)
def test_wrong_options_are_errors_before_any_work(
    options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(**options)


def test_a_loss_by_example_is_an_error() -> None:
    step = train.build_step(
        network("reparam"),
        lambda outputs, labels: jnp.sum((outputs - labels) ** 2, axis=-1),
        optax.sgd(0.1),
        NormalPrior(),
        num_data=12,
    )
    with pytest.raises(ValueError, match=r"data loss must be a scalar, got shape \(12,\)"):
        jax.eval_shape(step, start(optax.sgd(0.1)), key(0), (X, LABELS))
