"""Standardised inputs, held to NumPy's mean and standard deviation of the training part."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax.data import DataError, Dataset, InputScaling, Splits, standardize_inputs

RNG = np.random.default_rng(0)


def dataset(inputs: np.ndarray, kind: str = "features") -> Dataset:
    targets = np.zeros((len(inputs), 1), np.float32)
    return Dataset(inputs, targets, "regression", kind)  # type: ignore[arg-type]


def test_features_by_the_training_part() -> None:
    x = RNG.normal(1e4, 3.0, (5000, 4)).astype(np.float32)  # more than one chunk
    x[:, 1] = np.arange(5000) % 2  # a category
    x[:, 2] = 0.1  # constant
    other = dataset(x[:7] + 1)
    splits, scaling = standardize_inputs(Splits(dataset(x), other, None))
    mean, std = x.astype(np.float64).mean(axis=0), x.astype(np.float64).std(axis=0)
    for i in (0, 3):
        np.testing.assert_allclose(scaling.shift[i], mean[i], rtol=1e-9)
        np.testing.assert_allclose(scaling.scale[i], std[i], rtol=1e-9)
    np.testing.assert_array_equal(splits.train.inputs[:, 1], x[:, 1])
    np.testing.assert_allclose(splits.train.inputs[:, 2], 0.0, atol=1e-6)
    assert scaling.scale[2] == 1.0
    assert splits.validation is not None
    assert splits.test is None
    expected = (other.inputs[:, 0] - np.float32(mean[0])) / np.float32(std[0])
    np.testing.assert_allclose(splits.validation.inputs[:, 0], expected, rtol=1e-6)
    assert splits.train.inputs.dtype == np.float32


def test_images_by_channel_and_series_by_feature() -> None:
    images = RNG.integers(0, 256, (20, 3, 4, 2), np.uint8)
    for inputs, kind in ((images, "images"), (images[:, 0].astype(np.float32), "features")):
        data = dataset(inputs, kind)
        scaling = InputScaling.fit(data)
        axes = tuple(range(inputs.ndim - 1))
        np.testing.assert_allclose(scaling.shift, inputs.mean(axes, np.float64), rtol=1e-9)
        np.testing.assert_allclose(scaling.scale, inputs.std(axes, np.float64), rtol=1e-9)
        scaled = scaling.apply(inputs)
        np.testing.assert_allclose(scaled.mean(axes), 0.0, atol=1e-5)
        np.testing.assert_allclose(scaled.std(axes), 1.0, rtol=1e-5)
        np.testing.assert_allclose(scaling.apply(jnp.asarray(inputs)), scaled, rtol=1e-6)


def test_it_goes_through_json() -> None:
    scaling = InputScaling.fit(dataset(RNG.normal(size=(9, 3)).astype(np.float32)))
    assert InputScaling.from_json(json.loads(json.dumps(scaling.to_json()))) == scaling


def test_errors() -> None:
    scaling = InputScaling((0.0, 0.0), (1.0, 1.0))
    with pytest.raises(DataError, match=r"2 features .* got shape \(4, 3\)"):
        scaling.apply(np.zeros((4, 3)))
    with pytest.raises(DataError, match="no saved input scaling"):
        InputScaling.from_json({"shift": [0.0]})
    tokens = dataclasses.replace(dataset(np.zeros((4, 3), np.int32)), kind="tokens")
    with pytest.raises(DataError, match="Tokens cannot be standardised"):
        InputScaling.fit(tokens)
