"""The three rules of y = linear(x, W): marginal distribution, gradients and covariances."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import functional, gaussian, noise
from bnn_jax.gaussian import Gaussian
from bnn_jax.interpreter import estimators
from bnn_jax.noise import Draw
from core_helpers import (
    ESTIMATORS,
    assert_covariance,
    assert_mean,
    data,
    key,
    no_signs,
    random_posterior,
)

DRAWS = 20_000


def draws(fn: Callable[..., Any], count: int = DRAWS, seed: int = 0) -> Any:
    """fn(key) for many keys."""
    return jax.jit(jax.vmap(fn))(jax.random.split(key(seed), count))


@pytest.fixture
def params() -> dict[str, Gaussian]:
    return {"kernel": random_posterior(1, 3, 2), "bias": random_posterior(2, 2)}


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_mean_and_covariance_of_a_dense_output(estimator: str, params: dict[str, Gaussian]) -> None:
    x = data(0, 2, 3)
    y = draws(lambda k: functional.dense(k, params, x, estimator=estimator))
    kernel, bias = params["kernel"], params["bias"]
    assert_mean(y, x @ kernel.mean + bias.mean[None])
    variance = x**2 @ kernel.std**2 + bias.std[None] ** 2
    for example in range(2):
        # The outputs of one example have their own columns of weights: no covariance.
        assert_covariance(y[:, example], np.diag(variance[example]))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_covariance_between_examples(estimator: str, params: dict[str, Gaussian]) -> None:
    x = data(0, 2, 3)
    y = draws(lambda k: functional.dense(k, params, x, estimator=estimator))
    shared = (x[0] * x[1]) @ params["kernel"].std ** 2 + params["bias"].std ** 2
    both = np.asarray(y) - np.asarray(y).mean(axis=0)
    products = both[:, 0] * both[:, 1]
    assert_mean(products, shared if estimator == "reparam" else np.zeros(2))
    assert np.all(np.abs(np.asarray(shared)) > 0.05)  # the two answers differ


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_unbiased(estimator: str, params: dict[str, Gaussian]) -> None:
    x, target, scale = data(0, 4, 3), data(1, 4, 2), 0.3

    def expected_loss(p: dict[str, Gaussian]) -> Any:
        """E sum (y - target)^2 * scale: squared distance of the mean, plus the variance."""
        kernel, bias = p["kernel"], p["bias"]
        mean = x @ kernel.mean + bias.mean[None]
        variance = x**2 @ kernel.std**2 + bias.std[None] ** 2
        return scale * jnp.sum((mean - target) ** 2 + variance)

    def loss(p: dict[str, Gaussian], k: Any) -> Any:
        return scale * jnp.sum((functional.dense(k, p, x, estimator=estimator) - target) ** 2)

    got = draws(lambda k: jax.grad(loss)(params, k))
    jax.tree.map(assert_mean, got, jax.grad(expected_loss)(params))


@pytest.mark.parametrize("estimator", ["reparam", "flipout"])
def test_positions_of_an_example_share_its_weights_in_dense(estimator: str) -> None:
    # Two positions, two outputs: the covariance over all four follows from one kernel per example.
    params = {"kernel": random_posterior(1, 3, 2), "bias": random_posterior(2, 2)}
    x = data(0, 2, 2, 3)
    y = draws(lambda k: functional.dense(k, params, x, estimator=estimator))
    kernel, bias = params["kernel"], params["bias"]
    within = np.einsum("si,ti,io,op->sotp", x[1], x[1], kernel.std**2, np.eye(2))
    within += np.einsum("o,op->op", bias.std**2, np.eye(2))[None, :, None, :]
    assert_covariance(y[:, 1].reshape(DRAWS, 4), within.reshape(4, 4))


@pytest.mark.parametrize(
    ("estimator", "channels"), [("reparam", 2), ("flipout", 2), ("flipout", 1)]
)
def test_positions_of_an_example_share_its_weights_in_conv(estimator: str, channels: int) -> None:
    params = {"kernel": random_posterior(3, 2, channels, 2), "bias": random_posterior(4, 2)}
    x = data(0, 2, 4, channels)
    y = draws(lambda k: functional.conv(k, params, x, estimator=estimator, padding="VALID"))
    patches = np.stack([np.asarray(x[1, s : s + 2]) for s in range(3)])
    within = np.einsum(
        "shi,thi,hio,op->sotp", patches, patches, params["kernel"].std ** 2, np.eye(2)
    )
    within += np.diag(params["bias"].std ** 2)[None, :, None, :]
    assert_covariance(y[:, 1].reshape(DRAWS, 6), within.reshape(6, 6))
    assert_mean(y, functional.conv(key(0), means(params), x, estimator="reparam", padding="VALID"))


def test_flipout_in_a_conv_has_no_covariance_between_examples() -> None:
    params = {"kernel": random_posterior(3, 2, 1, 1), "bias": random_posterior(4, 1)}
    x = jnp.concatenate([data(0, 1, 3, 1)] * 2)  # equal examples: reparam gives equal outputs
    y = draws(lambda k: functional.conv(k, params, x, estimator="flipout", padding="VALID"))
    both = np.asarray(y) - np.asarray(y).mean(axis=0)
    assert_mean(both[:, 0] * both[:, 1], np.zeros((2, 1)))


def test_local_reparam_of_a_conv_keeps_only_the_variance() -> None:
    params = {"kernel": random_posterior(3, 2, 1, 1)}
    x = data(0, 1, 3, 1)
    y = draws(
        lambda k: functional.conv(
            k, params, x, estimator="local_reparam", padding="VALID", approximate=True
        )
    )
    patches = np.stack([np.asarray(x[0, s : s + 2, 0]) for s in range(2)])
    variance = patches**2 @ np.asarray(params["kernel"].std[:, 0] ** 2)
    assert_covariance(y[:, 0, :, 0], np.diag(variance[:, 0]))


def means(params: Any) -> Any:
    return {name: q.mean for name, q in params.items()}


def test_flipout_is_its_formula(params: dict[str, Gaussian]) -> None:
    x, q = data(0, 2, 3), params["kernel"]
    (leaf_key,) = gaussian.leaf_keys(key(0), {"kernel": q}).values()
    eps = noise.normal(jax.random.clone(leaf_key), (3, 2))
    in_key, out_key = (jax.random.fold_in(leaf_key, i) for i in (1, 2))
    before = x * noise.signs(in_key, (2, 3), jnp.float32)
    after = noise.signs(out_key, (2, 2), jnp.float32)
    expected = x @ q.mean + (before @ (q.std * eps)) * after
    got = functional.dense(key(0), {"kernel": q}, x, estimator="flipout")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_local_reparam_is_its_formula(params: dict[str, Gaussian]) -> None:
    x, q = data(0, 2, 3), params["kernel"]
    (leaf_key,) = gaussian.leaf_keys(key(0), {"kernel": q}).values()
    eps = noise.normal(leaf_key, (2, 2))
    expected = x @ q.mean + jnp.sqrt(x**2 @ q.std**2) * eps
    got = functional.dense(key(0), {"kernel": q}, x, estimator="local_reparam")
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layer", ["dense", "positions", "conv", "conv of one channel"])
def test_flipout_with_all_signs_one_is_reparam(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_signs(monkeypatch)
    channels = 1 if layer == "conv of one channel" else 3
    shape = (2, channels, 2) if layer.startswith("conv") else (channels, 2)
    params = {"kernel": random_posterior(1, *shape), "bias": random_posterior(2, 2)}
    x = data(0, 2, channels) if layer == "dense" else data(0, 2, 4, channels)
    apply = functional.conv if layer.startswith("conv") else functional.dense
    for sign in (1, -1):
        one = apply(Draw(key(0), sign), params, x, estimator="flipout")
        other = apply(Draw(key(0), sign), params, x, estimator="reparam")
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_antithetic_pairs_are_symmetric_around_the_mean(
    estimator: str, params: dict[str, Gaussian]
) -> None:
    x = data(0, 2, 3)
    one = functional.dense(key(0), params, x, estimator=estimator)
    other = functional.dense(Draw(key(0), -1), params, x, estimator=estimator)
    mean = x @ params["kernel"].mean + params["bias"].mean[None]
    np.testing.assert_allclose(0.5 * (one + other), mean, rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(one - other))) > 0.1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_input_of_zeros_has_finite_gradients(
    estimator: str, params: dict[str, Gaussian]
) -> None:
    def loss(p: dict[str, Gaussian], x: Any) -> Any:
        return jnp.sum(jnp.square(functional.dense(key(0), p, x, estimator=estimator)))

    grads = jax.jit(jax.grad(loss, argnums=(0, 1)))(params, jnp.zeros((2, 3)))
    assert all(np.all(np.isfinite(g)) for g in jax.tree.leaves(grads))


def test_a_rule_serves_any_linear_map() -> None:
    q, x = random_posterior(1, 2, 3, 2), data(0, 4, 2, 3)

    def linear(a: Any, w: Any) -> Any:
        return jnp.einsum("bij,ijo->bo", a, w)

    y = draws(lambda k: estimators.local_reparam(k, linear, x, q.mean, q.std))
    assert_mean(y, linear(x, q.mean))
    variance = linear(x**2, q.std**2)
    assert_mean((np.asarray(y) - np.asarray(linear(x, q.mean))) ** 2, variance)


def test_an_unknown_estimator_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'flip'.*reparam, local_reparam, flipout"):
        estimators.check_estimator("flip")
