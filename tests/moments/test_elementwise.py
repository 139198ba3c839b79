"""Moments of elementwise functions against numerical integration."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import moments
from bnn_jax.moments import Moments, MomentsError

MEANS = np.asarray([-2.5, -0.3, 0.0, 0.8, 3.0], np.float32)
STDS = np.asarray([0.7, 1.5, 0.4, 1.0, 0.1], np.float32)
X = Moments(jnp.asarray(MEANS), jnp.asarray(STDS**2))


def of(fn: Callable[..., Any], *inputs: Any) -> Moments:
    return jax.jit(lambda *x: moments.outputs(lambda _, *x: fn(*x), {}, *x))(*inputs)


def integrated(fn: Callable[[Any], Any], x: Moments = X) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of fn(x) by the trapezoidal rule on mean +- 9 std."""
    z = np.linspace(-9.0, 9.0, 20_001)
    weights = np.exp(-0.5 * z**2)
    weights /= weights.sum()
    std = np.sqrt(np.asarray(x.variance, np.float64))
    points = np.asarray(x.mean, np.float64)[:, None] + std[:, None] * z
    values = np.asarray(fn(jnp.asarray(points, jnp.float32)), np.float64)
    mean = values @ weights
    return mean, ((values - mean[:, None]) ** 2) @ weights


def check(fn: Callable[[Any], Any], tolerance: float) -> None:
    got, (mean, variance) = of(fn, X), integrated(fn)
    scale = np.maximum(np.sqrt(variance), 1e-3)
    np.testing.assert_array_less(np.abs(np.asarray(got.mean) - mean) / scale, tolerance)
    np.testing.assert_array_less(np.abs(np.asarray(got.variance) - variance) / scale**2, tolerance)


CLOSED = {
    "relu": jax.nn.relu,
    "relu of a scaled value": lambda x: jax.nn.relu(1.0 - 2.0 * x),
    "max with a number": lambda x: jnp.maximum(x, 0.5),
    "min with a number": lambda x: jnp.minimum(0.5, x),
    "exp": lambda x: jnp.exp(0.5 * x),
    "abs": jnp.abs,
    "sin": jnp.sin,
    "cos": jnp.cos,
    "square": jnp.square,
    "a cube": lambda x: x**3,
    "a product with itself": lambda x: x * (x + 1.0),
    "affine": lambda x: 2.0 - 3.0 * x / 4.0 + x,
}


@pytest.mark.parametrize("name", CLOSED)
def test_closed_forms(name: str) -> None:
    check(CLOSED[name], 2e-4)


SMOOTH = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "gelu": jax.nn.gelu,
    "gelu by erf": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
    "mish": jax.nn.mish,
    "log of a softplus": lambda x: jnp.log(jax.nn.softplus(x)),
    "square root": lambda x: jnp.sqrt(1.0 + jnp.square(x)),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_smooth_functions(name: str) -> None:
    check(SMOOTH[name], 2e-3)


PIECEWISE = {
    "leaky relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "celu": jax.nn.celu,
    "relu6": jax.nn.relu6,
    "hard tanh": jax.nn.hard_tanh,
    "hard swish": jax.nn.hard_swish,
    "clip": lambda x: jnp.clip(2.0 * x, -1.0, 0.5),
    "sign": jnp.sign,
    "squared relu": lambda x: jnp.square(jax.nn.relu(x)),
    "a step": lambda x: jnp.where(x > 0.25, 1.0, 0.0),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_functions_with_kinks(name: str) -> None:
    check(PIECEWISE[name], 2e-3)


Y = Moments(X.mean[::-1], 0.5 * X.variance)


def test_the_maximum_of_two_is_that_of_quadrature() -> None:
    nodes, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = np.outer(weights, weights) / weights.sum() ** 2
    a, b = (
        np.asarray(v.mean, np.float64)[:, None]
        + np.sqrt(np.asarray(v.variance, np.float64))[:, None] * nodes
        for v in (X, Y)
    )
    values = np.maximum(a[:, :, None], b[:, None, :])
    mean = np.sum(weights * values, axis=(1, 2))
    variance = np.sum(weights * (values - mean[:, None, None]) ** 2, axis=(1, 2))
    got = of(jnp.maximum, X, Y)
    np.testing.assert_allclose(got.mean, mean, atol=2e-3)
    np.testing.assert_allclose(got.variance, variance, atol=4e-3)
    least = of(lambda x, y: -jnp.minimum(-x, -y), X, Y)
    np.testing.assert_allclose(least.mean, got.mean, atol=1e-6)
    np.testing.assert_allclose(least.variance, got.variance, atol=1e-6)


def test_sums_products_and_quotients_of_independent_values() -> None:
    total, product = of(jnp.subtract, X, Y), of(jnp.multiply, X, Y)
    np.testing.assert_allclose(total.mean, X.mean - Y.mean, rtol=1e-6)
    np.testing.assert_allclose(total.variance, X.variance + Y.variance, rtol=1e-6)
    second = (X.mean**2 + X.variance) * (Y.mean**2 + Y.variance)
    np.testing.assert_allclose(product.mean, X.mean * Y.mean, rtol=1e-6)
    np.testing.assert_allclose(product.variance, second - (X.mean * Y.mean) ** 2, rtol=1e-4)
    far = Moments(jnp.full(5, 4.0), jnp.full(5, 0.01))
    mean, variance = integrated(lambda x: 1.0 / x, far)
    quotient = of(jnp.divide, X, far)
    np.testing.assert_allclose(quotient.mean, X.mean * mean, rtol=1e-4, atol=1e-6)
    second = (X.mean**2 + X.variance) * (mean**2 + variance)
    np.testing.assert_allclose(quotient.variance, second - (X.mean * mean) ** 2, rtol=1e-3)


def test_choosing_by_a_mask() -> None:
    mask = jnp.asarray([True, False, True, False, True])
    one = of(lambda x: jnp.where(mask, x, -1.0), X)
    np.testing.assert_array_equal(one.mean, jnp.where(mask, X.mean, -1.0))
    np.testing.assert_array_equal(one.variance, jnp.where(mask, X.variance, 0.0))
    two = of(lambda x, y: jnp.where(mask, x, y), X, Y)
    np.testing.assert_array_equal(two.variance, jnp.where(mask, X.variance, Y.variance))


@pytest.mark.parametrize("name", ["relu", "silu", "leaky relu", "abs", "exp", "max"])
def test_without_uncertainty_a_function_is_itself_and_its_gradient_too(name: str) -> None:
    functions = {**CLOSED, **SMOOTH, **PIECEWISE, "max": lambda x: jnp.maximum(x, x[::-1])}
    fn = functions[name]
    x = jnp.asarray([-2.0, 0.7, 5.0])

    def mean(x: Any) -> Any:
        return of(fn, Moments(x, jnp.zeros(3))).mean

    np.testing.assert_allclose(mean(x), fn(x), rtol=1e-5)
    np.testing.assert_allclose(of(fn, Moments(x, jnp.zeros(3))).variance, 0.0, atol=1e-10)
    wanted = jax.grad(lambda x: jnp.sum(jnp.sin(fn(x))))(x)
    np.testing.assert_allclose(
        jax.grad(lambda x: jnp.sum(jnp.sin(mean(x))))(x), wanted, rtol=1e-4, atol=1e-6
    )


def test_small_variances_are_accurate() -> None:
    """The first-order variance, where the std is a millionth of the mean."""
    x = Moments(jnp.asarray([3.0, 100.0]), jnp.asarray([1e-12, 1e-8]))
    for fn in (jax.nn.relu, jnp.abs, lambda x: jnp.maximum(x, 0.1), jnp.square, jax.nn.leaky_relu):
        slope = jax.vmap(jax.grad(fn))(x.mean)
        np.testing.assert_allclose(of(fn, x).variance, slope**2 * x.variance, rtol=2e-2)


@pytest.mark.parametrize("fn", [jnp.arctan2, jnp.power, lambda x, y: jnp.where(x > 0, x, y)])
def test_other_operations_of_two_uncertain_values_are_errors(fn: Any) -> None:
    with pytest.raises(MomentsError, match="several uncertain values|'atan2'"):
        of(fn, X, Y)
