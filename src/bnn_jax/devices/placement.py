"""Arrays on a mesh: examples divided over `data`, all else on every device or as it is asked.

The compiler divides the computations (GSPMD): a program on a mesh computes what it computes on one
device, up to the order of sums, noise and batch statistics included. Sizes that the devices do not
divide are padded by the compiler, and the padding takes part in nothing.
"""

import dataclasses
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import ArrayLike, PyTree

from bnn_jax.devices.meshes import MeshLike, axis_size, mesh_of
from bnn_jax.devices.processes import check_mesh, is_global

Tree = TypeVar("Tree")


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where the arrays of a fit or a prediction are.

    Attributes:
        mesh: has the axes `data` or `samples` or both.
        shard_parameters: whether the arrays of a state are divided over `data` too, each along its
            longest axis that the devices divide, and gathered where a step needs them.
    """

    mesh: Mesh
    shard_parameters: bool = False

    @classmethod
    def of(cls, mesh: MeshLike, shard_parameters: bool = False) -> "Placement | None":
        """Returns the placement on what `mesh_of` makes of a mesh; None for one device.

        Raises:
            ValueError: there are several processes, and the mesh has no devices of one of them.
        """
        found = mesh_of(mesh)
        check_mesh(found)
        return None if found is None else cls(found, shard_parameters)

    @property
    def everywhere(self) -> NamedSharding:
        """The whole array on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def examples(self) -> NamedSharding:
        """Axis 0 divided over `data`."""
        return self._first_axis("data")

    @property
    def members(self) -> NamedSharding:
        """Axis 0 divided over `samples`."""
        return self._first_axis("samples")

    def _first_axis(self, axis: str) -> NamedSharding:
        known = axis in self.mesh.axis_names
        return NamedSharding(self.mesh, PartitionSpec(axis) if known else PartitionSpec())

    def padded(self, count: int) -> int:
        """Returns the next number of examples that the devices along `data` divide."""
        size = axis_size(self.mesh, "data")
        return -(-count // size) * size

    def replicate(self, tree: Tree) -> Tree:
        """Returns the tree with every array on all devices."""
        return put(tree, self.everywhere)

    def divide(self, tree: PyTree) -> PyTree:
        """Returns arrays of examples divided over `data`, padded with zeros where necessary."""

        def divided(array: ArrayLike) -> jax.Array:
            host = canonical(array)
            missing = self.padded(len(host)) - len(host)
            padded: PyTree = np.pad(host, [(0, missing)] + [(0, 0)] * (host.ndim - 1))
            return put(padded, self.examples)

        return jax.tree.map(divided, tree)

    @property
    def spans_processes(self) -> bool:
        """Whether the devices belong to several processes."""
        return not self.everywhere.is_fully_addressable

    def batches(self, tree: Tree, rows: np.ndarray) -> Tree:
        """Returns batches of examples; each process loads the part that its devices need.

        Args:
            tree: arrays of examples, the same on every process.
            rows: (count, batch size), the numbers of the examples of each batch.

        Returns:
            Arrays (count, padded batch size, ...), with axis 1 divided over `data`.
        """
        missing = self.padded(rows.shape[1]) - rows.shape[1]
        padded = np.pad(rows, [(0, 0), (0, missing)])
        sharding = NamedSharding(self.mesh, PartitionSpec(None, *self.examples.spec))

        def load(array: np.ndarray) -> jax.Array:
            def part(index: Any) -> np.ndarray:
                chosen: np.ndarray = array[padded[index[:2]]]
                return chosen

            return jax.make_array_from_callback((*padded.shape, *array.shape[1:]), sharding, part)

        return jax.tree.map(load, tree)

    def batch(self, batch: Tree) -> Tree:
        """Returns a batch divided over `data`, or on all devices if they do not divide it."""
        even = all(len(a) == self.padded(len(a)) for a in jax.tree.leaves(batch))
        return put(batch, self.examples if even else self.everywhere)

    def shardings(self, state: PyTree) -> PyTree:
        """Returns where the arrays of a state belong.

        An array that is on the mesh stays as it is there; others are everywhere. With
        `shard_parameters` one further axis is divided over `data`.
        """

        def of(leaf: PyTree) -> NamedSharding:
            own = getattr(leaf, "sharding", None)
            spec = ()
            if isinstance(own, NamedSharding) and own.mesh == self.mesh:
                spec = tuple(own.spec)
            return self._sharding(leaf.shape, spec)

        return jax.tree.map(of, state)

    def _sharding(self, shape: tuple[int, ...], spec: tuple[object, ...] = ()) -> NamedSharding:
        """Returns the sharding of an array of a state, whose axes are divided by `spec` already."""
        axes = [*spec, *(None,) * (len(shape) - len(spec))]
        devices = axis_size(self.mesh, "data")
        free = [
            i
            for i, used in enumerate(axes)
            if used is None and shape[i] and shape[i] % devices == 0
        ]
        if self.shard_parameters and devices > 1 and free:
            axes[max(free, key=lambda i: shape[i])] = "data"
        return NamedSharding(self.mesh, PartitionSpec(*axes))

    def gathered(self, params: Tree) -> Tree:
        """Returns params that every device has as a whole, inside a compiled program.

        Their gradient is divided again, as the state is.
        """

        def whole(leaf: PyTree) -> PyTree:
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return constrain(leaf, self.everywhere)
            return _gathered(leaf, self.everywhere, self._sharding(leaf.shape))

        return jax.tree.map(whole, params) if self.shard_parameters else params


@partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gathered(leaf: jax.Array, whole: NamedSharding, divided: NamedSharding) -> jax.Array:
    return constrain(leaf, whole)


_gathered.defvjp(
    lambda leaf, whole, divided: (constrain(leaf, whole), None),
    lambda whole, divided, _, gradient: (constrain(gradient, divided),),
)


def put(tree: Tree, shardings: PyTree) -> Tree:
    """Returns the tree on the devices of a sharding, or of a tree of shardings.

    Where they belong to several processes, each process places its parts of an array that is not
    yet on them, and must hold the whole array.
    """
    if all(sharding.is_fully_addressable for sharding in jax.tree.leaves(shardings)):
        return jax.device_put(tree, shardings)
    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda leaf: _on_processes(leaf, shardings), tree)
    return jax.tree.map(_on_processes, tree, shardings)


def _on_processes(leaf: PyTree, sharding: NamedSharding) -> jax.Array:
    if is_global(leaf):
        return jax.device_put(leaf, sharding)
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    host = leaf if is_key else canonical(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def canonical(array: ArrayLike) -> np.ndarray:
    """Returns a NumPy array in the dtype that JAX gives it, such as float32 for float64."""
    host = np.asarray(array)
    return host.astype(jax.dtypes.canonicalize_dtype(host.dtype), copy=False)


def constrain(tree: Tree, shardings: PyTree) -> Tree:
    """Returns the tree with its arrays divided as given, inside a compiled program.

    Arrays whose size the devices do not divide are padded by the compiler.
    """
    if not jax.tree.leaves(tree):
        return tree
    return lax.with_sharding_constraint(tree, shardings)
