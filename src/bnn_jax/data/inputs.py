"""Inputs of a source as arrays: features, images or tokens.

Without a given kind, uint8 arrays with three or four axes are images, and so are other arrays with
four; all else are features. Tokens must be asked for.
"""

import numpy as np
from jaxtyping import Shaped

from bnn_jax.data.dataset import KINDS, Kind
from bnn_jax.data.errors import DataError, Place, shown

Values = Shaped[np.ndarray, "examples ..."]

_CHUNK = 2**22  # values to check at once


def encode_inputs(values: Values, place: Place, *, kind: Kind | None = None) -> tuple[Values, Kind]:
    """Returns inputs in the form of their kind, and the kind.

    Features become float32 (examples, ...); images uint8 or float32 (examples, height, width,
    channels); tokens int32 (examples, length).

    Raises:
        DataError: the values do not fit the kind; the message names the example and the value.
    """
    if kind is not None and kind not in KINDS:
        raise DataError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if values.dtype.kind not in "biuf":
        raise DataError(
            f"{place} must hold numbers, got {values.dtype}: encode text and categories as numbers."
        )
    if values.ndim == 0 or values.size == 0:
        raise DataError(f"{place} holds no examples: its shape is {values.shape}.")
    if kind is None:
        is_bytes = values.dtype == np.uint8 and values.ndim in (3, 4)
        kind = "images" if is_bytes or values.ndim == 4 else "features"
    if kind == "tokens":
        return _tokens(values, place), kind
    if kind == "images":
        if values.ndim == 3:
            values = values[..., None]
        if values.ndim != 4:
            raise DataError(
                f"{place} must hold images, (examples, height, width) or (examples, height, width, "
                f"channels), got shape {values.shape}."
            )
        if values.dtype == np.uint8:
            return values, kind
    if values.ndim == 1:
        values = values[:, None]
    return _finite(values, place), kind


def _tokens(values: Values, place: Place) -> Values:
    if values.dtype.kind not in "iu" or values.ndim != 2:
        raise DataError(
            f"{place} must hold tokens, integers (examples, length), got {values.dtype} "
            f"{values.shape}."
        )
    wrong = (values < 0) | (values > np.iinfo(np.int32).max)
    if wrong.any():
        i, j = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        raise DataError(
            f"{place.at(int(i))}: a token must be a whole number of at least 0, got "
            f"{shown(values[i, j])} at position {j}."
        )
    return values.astype(np.int32)


def _finite(values: Values, place: Place) -> Values:
    """The values as float32, checked in parts to bound the memory."""
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    step = max(1, _CHUNK // max(1, values[0].size))
    for first in range(0, len(single), step):
        wrong = ~np.isfinite(single[first : first + step])
        if wrong.any():
            index = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
            value = values[first : first + step][index]
            where = f" at {tuple(int(i) for i in index[1:])}" if values.ndim > 1 else ""
            raise DataError(
                f"{place.at(first + int(index[0]))}: an input must be a finite number of float32, "
                f"got {shown(value)}{where}: remove or impute it."
            )
    return single
