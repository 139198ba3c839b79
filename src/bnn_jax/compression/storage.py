"""Compressed posteriors on disk: one npz file of their arrays, compressed again by zip.

The structure is not stored: `load` takes a posterior of the same network, as `model.posterior`.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from bnn_jax import gaussian
from bnn_jax.compression.quantize import Codes, Compressed, compress
from bnn_jax.gaussian import MeanAndStd


def save(path: str | Path, compressed: PyTree) -> int:
    """Writes what `compress` returned to a file and returns the file's size in bytes.

    Raises:
        ValueError: a posterior that is not compressed.
    """
    nodes = _nodes(compressed)
    if not nodes:
        raise ValueError("save takes what compress returned, and nothing of it is compressed.")
    to = "int8" if isinstance(nodes[0].mean, Codes) else "bfloat16"
    arrays: dict[str, Any] = {
        f"{i:06d}": _stored(leaf) for i, leaf in enumerate(jax.tree.leaves(compressed))
    }
    path = Path(path).expanduser()
    with path.open("wb") as file:
        np.savez_compressed(file, to=np.asarray(to), pruned=np.asarray(nodes[0].has_std), **arrays)
    return path.stat().st_size


def load(path: str | Path, like: PyTree) -> PyTree:
    """Returns the compressed posterior of a file that `save` wrote.

    Args:
        path: the file.
        like: a posterior of the same network, such as `model.posterior`; its values do not matter.

    Raises:
        ValueError: the file holds a posterior of another network.
    """
    with np.load(Path(path).expanduser()) as file:
        arrays = {name: file[name] for name in file.files}
    to, pruned = str(arrays.pop("to")), bool(arrays.pop("pruned"))
    expected = jax.eval_shape(lambda tree: compress(_with_std(tree, pruned), to=to), like)
    specs, structure = jax.tree.flatten(expected)
    stored = [arrays[name] for name in sorted(arrays)]
    if [x.shape for x in stored] != [x.shape for x in specs]:
        raise ValueError(f"{path} holds the posterior of another network than `like`.")
    leaves = [_restored(x, spec.dtype) for x, spec in zip(stored, specs, strict=True)]
    return jax.tree.unflatten(structure, leaves)


def num_bytes(tree: PyTree) -> int:
    """Returns the size of all arrays of a tree in memory."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _nodes(compressed: PyTree) -> list[Compressed]:
    leaves = jax.tree.leaves(compressed, is_leaf=lambda x: isinstance(x, Compressed))
    return [leaf for leaf in leaves if isinstance(leaf, Compressed)]


def _stored(leaf: PyTree) -> np.ndarray:
    array = np.asarray(leaf)
    return array.view(np.uint16) if array.dtype == jnp.bfloat16 else array


def _restored(stored: np.ndarray, dtype: Any) -> jax.Array:
    if dtype == jnp.bfloat16 and stored.dtype == np.uint16:
        stored = stored.view(jnp.bfloat16)
    return jnp.asarray(stored, dtype)


def _with_std(posterior: PyTree, pruned: bool) -> PyTree:
    """Returns the tree with the leaves of a pruned posterior, or of one that is not."""
    if not pruned:
        return posterior
    return jax.tree.map(
        lambda leaf: MeanAndStd(leaf.mean, leaf.std) if gaussian.is_gaussian(leaf) else leaf,
        posterior,
        is_leaf=gaussian.is_gaussian,
    )
