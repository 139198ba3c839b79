"""Checks of the hyper-parameters of inference methods."""

import jax
import numpy as np

from bnn_jax._parameters import describe


def check_numbers(method: str, **values: object) -> None:
    """Refuses hyper-parameters that are no numbers."""
    for name, value in values.items():
        is_scalar = isinstance(value, jax.Array | np.ndarray) and value.ndim == 0
        plain = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (is_scalar or plain):
            raise TypeError(f"{method}: {name} must be a number, got {describe(value)}.")


def check_counts(method: str, *, least: int = 1, **values: object) -> None:
    """Refuses hyper-parameters that are not whole numbers of at least `least`."""
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(
                f"{method}: {name} must be an integer of at least {least}, got {value!r}."
            )


def check_flags(method: str, **values: object) -> None:
    """Refuses hyper-parameters that are neither True nor False."""
    for name, value in values.items():
        if not isinstance(value, bool):
            raise TypeError(f"{method}: {name} must be True or False, got {describe(value)}.")


def check_optimizer(method: str, optimizer: object) -> None:
    """Refuses an optimizer that is no optax transformation."""
    if optimizer is not None and not hasattr(optimizer, "update"):
        raise TypeError(
            f"{method}: optimizer must be an optax transformation such as optax.adam(1e-3), got "
            f"{describe(optimizer)}."
        )
