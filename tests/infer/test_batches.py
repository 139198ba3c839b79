"""Training data in its forms: which batches an epoch has, and an error for what is none."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnn_jax.infer.batches import reader

X = np.arange(10, dtype=np.float32)[:, None]
Y = np.arange(10)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the types that are checked in tests only, as for users."""
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)


def epoch(dataset: Any, seed: int = 0, **options: Any) -> list[tuple[Any, Any]]:
    return list(reader(dataset, **options)(jax.random.key(seed)))


@pytest.mark.parametrize("asarray", [np.asarray, jnp.asarray])
def test_arrays_are_shuffled_and_come_in_full_batches(asarray: Any) -> None:
    batches = epoch((asarray(X), asarray(Y)), batch_size=3)
    assert [len(x) for x, _ in batches] == [3, 3, 3]
    rows = np.concatenate([x[:, 0] for x, _ in batches])
    assert len(set(rows.tolist())) == 9
    assert not np.array_equal(rows, np.sort(rows))
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), rows)
    other = epoch((asarray(X), asarray(Y)), 1, batch_size=3)
    assert not np.array_equal(np.concatenate([x[:, 0] for x, _ in other]), rows)


def test_every_example_is_equally_likely_to_be_left_out() -> None:
    """400 epochs of 3 x 3 of 10 examples: binomial counts, within 5 standard errors."""
    start, counts = reader(X, batch_size=3), np.zeros(10)
    for i in range(400):
        for x, label in start(jax.random.fold_in(jax.random.key(0), i)):
            assert label is None
            counts[x[:, 0].astype(int)] += 1
    assert counts.sum() == 3600
    assert np.all(np.abs(counts - 360) < 5 * np.sqrt(400 * 0.9 * 0.1))


def test_few_examples_are_one_batch() -> None:
    assert [len(x) for x, _ in epoch(X, batch_size=64)] == [10]


def test_batches_come_as_they_are() -> None:
    batches = [X[:4], (X[4:8], Y[4:8]), {"image": X[8:], "label": Y[8:]}, [X[:1]]]
    found = epoch(batches, epochs=3)
    assert [len(x) for x, _ in found] == [4, 4, 2, 1]
    assert [None if y is None else y.tolist() for _, y in found] == [
        None,
        [4, 5, 6, 7],
        [8, 9],
        None,
    ]


def test_a_generator_serves_one_epoch() -> None:
    def generate() -> Iterator[Any]:
        yield X

    assert len(epoch(generate(), epochs=1)) == 1
    with pytest.raises(ValueError, match="iterator, which lasts for one epoch, and epochs=2"):
        reader(generate(), epochs=2)


@pytest.mark.parametrize(
    ("dataset", "options", "error", "message"),
    [
        (X, {}, TypeError, "batch_size= must be given"),
        ((X, Y), {}, TypeError, "batch_size= must be given"),
        ([X], {"batch_size": 2}, TypeError, "batch_size is for arrays.*got list"),
        (X, {"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        (3, {}, TypeError, "iterable of batches; got int"),
        ((X, Y[:9]), {"batch_size": 2}, ValueError, "10 examples and 9 labels"),
        (X.astype(np.uint8), {"batch_size": 2}, TypeError, "floating point, got uint8: scale it"),
        (X[:0], {"batch_size": 2}, ValueError, r"got x of shape \(0, 1\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_data(
    dataset: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        reader(dataset, **options)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ({"images": X}, ValueError, r"needs 'image', got \['images'\]"),
        ((X, Y, Y), ValueError, r"must be x or \(x, label\), got 3 parts"),
        (Y, TypeError, "floating point, got int64"),
        (np.float32(1.0), ValueError, r"got x of shape \(\)"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_batches(batch: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        epoch([batch])
