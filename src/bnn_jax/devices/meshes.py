"""Meshes of devices: what `mesh=` may be, and its checks.

A mesh has one or both of two axes:

    data      divides the examples of a batch
    samples   divides weight samples in predictions, and the members of an ensemble in training
"""

import math
from collections.abc import Mapping

import jax
import numpy as np
from jax.sharding import AxisType, Mesh
from jaxtyping import PyTree

from bnn_jax.devices.processes import is_global

AXES = ("data", "samples")

# A mesh; a number of devices or "all", which divide the examples; sizes by the name of the axis,
# such as {"data": 4, "samples": 2}; or None for one device.
MeshLike = Mesh | Mapping[str, int] | int | str | None


def mesh_of(mesh: object) -> Mesh | None:
    """Returns the mesh that an argument `mesh=` describes; None for one device, JAX's default.

    Args:
        mesh: see `MeshLike`. The axes of a mesh are used as if they were of the type Auto.

    Raises:
        TypeError: it is something else.
        ValueError: an axis of another name, a size below 1, or more devices than there are.
    """
    if mesh is None:
        return None
    if isinstance(mesh, Mesh):
        _check_axes(mesh.axis_names)
        if mesh.size == 1 and mesh.devices.flat[0] == jax.devices()[0]:
            return None
        return Mesh(mesh.devices, mesh.axis_names, axis_types=_auto(len(mesh.axis_names)))
    available = jax.devices()
    sizes = _sizes(mesh, len(available))
    count = math.prod(sizes.values())
    if count > len(available):
        raise ValueError(
            f"The mesh {_text(sizes)} needs {count} devices, and JAX sees {len(available)}: use "
            "at most that many. On CPU, XLA_FLAGS=--xla_force_host_platform_device_count="
            f"{count} makes virtual ones."
        )
    if count == 1:
        return None
    return jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), _auto(len(sizes)), devices=available[:count]
    )


def axis_size(mesh: Mesh | None, axis: str) -> int:
    """Returns the number of devices along an axis; 1 if there is no such axis."""
    return 1 if mesh is None else mesh.shape.get(axis, 1)


def described(mesh: Mesh | None) -> str:
    """Returns a mesh in words, such as "8 devices (data 4, samples 2)"."""
    if mesh is None or mesh.size == 1:
        return "1 device"
    processes = len({device.process_index for device in mesh.devices.flat})
    of = f" of {processes} processes" if processes > 1 else ""
    return f"{mesh.size} devices{of} ({_text(mesh.shape)})"


def mesh_of_arrays(tree: PyTree) -> Mesh | None:
    """Returns a mesh of the devices of arrays that several processes hold; None for others."""
    for leaf in jax.tree.leaves(tree):
        if is_global(leaf):
            devices = sorted(leaf.sharding.device_set, key=lambda device: device.id)
            return Mesh(np.asarray(devices), ("data",), axis_types=_auto(1))
    return None


def _sizes(mesh: object, available: int) -> dict[str, int]:
    if mesh == "all":
        return {"data": available}
    if isinstance(mesh, int) and not isinstance(mesh, bool):
        mesh = {"data": mesh}
    if not isinstance(mesh, Mapping):
        raise TypeError(
            "mesh must be a jax.sharding.Mesh, a number of devices, 'all', or the sizes of the "
            f"axes such as {{'data': 4, 'samples': 2}}; got {mesh!r}."
        )
    _check_axes(tuple(mesh))
    for axis, size in mesh.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(
                f"A mesh must have a whole number of at least 1 devices along {axis!r}, got "
                f"{size!r}."
            )
    return dict(mesh)


def _check_axes(names: tuple[object, ...]) -> None:
    if not names or not set(names) <= set(AXES):
        raise ValueError(
            f"A mesh must have the axes 'data', 'samples' or both, got {names}: examples are "
            "divided over data, weight samples and ensemble members over samples."
        )


def _auto(number: int) -> tuple[AxisType, ...]:
    return (AxisType.Auto,) * number


def _text(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{axis} {size}" for axis, size in sizes.items())
