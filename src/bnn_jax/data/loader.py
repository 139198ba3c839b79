"""Training batches from a grain loader: a reader that never ends, and whose place can be saved.

A loader is a `grain.MapDataset`, `grain.IterDataset` or `grain.DataLoader` whose elements are
batches, (inputs, targets), {"image": ..., "label": ...}, {"inputs": ..., "targets": ...} or
{"x": ..., "y": ...}. A MapDataset is repeated, with a new order in each pass if it shuffles. Other
loaders are started again from their first batch when they end.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from bnn_jax.data.errors import DataError, one_line

Pair = tuple[PyTree, PyTree]
Source = Any  # a loader of grain, an optional package

NAMES = (("x", "y"), ("inputs", "targets"), ("image", "label"))
"""The names of inputs and targets in an element that is a mapping."""

ENDLESS = 10**15  # batches; a MapDataset that is repeated without end has more
_EMPTY = "data: the loader yields no batch: check its length and its filters."


def is_loader(value: object) -> bool:
    """Returns whether a value is a loader of grain."""
    grain: Any = sys.modules.get("grain")  # a loader exists only if grain is imported
    return grain is not None and isinstance(
        value, grain.MapDataset | grain.IterDataset | grain.DataLoader
    )


def pair_of(element: object) -> Pair | None:
    """Returns (inputs, targets) of an element; None if it has another form."""
    if isinstance(element, Mapping):
        found = next((names for names in NAMES if set(names) <= set(element)), None)
        return None if found is None else (element[found[0]], element[found[1]])
    if isinstance(element, tuple | list) and len(element) == 2:
        return element[0], element[1]
    return None


def read_options() -> Any:
    """Returns how grain reads elements: by a few threads, a little ahead."""
    import grain

    threads = min(os.cpu_count() or 1, 8)
    return grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)


class Loader:
    """The batches of a loader, one after the other without end.

    Attributes:
        first: the first batch.
        batch_size: examples in each batch.
        num_data: number of training examples.
        steps_per_epoch: batches in an epoch.
        check: called with each batch; raises an error if it cannot be trained on.
    """

    def __init__(
        self,
        source: Source,
        *,
        num_data: int | None = None,
        steps_per_epoch: int | None = None,
    ) -> None:
        """Reads the first batch.

        Args:
            source: the loader.
            num_data: number of training examples; None if `source` is a MapDataset that ends,
                whose batches have all of them.
            steps_per_epoch: batches in an epoch; None for those of a pass over the examples.

        Raises:
            DataError: the loader yields no batches, or batches of different shapes; or num_data
                must be given and is not.
        """
        self.check: Callable[[Pair], object] = lambda batch: None
        self._passes, length = _reader(source)
        self._one_pass = source if length is None else source.to_iter_dataset(read_options())
        self._iterator = iter(self._passes)
        self._count = 0
        start = self._iterator.get_state()
        batch = next(self._iterator, None)
        if batch is None:
            raise DataError(_EMPTY)
        self._iterator.set_state(start)
        self.first = _batch(batch, 0)
        self.batch_size = len(self.first[1])
        if length is not None:
            self._like_first(_batch(source[length - 1], length - 1), length - 1)
        elif num_data is None:
            raise DataError(
                f"num_data must be given for a {type(source).__name__} whose number of batches is "
                "not known: fit(..., num_data=60_000), the number of training examples."
            )
        steps = length if num_data is None else num_data // self.batch_size
        self.num_data: int = self.batch_size * (length or 0) if num_data is None else num_data
        self.steps_per_epoch: int = (steps or 0) if steps_per_epoch is None else steps_per_epoch
        if self.num_data < self.batch_size:
            raise DataError(
                f"num_data must be at least the {self.batch_size} examples of a batch, got "
                f"{self.num_data}: give the number of training examples."
            )

    @property
    def identity(self) -> PyTree:
        """Arrays and numbers that differ between different data: the first batch and the sizes."""
        return self.first, self.num_data, self.steps_per_epoch

    def next(self) -> Pair:
        """Returns the next batch.

        Raises:
            DataError: its shapes differ from those of the first batch.
        """
        element = next(self._iterator, None)
        if element is None:
            self._iterator = iter(self._passes)
            element = next(self._iterator)
        batch = self._like_first(_batch(element, self._count), self._count)
        self.check(batch)
        self._count += 1
        return batch

    def state(self) -> dict[str, object]:
        """Returns the place after the last batch as a JSON value."""
        found = self._iterator.get_state()
        own = json.loads(found) if isinstance(found, bytes) else found
        return {"batches": self._count, "iterator": own}

    def resume(self, state: Mapping[str, Any]) -> None:
        """Continues at a place that `state` returned.

        Raises:
            DataError: grain refuses the state.
        """
        own = state["iterator"]
        iterator = iter(self._passes)
        try:
            as_bytes = isinstance(iterator.get_state(), bytes)
            iterator.set_state(json.dumps(own, indent=4).encode() if as_bytes else own)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                "The loader cannot continue from the state of the checkpoint: give the loader of "
                f"the interrupted fit ({one_line(error)[:200]})."
            ) from error
        self._iterator, self._count = iterator, state["batches"]

    def one_pass(self) -> Iterator[Pair]:
        """Yields the batches of one pass over the examples, from the first batch on."""
        for number, element in zip(
            range(self.num_data // self.batch_size), self._one_pass, strict=False
        ):
            yield self._like_first(_batch(element, number), number)

    def _like_first(self, batch: Pair, number: int) -> Pair:
        found, wanted = (
            [(a.shape, a.dtype.name) for a in jax.tree.leaves(b)] for b in (batch, self.first)
        )
        if found != wanted:
            raise DataError(
                f"data: batch {number} of the loader has arrays {str(found)[:200]}, and the first "
                f"has {str(wanted)[:200]}: batches must agree, as .batch(batch_size, "
                "drop_remainder=True) makes them."
            )
        return batch


def _reader(source: Source) -> tuple[Source, int | None]:
    """Returns an iterable of the loader's batches, and the length of a MapDataset that ends."""
    import grain

    if not isinstance(source, grain.MapDataset):
        return source, None
    length = len(source)
    if not length:
        raise DataError(_EMPTY)
    if length >= ENDLESS:
        return source.to_iter_dataset(read_options()), None
    return source.repeat().to_iter_dataset(read_options()), length


def _batch(element: object, number: int) -> Pair:
    """Returns the arrays of a batch."""
    pair = pair_of(element)
    if pair is None:
        keys = f" with {', '.join(map(str, element))}" if isinstance(element, Mapping) else ""
        raise DataError(
            f"data: batch {number} of the loader must be (inputs, targets), or a mapping with one "
            f"of {'; '.join(' and '.join(names) for names in NAMES)}, got "
            f"{type(element).__name__}{keys}."
        )
    inputs, targets = jax.tree.map(np.asarray, pair)
    if not isinstance(targets, np.ndarray) or any(
        not leaf.ndim for leaf in jax.tree.leaves((inputs, targets))
    ):
        raise DataError(
            f"data: element {number} of the loader is one example, or its targets are not one "
            "array: the loader must yield batches, as .batch(batch_size, drop_remainder=True) "
            "makes them."
        )
    return inputs, targets
