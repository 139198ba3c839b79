"""Training steps as a program: compiled once, repeatable, resumable."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest

from bnn_jax import gaussian, train
from bnn_jax.priors import NormalPrior
from core_helpers import key, random_posterior
from trace_helpers import Counted
from train_helpers import LABELS, X, assert_equal, build, network, posterior, squared_error, start


def adam() -> Any:
    return optax.adam(0.01)


def run(state: train.State, step: Callable[..., Any], steps: int) -> tuple[train.State, Any]:
    info = None
    for _ in range(steps):
        state, info = step(state, key(0), (X, LABELS))
    return state, info


def test_it_compiles_once_and_donates_its_state() -> None:
    counted = Counted(build(optimizer=adam()))
    step = jax.jit(counted, donate_argnums=0)
    first = start(adam(), average=True)
    state, _ = run(first, step, 3)
    assert counted.traces == 1
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
