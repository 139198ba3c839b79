"""Shapes of a tree of arrays, and their form in JSON."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree


def of(inputs: PyTree, batch_size: int) -> PyTree:
    """Returns the tree with the shape and dtype of a batch in place of each array."""

    def batch(a: Array | np.ndarray) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((batch_size, *a.shape[1:]), a.dtype)

    return jax.tree.map(batch, inputs)


def to_json(tree: PyTree) -> Any:
    """Returns shapes in tuples, lists and dicts as plain values; None for any other tree."""
    if isinstance(tree, jax.ShapeDtypeStruct):
        return {"shape": list(tree.shape), "dtype": str(tree.dtype)}
    if isinstance(tree, dict):
        values: Any = {name: to_json(value) for name, value in tree.items()}
        return {"dict": values} if None not in values.values() else None
    if type(tree) in (tuple, list):
        values = [to_json(value) for value in tree]
        return {type(tree).__name__: values} if None not in values else None
    return None


def from_json(saved: Any) -> PyTree:
    """Returns what `to_json` was given."""
    if saved is None:
        return None
    if "shape" in saved:
        return jax.ShapeDtypeStruct(tuple(saved["shape"]), jnp.dtype(saved["dtype"]))
    if "dict" in saved:
        return {name: from_json(value) for name, value in saved["dict"].items()}
    ((kind, values),) = saved.items()
    items = [from_json(value) for value in values]
    return tuple(items) if kind == "tuple" else items
