"""Several devices: meshes with the axes `data` and `samples`, and arrays divided over them."""

from bnn_jax.devices.meshes import MeshLike as MeshLike
from bnn_jax.devices.meshes import axis_size as axis_size
from bnn_jax.devices.meshes import mesh_of as mesh_of
from bnn_jax.devices.placement import Placement as Placement
