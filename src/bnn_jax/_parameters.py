"""Parameters of distributions: dataclasses of numbers and arrays, checked on construction."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import jax
import numpy as np

T = TypeVar("T")


def parameters(cls: type[T]) -> type[T]:
    """Registers a frozen dataclass as a pytree of its fields.

    Only a call of the class checks the values. Tree transformations do not: they may put gradients,
    shapes or other objects in place of the parameters.
    """
    names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

    def flatten(x: T) -> tuple[list[object], None]:
        return [getattr(x, name) for name in names], None

    def flatten_with_keys(x: T) -> tuple[list[tuple[object, object]], None]:
        return [(jax.tree_util.GetAttrKey(name), getattr(x, name)) for name in names], None

    def unflatten(_: None, values: Iterable[object]) -> T:
        x = object.__new__(cls)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(x, name, value)
        return x

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
    return cls


def check_finite(owner: str, **values: object) -> None:
    """Refuses nan and infinity, in numbers and in arrays that are not traced."""
    for name, value in values.items():
        _check(owner, name, value, -math.inf, math.inf, "must be finite")


def check_positive(owner: str, **values: object) -> None:
    """Refuses values that are not positive and finite."""
    for name, value in values.items():
        _check(owner, name, value, 0.0, math.inf, "must be positive and finite")


def check_range(owner: str, name: str, value: object, *, low: float, high: float) -> None:
    """Refuses values outside the open interval (low, high)."""
    _check(owner, name, value, low, high, f"must be above {low:g} and below {high:g}")


def check_values(
    owner: str, name: str, value: object, is_right: Callable[[np.ndarray], np.ndarray], rule: str
) -> None:
    """Refuses arrays with elements that break a rule; traced arrays are not checked."""
    numbers = _concrete(value)
    if numbers is None:
        return
    wrong = numbers[~is_right(numbers)]
    if wrong.size:
        raise ValueError(
            f"{owner}: {name} {rule}, got {wrong[0]} in {wrong.size} of {numbers.size} elements."
        )


def _check(owner: str, name: str, value: object, low: float, high: float, rule: str) -> None:
    numbers = _concrete(value)
    if numbers is None:
        return
    wrong = numbers[~((numbers > low) & (numbers < high))]
    if wrong.size:
        count = f" in {wrong.size} of {numbers.size} elements" if numbers.size > 1 else ""
        raise ValueError(f"{owner}: {name} {rule}, got {wrong[0]}{count}.")


def _concrete(value: object) -> np.ndarray | None:
    """Returns the values in at least one axis, or None if they are traced or no numbers."""
    if isinstance(value, jax.Array):
        if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
            return None
    elif not isinstance(value, int | float | np.ndarray | np.number):
        return None
    numbers = np.atleast_1d(np.asarray(value))
    return numbers if np.issubdtype(numbers.dtype, np.number) else numbers.astype(np.float32)
