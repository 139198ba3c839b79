"""Batches (x, label) of training data, one epoch at a time.

Two forms of data are supported:

- Arrays: x, or (x, label), with a batch_size. They are reshuffled in each epoch, and the last batch
  is dropped if it is incomplete, so that one shape is compiled.
- A list of batches, or any other object whose `iter()` starts an epoch. Batches keep their order.

A batch is x, (x, label), or a dict with MindSpore's columns "image" and "label".
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from bnn_jax.bnn_layers import _arguments
from bnn_jax.noise import PRNGKey

ArrayIn = Array | np.ndarray

# (x, label); there may be no labels.
Batch = tuple[ArrayIn, ArrayIn | None]

RawBatch = ArrayIn | Sequence[ArrayIn] | Mapping[str, ArrayIn]
Dataset = ArrayIn | tuple[ArrayIn, ...] | Iterable[RawBatch]


def reader(
    dataset: Dataset, *, epochs: int = 1, batch_size: int | None = None
) -> Callable[[PRNGKey], Iterator[Batch]]:
    """Returns a function that takes the key of an epoch's order and iterates over its batches.

    Args:
        dataset: see the module docstring.
        epochs: number of epochs that will be read.
        batch_size: examples per batch, for arrays.

    Raises:
        TypeError: arrays without a batch_size, batches with one, or unsupported data.
        ValueError: an iterator with more than one epoch, or arrays of different lengths.
    """
    if is_arrays(dataset):
        if batch_size is None:
            raise TypeError(
                "train_dataset consists of arrays, so batch_size= must be given; to pass batches, "
                "use a list or another iterable."
            )
        return _array_reader(
            dataset, _arguments.positive_int("A data set", "batch_size", batch_size)
        )
    if batch_size is not None:
        raise TypeError(
            "batch_size is for arrays, x or (x, label); got "
            f"{type(dataset).__name__}, whose batches keep their size."
        )
    if not hasattr(dataset, "__iter__"):
        raise TypeError(
            "train_dataset must be arrays, or an iterable of batches; got "
            f"{type(dataset).__name__}."
        )
    if epochs > 1 and isinstance(dataset, Iterator):
        raise ValueError(
            f"train_dataset is an iterator, which lasts for one epoch, and epochs={epochs}: pass a "
            "list, or an object whose iter() starts again from the first batch."
        )
    return lambda key: (as_batch(batch) for batch in dataset)


def _array_reader(dataset: RawBatch, batch_size: int) -> Callable[[PRNGKey], Iterator[Batch]]:
    x, label = as_batch(dataset)
    if label is not None and len(label) != len(x):
        raise ValueError(f"There are {len(x)} examples and {len(label)} labels.")
    size = min(batch_size, len(x))

    def epoch(key: PRNGKey) -> Iterator[Batch]:
        order = np.asarray(jax.random.permutation(key, len(x)))
        for start in range(0, len(x) - size + 1, size):
            rows = order[start : start + size]
            yield x[rows], None if label is None else label[rows]

    return epoch


def as_batch(batch: RawBatch) -> Batch:
    """Returns (x, label) of a batch in any supported form; label may be None.

    Raises:
        TypeError: x is not floating point.
        ValueError: missing or additional parts, or no examples.
    """
    label: object = None
    x: object = batch
    if isinstance(batch, Mapping):
        if "image" not in batch:
            raise ValueError(f"A batch that is a dict needs 'image', got {sorted(batch)}.")
        x, label = batch["image"], batch.get("label")
    elif isinstance(batch, tuple | list):
        if len(batch) not in (1, 2):
            raise ValueError(f"A batch must be x or (x, label), got {len(batch)} parts.")
        x, label = (*batch, None)[:2]
    data = _array(x)
    if not jnp.issubdtype(data.dtype, jnp.floating):
        raise TypeError(
            f"x must be floating point, got {data.dtype}: scale it first, such as "
            "np.float32(images) / 255."
        )
    if data.ndim == 0 or len(data) == 0:
        raise ValueError(f"A batch needs examples on axis 0, got x of shape {data.shape}.")
    return data, None if label is None else _array(label)


def is_arrays(dataset: object) -> TypeGuard[ArrayIn | tuple[ArrayIn, ...]]:
    """Returns whether the data are arrays, x or (x, label), and not an iterable of batches."""
    is_array = hasattr(dataset, "shape") and hasattr(dataset, "dtype")
    return is_array or isinstance(dataset, tuple)


def _array(value: object) -> ArrayIn:
    return value if isinstance(value, jax.Array) else np.asarray(value)
