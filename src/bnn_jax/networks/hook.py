"""The types of a hook around the calls of a network's layers; see `layer_calls`."""

from collections.abc import Callable

from flax import linen, nnx
from jaxtyping import PyTree

Layer = linen.Module | nnx.Module

# hook(path, layer, run, arguments) -> outputs
Hook = Callable[[str, Layer, Callable[[], PyTree], tuple[PyTree, ...]], PyTree]
