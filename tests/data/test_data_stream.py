"""Streams: the order is a function of seed and step, epochs are whole, runs resume anywhere."""

import itertools

import numpy as np
import pytest
from data_helpers import images_and_labels, rows

from bnn_jax.data import DataError, from_arrays, load, stream

N = 23
TRAIN = images_and_labels(0, N, (4, 3, 1))
# Every image carries its own number, so that an order can be read off.
TRAIN.images[:, 0, 0, 0] = np.arange(N)
DATA = from_arrays(TRAIN.images, TRAIN.labels, TRAIN.images[:5], TRAIN.labels[:5])


def order(batches) -> list[list[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in batches]


def first(dataset, n) -> list[list[int]]:
    return order(itertools.islice(dataset, n))


def test_batches():
    batch = next(iter(stream(DATA, batch_size=4, seed=0)))
    assert (batch["image"].dtype, batch["image"].shape) == (np.uint8, (4, 4, 3, 1))
    assert (batch["label"].dtype, batch["label"].shape) == (np.int32, (4,))
    numbers = batch["image"][:, 0, 0, 0]
    np.testing.assert_array_equal(batch["label"], TRAIN.labels[numbers])
    np.testing.assert_array_equal(batch["image"], TRAIN.images[numbers])


def test_the_order_is_the_seeds_and_new_each_epoch():
    one = first(stream(DATA, batch_size=4, seed=0), 15)
    assert one == first(stream(DATA, batch_size=4, seed=0), 15)
    assert one != first(stream(DATA, batch_size=4, seed=1), 15)
    epochs = [np.concatenate(one[5 * i : 5 * i + 5]).tolist() for i in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 20
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_a_whole_epoch_in_the_order_of_the_source():
    batches = order(
        stream(DATA, batch_size=4, seed=0, shuffle=False, epochs=1, drop_remainder=False)
    )
    assert [len(b) for b in batches] == [4, 4, 4, 4, 4, 3]
    assert np.concatenate(batches).tolist() == list(range(N))
    assert len(order(stream(DATA, batch_size=4, seed=0, epochs=2))) == 10
    assert order(stream(DATA, batch_size=5, seed=0, part="test", shuffle=False, epochs=1)) == [
        list(range(5))
    ]


def test_resumed_at_a_step():
    whole = first(stream(DATA, batch_size=4, seed=3), 20)
    for start in (0, 1, 5, 13):
        resumed = first(stream(DATA, batch_size=4, seed=3, start=start), 20 - start)
        assert resumed == whole[start:]
    assert first(stream(DATA, batch_size=4, seed=3, epochs=2, start=7), 20) == whole[7:10]


def test_resumed_from_the_iterators_state():
    whole = first(stream(DATA, batch_size=4, seed=3), 12)
    iterator = iter(stream(DATA, batch_size=4, seed=3))
    for _ in range(7):
        next(iterator)
    state = iterator.get_state()
    again = iter(stream(DATA, batch_size=4, seed=3))
    again.set_state(state)
    assert first(again, 5) == whole[7:]


def test_a_prepared_data_set_is_read_in_the_order_of_load(kmnist, tmp_path):
    options = {"data_dir": tmp_path, "manual_dir": kmnist[0]}
    batches = list(
        stream("kmnist", batch_size=40, seed=0, shuffle=False, epochs=1, image_size=14, **options)
    )
    data = load("kmnist", data_dir=tmp_path, image_size=14)
    np.testing.assert_array_equal(batches[0]["image"], data.train.images)
    np.testing.assert_array_equal(batches[0]["label"], data.train.labels)


def test_any_indexable_source():
    pairs = [{"image": image, "label": int(label), "more": "x"} for image, label in TRAIN]
    batch = next(iter(stream(pairs, batch_size=N, seed=0, image_size=8)))
    assert batch["image"].shape == (N, 8, 8, 1)
    assert sorted(batch["label"].tolist()) == sorted(TRAIN.labels.tolist())
    digits = next(iter(stream("digits", batch_size=8, seed=0, part="test")))
    assert digits["image"].shape == (8, 8, 8, 1)
    assert rows(TRAIN) == rows(DATA.train)


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        (DATA, {"batch_size": 24}, "from 1 to the number of examples, 23, got 24"),
        (DATA, {"batch_size": 0}, "got 0"),
        (DATA, {"part": "validation"}, "'train' or 'test', got 'validation'"),
        (DATA, {"epochs": 0}, "epochs must be at least 1"),
        (DATA, {"start": -1}, "start at least 0"),
        (DATA, {"image_size": 0}, "image_size"),
        (iter([]), {}, "must be a name, an ImageDataset"),
        ("minst", {}, "Did you mean 'mnist'"),
        ([(np.zeros((4, 4, 1)), 0)] * 4, {}, "must be uint8.*float64"),
    ],
)
def test_bad_arguments(source, change, message):
    with pytest.raises(DataError, match=message):
        stream(source, **({"batch_size": 4, "seed": 0} | change))


def test_images_of_different_sizes():
    source = [(np.zeros((size, 4, 1), np.uint8), 0) for size in (4, 5)]
    with pytest.raises(ValueError, match=r"differ in shape.*image_size"):
        next(iter(stream(source, batch_size=2, seed=0)))
    resized = next(iter(stream(source, batch_size=2, seed=0, image_size=6)))
    assert resized["image"].shape == (2, 6, 6, 1)
