"""Parameters of distributions: dataclasses of numbers and arrays, checked on construction."""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
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


def check_key(key: object, call: str = "") -> None:
    """Refuses what is not one JAX key.

    Args:
        key: the argument.
        call: how to call the function, for the message; may be left out.

    Raises:
        TypeError: it is none.
    """
    if not is_key(key):
        cure = f": call {call}." if call else "."
        raise TypeError(
            f"key must be a JAX key such as jax.random.key(0), got {describe(key)}{cure}"
        )


def is_key(key: object) -> bool:
    """Returns whether the argument is one JAX key, of either form."""
    if not isinstance(key, jax.Array):
        return False
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key.ndim == 0
    return key.shape == (2,) and key.dtype == jnp.uint32


def describe(value: object) -> str:
    """Returns what an argument is, in a few words."""
    if isinstance(value, jax.Array | np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    plain = value is None or isinstance(value, bool | int | float | str)
    return repr(value)[:60] if plain else f"a {type(value).__name__}"


def check_count(name: str, value: object) -> None:
    """Refuses what is not a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be a whole number of at least 1, got {describe(value)}.")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}.")


def check_shape(name: str, targets: Any, shape: tuple[int, ...]) -> None:
    """Refuses targets that are no array, or of another shape than the network predicts."""
    check_array(name, targets)
    if targets.shape != shape:
        raise ValueError(
            f"The {name} must have the shape {tuple(shape)} that the network predicts, got "
            f"{tuple(targets.shape)}: reshape them, for instance by y[:, None]."
        )


def check_array(name: str, value: object) -> None:
    """Refuses lists and other objects that are no arrays."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"The {name} must be an array, got {describe(value)}: jnp.asarray(it).")


def check_given(owner: str, **values: object) -> None:
    """Refuses parameters that are None."""
    for name, value in values.items():
        if value is None:
            raise TypeError(f"{owner}: {name} must be a number or an array, got None.")


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
    numbers = _concrete(owner, name, value)
    if numbers is None:
        return
    wrong = numbers[~is_right(numbers)]
    if wrong.size:
        raise ValueError(
            f"{owner}: {name} {rule}, got {wrong[0]} in {wrong.size} of {numbers.size} elements."
        )


def _check(owner: str, name: str, value: object, low: float, high: float, rule: str) -> None:
    numbers = _concrete(owner, name, value)
    if numbers is None:
        return
    wrong = numbers[~((numbers > low) & (numbers < high))]
    if wrong.size:
        count = f" in {wrong.size} of {numbers.size} elements" if numbers.size > 1 else ""
        raise ValueError(f"{owner}: {name} {rule}, got {wrong[0]}{count}.")


def _concrete(owner: str, name: str, value: object) -> np.ndarray | None:
    """Returns the values in at least one axis, or None if they are traced or None.

    Raises:
        TypeError: they are no numbers.
    """
    if value is None:
        return None
    if isinstance(value, jax.Array):
        if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
            return None
    elif isinstance(value, bool) or not isinstance(value, int | float | np.ndarray | np.number):
        raise TypeError(f"{owner}: {name} must be a number or an array, got {describe(value)}.")
    numbers = np.atleast_1d(np.asarray(value))
    return numbers if np.issubdtype(numbers.dtype, np.number) else numbers.astype(np.float32)
