"""Shifts and mirror images, each held to a version that goes image by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax.data import DataError
from bnn_jax.data.augment import pad_crop_flip


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_image_is_a_crop_of_its_own_and_all_crops_occur(dtype: type) -> None:
    image = np.arange(1, 25).reshape(4, 3, 2).astype(dtype)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    crops = [padded[i : i + 4, j : j + 3] for i in range(3) for j in range(3)]
    known = np.stack([*crops, *(crop[:, ::-1] for crop in crops)])
    count = 1800
    got = jax.jit(pad_crop_flip, static_argnames=("padding", "flip"))(
        jax.random.key(0), jnp.broadcast_to(image, (count, *image.shape)), padding=1
    )
    assert got.dtype == dtype
    equal = (np.asarray(got)[:, None] == known[None]).all(axis=(2, 3, 4))
    assert (equal.sum(axis=1) == 1).all()
    # Each of the 18 with probability 1/18, within 5 standard errors.
    share = equal.mean(axis=0)
    assert np.abs(share - 1 / 18).max() < 5 * np.sqrt(1 / 18 * 17 / 18 / count)


def test_the_key_determines_it_and_nothing_may_be_asked_for() -> None:
    images = jax.random.normal(jax.random.key(0), (5, 4, 4, 1))
    first, same, other = (pad_crop_flip(jax.random.key(seed), images) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.any(np.asarray(first) != np.asarray(other))
    plain = pad_crop_flip(jax.random.key(1), images, padding=0, flip=False)
    np.testing.assert_array_equal(plain, images)
    flipped = np.asarray(pad_crop_flip(jax.random.key(3), images, padding=0))
    for got, image in zip(flipped, np.asarray(images), strict=True):
        assert (got == image).all() or (got == image[:, ::-1]).all()


def test_a_negative_shift_is_an_error() -> None:
    with pytest.raises(DataError, match="padding must be at least 0, got -1"):
        pad_crop_flip(jax.random.key(0), jnp.zeros((1, 4, 4, 1)), padding=-1)
