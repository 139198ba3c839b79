"""Training: a closed form to arrive at, and steps that can be repeated, resumed and split."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from bnn_jax import functional, gaussian, objective, priors, train
from bnn_jax.gaussian import Gaussian
from bnn_jax.interpreter import random_array
from bnn_jax.priors import NormalPrior, ScaleMixturePrior
from core_helpers import ESTIMATORS, data, key, no_noise, random_posterior

X, LABELS = data(0, 12, 3), data(1, 12, 2)


def posterior() -> dict[str, Any]:
    return {
        "one": {"kernel": random_posterior(1, 3, 4), "bias": random_posterior(2, 4)},
        "two": {"kernel": random_posterior(3, 4, 2)},
    }


def network(estimator: str) -> train.Forward:
    def forward(k: Any, q: Any, variables: Any, x: Any) -> Any:
        # The keys of `gaussian.sample` for the whole tree, not one for each layer.
        def call(p: Any, inputs: Any) -> Any:
            hidden = jax.nn.tanh(inputs @ p["one"]["kernel"] + p["one"]["bias"][None])
            return hidden @ p["two"]["kernel"]

        outputs = random_array.apply(call, k, q, x, estimator=estimator)
        count = None if variables is None else {"calls": variables["calls"] + 1}
        return outputs, count

    return forward


def squared_error(outputs: Any, labels: Any) -> Any:
    return jnp.mean(jnp.sum((outputs - labels) ** 2, axis=-1))


@jax.jit
def data_loss(q: Any, k: Any) -> Any:
    """Of one sample of the weights."""
    return squared_error(network("reparam")(k, q, None, X)[0], LABELS)


def build(estimator: str = "reparam", optimizer: Any = None, **options: Any) -> Callable[..., Any]:
    if not {"num_data", "dnn_factor"} & set(options):
        options["num_data"] = len(X)
    prior = options.pop("prior", NormalPrior(0.0, 1.0))
    forward = network(estimator)
    return train.build_step(forward, squared_error, optimizer or optax.sgd(0.01), prior, **options)


def start(optimizer: Any = None, **options: Any) -> train.State:
    return train.init(posterior(), optimizer or optax.sgd(0.01), **options)


def assert_equal(got: Any, expected: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, got, expected)


# ---- Conjugate Bayesian linear regression. y = X w + noise, w ~ N(0, prior_std). With orthogonal
# columns the exact posterior is a product of normals, so the best factorised one is exact and the
# ELBO is the log evidence.

N, NOISE, PRIOR_STD = 32, 0.5, 2.0


def regression() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    q, _ = np.linalg.qr(rng.normal(size=(N, 3)))
    x = q * np.asarray([4.0, 2.0, 1.0])
    y = x @ np.asarray([[1.0], [-2.0], [1.5]]) + NOISE * rng.normal(size=(N, 1))
    return x, y


def closed_form() -> tuple[np.ndarray, np.ndarray, float]:
    """Posterior mean and std, and the log evidence in nats."""
    x, y = regression()
    precision = np.sum(x**2, axis=0) / NOISE**2 + 1 / PRIOR_STD**2
    mean = (x.T @ y)[:, 0] / NOISE**2 / precision
    covariance = NOISE**2 * np.eye(N) + PRIOR_STD**2 * x @ x.T
    _, logdet = np.linalg.slogdet(2 * np.pi * covariance)
    evidence = -0.5 * (logdet + y[:, 0] @ np.linalg.solve(covariance, y[:, 0]))
    return mean, precision**-0.5, float(evidence)


def gaussian_nll(outputs: Any, labels: Any) -> Any:
    squares = ((outputs - labels) / NOISE) ** 2
    return jnp.mean(0.5 * squares) + 0.5 * np.log(2 * np.pi * NOISE**2)


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(
    "dtype",
    [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.float64],
    ids=["float32", "float64"],
)
def test_linear_regression_arrives_at_the_closed_form(estimator: str, dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        x, y = (jnp.asarray(a, dtype) for a in regression())
        mean, std, evidence = closed_form()

        def forward(k: Any, q: Any, variables: Any, inputs: Any) -> Any:
            layer = functional.dense(k, q, inputs, estimator=estimator)
            return layer, variables

        steps, samples = 50_000, 8
        optimizer = optax.adam(optax.cosine_decay_schedule(0.02, steps))
        prior = NormalPrior(0.0, PRIOR_STD)
        step = train.build_step(
            forward,
            gaussian_nll,
            optimizer,
            prior,
            num_data=N,
            num_samples=samples,
            antithetic=True,
        )
        q = {"kernel": Gaussian(jnp.zeros((3, 1), dtype), jnp.full((3, 1), -1.0, dtype))}

        @jax.jit
        def run(state: train.State, run_key: Any) -> Any:
            return jax.lax.scan(lambda s, _: step(s, run_key, (x, y)), state, None, length=steps)

        state, info = run(train.init(q, optimizer), key(0))
        got = state.posterior["kernel"]
        assert got.mean.dtype == dtype
        np.testing.assert_allclose(got.mean[:, 0], mean, rtol=0.01)
        np.testing.assert_allclose(got.std[:, 0], std, rtol=0.01)
        # The loss is the negative ELBO per example.
        elbo = -N * np.asarray(info.loss[-1000:], np.float64).mean()
        assert elbo == pytest.approx(evidence, rel=0.01)
        assert int(state.step) == steps


# ---- The loss of a step.


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


# ---- Steps as a program: compiled once, repeatable, resumable.


def adam() -> Any:
    return optax.adam(0.01)


def run(state: train.State, step: Callable[..., Any], steps: int) -> tuple[train.State, Any]:
    info = None
    for _ in range(steps):
        state, info = step(state, key(0), (X, LABELS))
    return state, info


def test_it_compiles_once_and_donates_its_state() -> None:
    step = jax.jit(build(optimizer=adam()), donate_argnums=0)
    first = start(adam(), average=True)
    state, _ = run(first, step, 3)
    assert step._cache_size() == 1
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert int(state.step) == 3


def test_init_copies_what_it_is_given() -> None:
    mine = posterior()
    step = jax.jit(build(optimizer=adam()), donate_argnums=0)
    step(train.init(mine, adam(), average=True), key(0), (X, LABELS))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(mine))


def test_an_optimizer_that_keeps_the_weights_can_be_donated() -> None:
    # Its state is, at first, the very arrays of the posterior.
    optimizer = optax.contrib.schedule_free_sgd(0.01)
    step = jax.jit(build(optimizer=optimizer), donate_argnums=0)
    state, _ = step(start(optimizer), key(0), (X, LABELS))
    assert int(state.step) == 1


@pytest.mark.usefixtures("optimized")
@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param("reparam", marks=pytest.mark.slow),
        pytest.param("local_reparam", marks=pytest.mark.slow),
        "flipout",
    ],
)
def test_one_seed_gives_one_run_and_a_resumed_run_is_the_same(
    estimator: str, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"num_samples": 2, "antithetic": True}
    step = jax.jit(build(estimator, adam(), **options))
    whole, last = run(start(adam(), average=True), step, 6)
    again, again_last = run(start(adam(), average=True), step, 6)
    assert_equal((again, again_last), (whole, last))

    half, _ = run(start(adam(), average=True), step, 3)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", half)
        checkpointer.wait_until_finished()
        template = jax.tree.map(jnp.zeros_like, start(adam(), average=True))
        restored = checkpointer.restore(tmp_path / "state", template)
    resumed_step = jax.jit(build(estimator, adam(), **options))
    assert_equal(run(restored, resumed_step, 3), (whole, last))


def test_steps_and_runs_differ_in_their_noise() -> None:
    frozen = optax.set_to_zero()
    step = jax.jit(build(optimizer=frozen))
    state, one = step(start(frozen), key(0), (X, LABELS))
    _, two = step(state, key(0), (X, LABELS))
    _, other = step(start(frozen), key(1), (X, LABELS))
    assert len({float(info.nll) for info in (one, two, other)}) == 3


def test_the_average_follows_the_posterior() -> None:
    step = jax.jit(build(average_decay=0.9))
    before = start(average=True)
    after, _ = step(before, key(0), (X, LABELS))
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, before.average, after.posterior)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        after.average,
        expected,
    )
    assert start().average is None


def test_bfloat16_compute_keeps_a_float32_posterior() -> None:
    forward = network("flipout")

    def narrow(k: Any, q: Any, variables: Any, x: Any) -> Any:
        half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), q)
        y, variables = forward(k, half, variables, x.astype(jnp.bfloat16))
        return y.astype(jnp.float32), variables

    step = train.build_step(narrow, squared_error, adam(), NormalPrior(0.0, 1.0), num_data=12)
    state, info = jax.jit(step)(start(adam()), key(0), (X, LABELS))
    assert {leaf.dtype for leaf in jax.tree.leaves(state.posterior)} == {jnp.dtype("float32")}
    assert np.isfinite(float(info.loss))


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


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"num_samples": 3}, [0, 1, 2]),
        ({"num_samples": 4, "antithetic": True}, [0, 0, 1, 1]),
        ({"num_samples": 1}, [0]),
    ],
)
def test_counters_go_on_from_sample_to_sample(options: dict[str, Any], seen: list[int]) -> None:
    """As the streams of dropout do; averages start from the same for each sample."""
    counts, averages = [], []

    def forward(k: Any, q: Any, variables: Any, x: Any) -> Any:
        counts.append(int(variables["count"]))
        averages.append(float(variables["average"]))
        new = {"count": variables["count"] + 1, "average": variables["average"] + len(counts)}
        return x @ gaussian.sample(k, q)["w"], {**variables, **new}

    optimizer = optax.sgd(0.01)
    step = train.build_step(
        forward, squared_error, optimizer, NormalPrior(), num_data=12, **options
    )
    variables = {"average": jnp.ones(()), "count": jnp.zeros((), int), "stream": key(5)}
    with jax.disable_jit():
        state = train.init({"w": random_posterior(1, 3, 2)}, optimizer, variables=variables)
        state, _ = step(state, key(1), (X, LABELS))
    assert counts == seen
    assert averages == [1.0] * len(seen)
    assert int(state.variables["count"]) == seen[-1] + 1
    assert float(state.variables["average"]) == pytest.approx(
        1.0 + np.mean(range(1, len(seen) + 1))
    )
