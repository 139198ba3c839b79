"""The factors and schedules of the loss."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import objective


def values(schedule: Any, steps: int) -> np.ndarray:
    return np.asarray(jax.jit(jax.vmap(schedule))(jnp.arange(steps, dtype=jnp.int32)))


def test_the_loss_is_the_weighted_sum() -> None:
    loss = objective.bnn_loss(jnp.asarray(2.0), jnp.asarray(3.0), dnn_factor=5.0, bnn_factor=0.1)
    assert float(loss) == pytest.approx(10.3)
    assert float(objective.bnn_loss(jnp.asarray(2.0), jnp.asarray(3.0))) == 5.0


def test_num_data_gives_the_elbo_per_example() -> None:
    assert objective.elbo_factors(60_000) == (1.0, 1 / 60_000)


def test_constant_is_one() -> None:
    np.testing.assert_array_equal(values(objective.constant(), 3), np.ones(3))


def test_linear_rises_to_one_and_stays() -> None:
    np.testing.assert_allclose(
        values(objective.linear(warmup_steps=4), 7), [0, 0.25, 0.5, 0.75, 1, 1, 1]
    )


def test_cyclical_rises_in_each_cycle() -> None:
    schedule = objective.cyclical(total_steps=16, cycles=2, ramp=0.5)
    np.testing.assert_allclose(values(schedule, 16), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1] * 2)
    whole = objective.cyclical(total_steps=8, cycles=2, ramp=1.0)
    np.testing.assert_allclose(values(whole, 8), [0, 0.25, 0.5, 0.75] * 2)


@pytest.mark.parametrize("batches", [1, 2, 3, 10, 24, 126, 127, 128, 469, 5000])
def test_blundells_weights_are_the_formula(batches: int) -> None:
    got = values(objective.blundell(num_batches=batches), 2 * batches)
    exact = [
        float(batches * Fraction(2 ** (batches - i), 2**batches - 1)) for i in range(1, batches + 1)
    ]
    np.testing.assert_allclose(got, exact * 2, rtol=5e-6, atol=1e-30)
    assert got[:batches].sum(dtype=np.float64) == pytest.approx(batches, rel=1e-6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: objective.elbo_factors(0), ValueError, "integer of at least 1, got 0"),
        (
            lambda: objective.check_factor("dnn_factor", -1),
            ValueError,
            "dnn_factor must be.*0, got -1",
        ),
        (
            lambda: objective.check_factor("bnn_factor", float("nan")),
            ValueError,
            "at least 0, got nan",
        ),
        (lambda: objective.check_factor("bnn_factor", "1"), TypeError, "int or a float, got '1'"),
        (lambda: objective.check_factor("bnn_factor", True), TypeError, "int or a float"),
        (
            lambda: objective.linear(warmup_steps=0),
            ValueError,
            "warmup_steps must.*1, got 0",
        ),
        (
            lambda: objective.cyclical(total_steps=8, cycles=0),
            ValueError,
            "cycles must be.* 1",
        ),
        (lambda: objective.cyclical(total_steps=8, cycles=1, ramp=0.0), ValueError, "ramp.*0.0"),
        (lambda: objective.blundell(num_batches=0), ValueError, "num_batches"),
        (lambda: objective.bnn_loss(jnp.ones(3), jnp.ones(())), ValueError, r"scalar.*\(3,\)"),
    ],
)
def test_values_out_of_range_are_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
