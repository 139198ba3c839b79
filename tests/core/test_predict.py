"""The posterior predictive: a mean over weight samples that no chunk can change."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from core_helpers import data, key, random_posterior

from bnn_jax import gaussian, predict

Q = {"w": random_posterior(1, 3, 4)}
X = data(0, 10, 3)


@jax.jit
def logits(k: Any, x: Any) -> Any:
    return x @ gaussian.sample(k, Q)["w"]


def test_it_is_the_mean_of_the_probabilities() -> None:
    got = predict.mean_probabilities(key(5), logits, X, num_samples=3, batch_size=10)
    each = [jax.nn.softmax(logits(jax.random.fold_in(key(5), s), X)) for s in range(3)]
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-5)
    assert got.dtype == np.float32
    # Not the probabilities of the mean logits.
    swapped = jax.nn.softmax(sum(logits(jax.random.fold_in(key(5), s), X) for s in range(3)) / 3)
    assert not np.allclose(got, swapped, rtol=1e-3)


def test_antithetic_samples_are_pairs_with_opposite_noise() -> None:
    def pair(k: Any, x: Any, negate: bool) -> Any:
        return x @ gaussian.sample(k, Q, antithetic=negate)["w"]

    got = predict.mean_probabilities(key(5), pair, X, num_samples=3, batch_size=4, antithetic=True)
    keys = [jax.random.fold_in(key(5), s) for s in (0, 0, 1)]
    each = [jax.nn.softmax(pair(k, X, s == 1)) for s, k in enumerate(keys)]
    np.testing.assert_allclose(got, np.mean(each, axis=0), rtol=1e-5)
    mean = sum(gaussian.sample(keys[0], Q, antithetic=a)["w"] for a in (False, True)) / 2
    np.testing.assert_allclose(mean, Q["w"].mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 64])
def test_chunks_do_not_change_it(batch_size: int) -> None:
    whole = predict.mean_probabilities(key(5), logits, X, num_samples=2, batch_size=10)
    got = predict.mean_probabilities(key(5), logits, X, num_samples=2, batch_size=batch_size)
    np.testing.assert_allclose(got, whole, rtol=1e-5)


def test_the_last_chunk_is_padded_so_that_one_shape_is_compiled() -> None:
    shapes = []

    def fn(k: Any, x: Any) -> Any:
        shapes.append(x.shape)
        return logits(k, x)

    got = predict.mean_probabilities(key(5), fn, X, num_samples=2, batch_size=4)
    assert shapes == [(4, 3)] * 6
    assert got.shape == (10, 4)


def test_images_and_integers_are_inputs_too() -> None:
    images = np.arange(5 * 2 * 2, dtype=np.uint8).reshape(5, 2, 2, 1)

    def fn(k: Any, x: Any) -> Any:
        return x.reshape(len(x), -1).astype(jnp.float32)

    got = predict.mean_probabilities(key(0), fn, images, num_samples=1, batch_size=2)
    np.testing.assert_allclose(got, jax.nn.softmax(fn(None, images)), rtol=1e-6)


def test_logits_in_low_precision_give_float32_probabilities() -> None:
    def fn(k: Any, x: Any) -> Any:
        return logits(k, x).astype(jnp.bfloat16)

    got = predict.mean_probabilities(key(5), fn, X, num_samples=2, batch_size=10)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got.sum(axis=1), np.ones(10), rtol=1e-6)


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="num_samples and batch_size.*got 0 and 1"):
        predict.mean_probabilities(key(0), logits, X, num_samples=0, batch_size=1)
    with pytest.raises(ValueError, match="no inputs"):
        predict.mean_probabilities(key(0), logits, X[:0], num_samples=1, batch_size=1)
