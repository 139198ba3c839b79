"""The product that draws its weights inside, against the one that draws them before it."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import gaussian, noise
from bnn_jax.experimental.sampled_dense import sampled_dense

KEY = 3


def arguments(batch: int, inputs: int, outputs: int, dtype: Any = jnp.float32) -> Any:
    rng = np.random.default_rng(0)
    return (
        jnp.asarray(rng.normal(size=(batch, inputs)), dtype),
        jnp.asarray(rng.normal(size=(inputs, outputs)) * 0.1, dtype),
        jnp.asarray(rng.normal(size=(inputs, outputs)) - 2, dtype),
    )


def drawn_before(generator: str, antithetic: bool, x: Any, mean: Any, rho: Any) -> Any:
    with noise.generator(generator):
        q = gaussian.Gaussian(mean, rho)
        draws = noise.normal(jax.random.key(KEY), q.shape)
        return x @ (mean + (-1.0 if antithetic else 1.0) * q.std * draws)


@pytest.mark.parametrize("generator", ["threefry", "threefry13", "hash"])
@pytest.mark.parametrize(
    ("shape", "antithetic"), [((5, 7, 3), False), ((130, 260, 129), True), ((128, 128, 128), False)]
)
def test_value_and_derivatives(generator: str, shape: Any, antithetic: bool) -> None:
    given = arguments(*shape)

    def inside(x: Any, mean: Any, rho: Any) -> Any:
        return sampled_dense(
            jax.random.key(KEY), x, mean, rho, generator=generator, antithetic=antithetic
        )

    def before(x: Any, mean: Any, rho: Any) -> Any:
        return drawn_before(generator, antithetic, x, mean, rho)

    batch, _, outputs = shape
    dy = np.cos(np.arange(batch * outputs, dtype=np.float32)).reshape(batch, outputs)

    @jax.jit
    def value_and_pulled(*given: Any) -> Any:
        found, exact = jax.vjp(inside, *given), jax.vjp(before, *given)
        return [(value, pull(jnp.asarray(dy))) for value, pull in (found, exact)]

    (y, pulled), (wanted, wanted_pulled) = value_and_pulled(*given)
    np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)
    for got, exact in zip(pulled, wanted_pulled, strict=True):
        np.testing.assert_allclose(got, exact, rtol=2e-5, atol=2e-5 * np.abs(exact).max())


def test_many_draws_at_once() -> None:
    x, mean, rho = arguments(4, 6, 5)
    keys = jax.random.split(jax.random.key(1), 3)
    at_once = jax.jit(jax.vmap(lambda k: sampled_dense(k, x, mean, rho)))(keys)
    each = jax.jit(lambda k: sampled_dense(k, x, mean, rho))
    one_by_one = [each(k) for k in jax.random.clone(keys)]
    np.testing.assert_allclose(at_once, jnp.stack(one_by_one), rtol=1e-5, atol=1e-6)
    assert float(jnp.abs(at_once[0] - at_once[1]).min()) > 0


def test_half_precision_draws_in_float32() -> None:
    x, mean, rho = arguments(64, 200, 40, jnp.bfloat16)
    y = jax.jit(sampled_dense)(jax.random.key(KEY), x, mean, rho)
    assert y.dtype == jnp.bfloat16
    wide = (a.astype(jnp.float32) for a in (x, mean, rho))
    exact = jax.jit(partial(drawn_before, "threefry13", False))(*wide)
    error = np.abs(np.asarray(y, np.float32) - np.asarray(exact))
    assert error.max() < 0.02 * float(jnp.abs(exact).max())


def test_weights_and_noise_are_nowhere_but_in_the_kernels() -> None:
    x, mean, rho = arguments(128, 256, 128)

    def total(x: Any, mean: Any, rho: Any) -> Any:
        return sum(sampled_dense(k, x, mean, rho).sum() for k in jax.random.split(key, 4))

    key = jax.random.key(0)
    program = jax.make_jaxpr(jax.value_and_grad(total, argnums=0))(x, mean, rho)
    made = list(outside_of_kernels(program.jaxpr))
    assert made.count("kernel") == 4 * 3  # forward, and backward to inputs and to weights
    assert (256, 128) not in made


def outside_of_kernels(jaxpr: Any) -> Any:
    """The shapes of all results outside of kernels, and the word kernel for each of those."""
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "pallas_call":
            yield "kernel"
            continue
        inner = [getattr(p, "jaxpr", p) for p in eqn.params.values()]
        parts = [p for p in inner if hasattr(p, "eqns")]
        for part in parts:
            yield from outside_of_kernels(part)
        if not parts:
            yield from (v.aval.shape for v in eqn.outvars)


def test_wrong_calls() -> None:
    x, mean, rho = arguments(4, 6, 5)
    with pytest.raises(ValueError, match="one of threefry, threefry13, hash, got 'rbg'"):
        sampled_dense(jax.random.key(0), x, mean, rho, generator="rbg")
    with pytest.raises(ValueError, match=r"\(4, 6\), \(6, 5\), \(5, 6\)"):
        sampled_dense(jax.random.key(0), x, mean, rho.T)
    with pytest.raises(ValueError, match=r"got the shapes \(6, 4\)"):
        sampled_dense(jax.random.key(0), x.T, mean, rho)
