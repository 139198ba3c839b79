"""Training data in any of the usual forms, read one epoch at a time as batches (x, label).

- Arrays: x, or (x, label), with a batch_size. They are shuffled anew for each epoch, and a last
  batch that is not full is left out of it, so that one shape is compiled.
- A list of batches, or any other object whose `iter()` starts an epoch. Batches come as they are.

A batch is x, (x, label), or a dict with MindSpore's columns "image" and "label".
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnn_jax.bnn_layers import _arguments
from bnn_jax.noise import PRNGKey

Batch = tuple[Any, Any]


def reader(
    dataset: Any, *, epochs: int = 1, batch_size: int | None = None
) -> Callable[[PRNGKey], Iterator[Batch]]:
    """A function that starts an epoch: it takes the key of the order, and gives the batches.

    Args:
        dataset: see above.
        epochs: how often it will be called.
        batch_size: for arrays, the number of examples in a batch.

    Raises:
        TypeError: arrays without a batch_size, batches with one, or what is neither.
        ValueError: an iterator that more than one epoch would need, or arrays that do not match.
    """
    if is_arrays(dataset):
        if batch_size is None:
            raise TypeError(
                "train_dataset is made of arrays, so batch_size= has to be given; batches come in "
                "a list or another iterable."
            )
        return _array_reader(
            dataset, _arguments.positive_int("A data set", "batch_size", batch_size)
        )
    if batch_size is not None:
        raise TypeError(
            "batch_size is for arrays, x or (x, label); got "
            f"{type(dataset).__name__}, whose batches are taken as they are."
        )
    if not hasattr(dataset, "__iter__"):
        raise TypeError(
            "train_dataset has to be arrays, or an iterable of batches; got "
            f"{type(dataset).__name__}."
        )
    if epochs > 1 and isinstance(dataset, Iterator):
        raise ValueError(
            f"train_dataset is an iterator, which one epoch uses up, and epochs={epochs}: pass a "
            "list, or an object whose iter() starts anew."
        )
    return lambda key: (as_batch(batch) for batch in dataset)


def _array_reader(dataset: Any, batch_size: int) -> Callable[[PRNGKey], Iterator[Batch]]:
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


def as_batch(batch: Any) -> Batch:
    """(x, label) of a batch in any of the usual forms; label may be None.

    Raises:
        TypeError: x is not floating point.
        ValueError: other parts, or no examples.
    """
    if isinstance(batch, Mapping):
        if "image" not in batch:
            raise ValueError(f"A batch that is a dict needs 'image', got {sorted(batch)}.")
        x, label = batch["image"], batch.get("label")
    elif isinstance(batch, tuple | list):
        if len(batch) not in (1, 2):
            raise ValueError(f"A batch is x or (x, label), got {len(batch)} parts.")
        x, label = (*batch, None)[:2]
    else:
        x, label = batch, None
    x = _array(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(
            f"x has to be floating point, got {x.dtype}: scale it first, such as "
            "np.float32(images) / 255."
        )
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"A batch needs examples on axis 0, got x of shape {x.shape}.")
    return x, None if label is None else _array(label)


def is_arrays(dataset: Any) -> bool:
    """Whether it is x or (x, label), and not an iterable of batches."""
    is_array = hasattr(dataset, "shape") and hasattr(dataset, "dtype")
    return is_array or isinstance(dataset, tuple)


def _array(value: Any) -> Any:
    return value if isinstance(value, jax.Array) else np.asarray(value)
