"""Compressed posteriors: the error of each number, what it costs a prediction, and files."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax import compression, gaussian, posteriors, predict
from bnn_jax.compression.quantize import Codes
from bnn_jax.likelihoods import Categorical
from core_helpers import data, key, random_posterior

TREE = {
    "a": {"kernel": random_posterior(0, 16, 64), "bias": random_posterior(1, 64)},
    "b": {"kernel": random_posterior(2, 64, 10), "scale": jnp.ones(10)},
}


def network(params: Any, x: Any) -> Any:
    hidden = jnp.tanh(x @ params["a"]["kernel"] + params["a"]["bias"][None])
    return hidden @ params["b"]["kernel"] * params["b"]["scale"][None]


def restored(to: str, posterior: Any = TREE) -> Any:
    return compression.decompress(compression.compress(posterior, to=to))


def test_bfloat16_is_the_rounding_of_mean_and_rho() -> None:
    got = restored("bfloat16")
    assert jax.tree.structure(got) == jax.tree.structure(TREE)
    for path, leaf in gaussian.random_leaves(got).items():
        before = gaussian.random_leaves(TREE)[path]
        for field in ("mean", "rho"):
            rounded = getattr(before, field).astype(jnp.bfloat16).astype(jnp.float32)
            np.testing.assert_array_equal(getattr(leaf, field), rounded)
    assert got["b"]["scale"] is TREE["b"]["scale"]


def test_int8_rounds_to_the_steps_of_each_channel() -> None:
    got = restored("int8")
    for path, leaf in gaussian.random_leaves(got).items():
        before = gaussian.random_leaves(TREE)[path]
        axes = 0 if before.ndim == 2 else None
        mean, rho = np.asarray(before.mean, np.float64), np.asarray(before.rho, np.float64)
        step = np.abs(mean).max(axis=axes, keepdims=True) / 127
        np.testing.assert_allclose(leaf.mean, np.round(mean / step) * step, rtol=1e-4, atol=1e-6)
        low = rho.min(axis=axes, keepdims=True)
        step = (rho.max(axis=axes, keepdims=True) - low) / 254
        assert np.all(np.abs(leaf.rho - rho) < 0.5 * step + 1e-5)
    codes = compression.compress(TREE, to="int8")["a"]["kernel"]
    assert isinstance(codes.mean, Codes)
    assert codes.mean.codes.dtype == jnp.int8
    assert codes.mean.scale.shape == (1, 64)
    assert codes.spread.codes.dtype == jnp.uint8


def test_constants_and_zeros_are_exact() -> None:
    posterior = {"w": gaussian.centred(jnp.zeros((3, 2)), 0.5)}
    leaf = restored("int8", posterior)["w"]
    np.testing.assert_array_equal(leaf.mean, posterior["w"].mean)
    np.testing.assert_allclose(leaf.std, 0.5, rtol=1e-5)


@pytest.mark.parametrize("to", ["bfloat16", "int8"])
def test_a_pruned_weight_stays_exactly_zero(to: str) -> None:
    pruned = compression.prune(posteriors.MeanField(TREE), 0.6)
    got = restored(to, pruned.posterior)
    assert isinstance(got, posteriors.MeanField)
    for path, leaf in gaussian.random_leaves(got.tree).items():
        before = gaussian.random_leaves(pruned.posterior.tree)[path]
        removed = np.asarray(before.std) == 0
        assert np.all(np.asarray(leaf.mean)[removed] == 0)
        np.testing.assert_array_equal(np.asarray(leaf.std) == 0, removed)
        np.testing.assert_allclose(leaf.std, before.std, rtol=0.02)


@pytest.mark.parametrize(("to", "nats"), [("bfloat16", 2e-4), ("int8", 2e-4)])
def test_the_loss_of_quality_is_small(to: str, nats: float) -> None:
    """The divergence of the class probabilities from those of the posterior itself."""
    x = data(0, 50, 16)

    def probabilities(posterior: Any) -> Any:
        got = predict(key(5), network, x, 16, likelihood=Categorical(), posterior=posterior)
        return got.probabilities.astype(np.float64)

    p, q = probabilities(TREE), probabilities(restored(to))
    divergence = np.sum(p * np.log(p / q), axis=1).mean()
    assert 0 < divergence < nats


@pytest.mark.parametrize(("to", "bytes_per_weight"), [("bfloat16", 4.0), ("int8", 2.0)])
def test_files(to: str, bytes_per_weight: float, tmp_path: Path) -> None:
    compressed = compression.compress(TREE, to=to)
    weights = 16 * 64 + 64 + 64 * 10
    overhead = compression.num_bytes(compressed) - bytes_per_weight * weights
    assert 40 <= overhead < 2000  # the scale leaf, and the scales of each channel
    size = compression.save(tmp_path / "posterior.npz", compressed)
    assert size == (tmp_path / "posterior.npz").stat().st_size
    assert size < compression.num_bytes(TREE) * (0.65 if to == "bfloat16" else 0.6)
    got = compression.load(tmp_path / "posterior.npz", TREE)
    assert jax.tree.structure(got) == jax.tree.structure(compressed)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(compressed), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))
    with pytest.raises(ValueError, match="of another network"):
        compression.load(tmp_path / "posterior.npz", TREE["a"])


def test_the_file_of_a_pruned_posterior_is_smaller(tmp_path: Path) -> None:
    sizes = []
    for fraction in (0.0, 0.9):
        pruned = compression.prune(TREE, fraction).posterior
        compressed = compression.compress(pruned, to="int8")
        sizes.append(compression.save(tmp_path / "posterior.npz", compressed))
        got = compression.load(tmp_path / "posterior.npz", TREE)
        assert jax.tree.structure(got) == jax.tree.structure(compressed)
    assert sizes[1] < 0.65 * sizes[0]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="one of bfloat16, int8; got 'int4'"):
        compression.compress(TREE, to="int4")
    with pytest.raises(ValueError, match="no random weights"):
        compression.compress(gaussian.mean(TREE), to="int8")
    with pytest.raises(ValueError, match="nothing of it is compressed"):
        compression.save(tmp_path / "posterior.npz", TREE)
