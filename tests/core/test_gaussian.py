"""The posterior leaf: its std, its draws, and its life as a pytree."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
import scipy.stats

from bnn_jax import gaussian, noise
from bnn_jax.gaussian import Gaussian
from core_helpers import data, key, random_posterior


@pytest.fixture
def posterior() -> dict[str, Any]:
    return {
        "conv": {"kernel": random_posterior(1, 3, 2), "bias": random_posterior(2, 2)},
        "norm": {"scale": data(3, 2)},
        "out": {"kernel": random_posterior(4, 2, 5)},
    }


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_std_is_softplus_of_rho_plus_the_floor_without_overflow(dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        rho = jnp.linspace(-100.0, 100.0, 401, dtype=dtype)
        exact = np.logaddexp(np.asarray(rho, np.float64), 0.0) + 1e-6
        std = Gaussian(jnp.zeros_like(rho), rho).std
        assert std.dtype == dtype
        np.testing.assert_allclose(std, exact, rtol=20 * float(jnp.finfo(dtype).eps))
        slope = jax.grad(lambda r: Gaussian(r, r).std.sum())(rho)
        # The derivative of softplus is the sigmoid.
        sigmoid = 1 / (1 + np.exp(-np.asarray(rho, np.float64)))
        np.testing.assert_allclose(slope, sigmoid, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_rho_from_std_is_the_inverse(dtype: Any) -> None:
    with jax.enable_x64(dtype == jnp.float64):
        std = jnp.logspace(-5.5, 2, 200, dtype=dtype)
        back = Gaussian(std, gaussian.rho_from_std(std)).std
        np.testing.assert_allclose(back, std, rtol=3e-5 if dtype == jnp.float32 else 1e-8)


def test_std_below_the_floor_becomes_the_floor() -> None:
    for std in (1e-6, 1e-9, 0.0):
        rho = gaussian.rho_from_std(jnp.asarray(std))
        assert -31 < float(rho) < -29
        assert float(Gaussian(rho, rho).std) == pytest.approx(1e-6, rel=1e-5)


def test_init_has_the_distribution_of_normal_posterior() -> None:
    made = gaussian.init(key(0), (200, 100))
    assert scipy.stats.kstest(np.ravel(made.mean), "norm", (0.0, 0.1)).pvalue > 1e-4
    assert scipy.stats.kstest(np.ravel(made.rho), "norm", (-5.0, 0.1)).pvalue > 1e-4
    assert abs(np.corrcoef(np.ravel(made.mean), np.ravel(made.rho))[0, 1]) < 5 / np.sqrt(20_000)
    assert float(jnp.median(made.std)) == pytest.approx(0.0067163, rel=1e-2)


def test_init_moves_and_scales() -> None:
    plain = gaussian.init(key(1), (50,))
    moved = gaussian.init(key(1), (50,), loc_mean=2.0, loc_std=1.0, rho_mean=-1.0, rho_std=0.0)
    np.testing.assert_allclose(moved.mean, 2.0 + 10 * plain.mean, rtol=1e-5)
    np.testing.assert_array_equal(moved.rho, np.full(50, -1.0, np.float32))


def test_centred_absolute_relative_and_by_element() -> None:
    weights = jnp.asarray([[0.5, -2.0], [0.0, 1e-9]])
    absolute = gaussian.centred(weights, 0.1)
    np.testing.assert_array_equal(absolute.mean, weights)
    np.testing.assert_allclose(absolute.std, np.full((2, 2), 0.1), rtol=1e-6)
    relative = gaussian.centred(weights, 0.1, relative=True)
    np.testing.assert_allclose(relative.std, [[0.05, 0.2], [1e-6, 1e-6]], rtol=1e-5)
    by_element = gaussian.centred(weights, jnp.asarray([0.1, 0.3]))
    np.testing.assert_allclose(by_element.std, [[0.1, 0.3], [0.1, 0.3]], rtol=1e-6)


def test_centred_refuses_what_has_no_meaning() -> None:
    with pytest.raises(ValueError, match="std must be positive"):
        gaussian.centred(jnp.ones(3), -0.1)
    with pytest.raises(TypeError, match="floating point"):
        gaussian.centred(jnp.arange(3), 0.1)


def test_sample_equals_the_flat_version_with_the_same_keys(posterior: dict[str, Any]) -> None:
    drawn = gaussian.sample(key(5), posterior)
    leaves, _ = jax.tree.flatten(posterior, is_leaf=gaussian.is_gaussian)
    assert jax.tree.structure(drawn) == jax.tree.structure(gaussian.mean(posterior))
    for i, (leaf, weight) in enumerate(zip(leaves, jax.tree.leaves(drawn), strict=True)):
        if gaussian.is_gaussian(leaf):
            eps = noise.normal(jax.random.fold_in(key(5), i), leaf.shape)
            np.testing.assert_array_equal(weight, leaf.mean + leaf.std * eps)
        else:
            assert weight is leaf


def test_freezing_a_leaf_leaves_the_noise_of_the_others(posterior: dict[str, Any]) -> None:
    before = gaussian.sample(key(5), posterior)
    frozen = {**posterior, "conv": gaussian.mean(posterior["conv"])}
    after = gaussian.sample(key(5), frozen)
    np.testing.assert_array_equal(after["out"]["kernel"], before["out"]["kernel"])
    np.testing.assert_array_equal(after["conv"]["kernel"], posterior["conv"]["kernel"].mean)


def test_leaves_of_one_shape_get_different_noise() -> None:
    same = random_posterior(1, 40)
    drawn = gaussian.sample(key(0), {"a": same, "b": same})
    assert not np.any(np.asarray(drawn["a"]) == np.asarray(drawn["b"]))


def test_sample_has_the_distribution_of_the_posterior() -> None:
    q = Gaussian(jnp.full((20_000,), 1.5), jnp.full((20_000,), -1.0))
    drawn = gaussian.sample(key(2), q)
    distribution = scipy.stats.norm(1.5, np.log1p(np.exp(-1.0)) + 1e-6)
    assert scipy.stats.kstest(drawn, distribution.cdf).pvalue > 1e-4


def test_antithetic_pairs_are_symmetric_around_the_mean(posterior: dict[str, Any]) -> None:
    one = gaussian.sample(key(5), posterior)
    other = gaussian.sample(noise.Draw(key(5), -1), posterior)
    middle = jax.tree.map(lambda a, b: 0.5 * (a + b), one, other)
    jax.tree.map(
        lambda m, expected: np.testing.assert_allclose(m, expected, atol=1e-6),
        middle,
        gaussian.mean(posterior),
    )
    assert not np.allclose(one["out"]["kernel"], other["out"]["kernel"])


def test_mean_and_std_trees(posterior: dict[str, Any]) -> None:
    means, stds = gaussian.mean(posterior), gaussian.std(posterior)
    assert means["norm"]["scale"] is posterior["norm"]["scale"]
    np.testing.assert_array_equal(stds["norm"]["scale"], np.zeros(2))
    np.testing.assert_array_equal(stds["out"]["kernel"], posterior["out"]["kernel"].std)


def test_random_leaves_have_their_paths(posterior: dict[str, Any]) -> None:
    assert list(gaussian.random_leaves(posterior)) == ["conv/bias", "conv/kernel", "out/kernel"]
    assert list(gaussian.random_leaves([random_posterior(0, 1)])) == ["0"]


def test_draws_of_less_than_32_bits_have_tails() -> None:
    drawn = noise.normal(key(3), (1_000_000,), jnp.bfloat16)
    assert drawn.dtype == jnp.bfloat16
    assert float(jnp.max(jnp.abs(drawn))) > 4.5


def test_signs_are_fair() -> None:
    signs = noise.signs(key(4), (10_000,))
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert abs(float(signs.mean())) < 5 / np.sqrt(10_000)


def test_jit_vmap_and_grad_see_two_arrays(posterior: dict[str, Any]) -> None:
    eager = gaussian.sample(key(5), posterior)
    jitted = jax.jit(gaussian.sample)(key(5), posterior)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), eager, jitted)
    keys = jax.random.split(key(6), 3)
    many = jax.vmap(gaussian.sample, in_axes=(0, None))(keys, posterior)
    third = gaussian.sample(jax.random.split(key(6), 3)[2], posterior)
    np.testing.assert_allclose(many["out"]["kernel"][2], third["out"]["kernel"], rtol=1e-6)
    grads = jax.grad(lambda p: sum(map(jnp.sum, jax.tree.leaves(gaussian.sample(key(5), p)))))(
        posterior
    )
    assert jax.tree.structure(grads) == jax.tree.structure(posterior)
    q, grad = posterior["out"]["kernel"], grads["out"]["kernel"]
    np.testing.assert_array_equal(grad.mean, np.ones(q.shape))
    eps = (eager["out"]["kernel"] - q.mean) / q.std
    np.testing.assert_allclose(grad.rho, eps * jax.nn.sigmoid(q.rho), rtol=1e-4)


def test_optax_updates_mean_and_rho(posterior: dict[str, Any]) -> None:
    optimizer = optax.adam(0.1)
    grads = jax.tree.map(jnp.ones_like, posterior)
    with jax.numpy_dtype_promotion("standard"):  # optax does not keep to the strict one
        updates, _ = optimizer.update(grads, optimizer.init(posterior), posterior)
        after = optax.apply_updates(posterior, updates)
    assert isinstance(after["out"]["kernel"], Gaussian)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b - 0.1, atol=1e-6), after, posterior)


def test_orbax_round_trip_is_exact(posterior: dict[str, Any], tmp_path: Path) -> None:
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "posterior", posterior)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(
            tmp_path / "posterior", jax.tree.map(jnp.zeros_like, posterior)
        )
    assert isinstance(restored["conv"]["kernel"], Gaussian)
    jax.tree.map(np.testing.assert_array_equal, restored, posterior)


# ---- softplus.


def test_softplus_is_exact_to_two_units_in_the_last_place() -> None:
    x = np.concatenate([np.linspace(-100, 100, 200_001), np.linspace(-1, 1, 20_001)])
    x = x.astype(np.float32)
    exact = np.logaddexp(0.0, x.astype(np.float64))
    got = np.asarray(jax.jit(gaussian.softplus)(x), np.float64)
    normal = exact > 2e-38  # below, XLA on CPU flushes to zero
    np.testing.assert_allclose(got[normal], exact[normal], rtol=3e-7)
    assert (got[~normal] <= 2e-38).all()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_softplus_of_other_precisions_is_jax_s(dtype: Any) -> None:
    x = jnp.linspace(-8, 8, 101).astype(dtype)
    np.testing.assert_array_equal(gaussian.softplus(x), jax.nn.softplus(x))


def test_derivatives_of_softplus_to_the_second_and_in_both_modes() -> None:
    x = jnp.linspace(-30, 30, 61)
    sigmoid = 1 / (1 + np.exp(-np.asarray(x, np.float64)))
    for first in (jax.grad, jax.jacfwd):
        slope = jax.vmap(first(gaussian.softplus))(x)
        np.testing.assert_allclose(slope, sigmoid, rtol=1e-6)
        for second in (jax.grad, jax.jacfwd):
            curvature = jax.vmap(second(first(gaussian.softplus)))(x)
            np.testing.assert_allclose(curvature, sigmoid * (1 - sigmoid), rtol=1e-4, atol=1e-7)
    edges = jnp.asarray([-1e4, -104.0, 0.0, 104.0, 1e4])
    assert np.isfinite(jax.vmap(jax.grad(gaussian.softplus))(edges)).all()
