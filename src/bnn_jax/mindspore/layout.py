"""Conversion of parameter names and array layouts between MindSpore and Flax.

| | MindSpore | here (Flax) |
| --- | --- | --- |
| images | NCHW | NHWC |
| dense | weight (out, in) | kernel (in, out) |
| convolution | weight (out, in / group, *size) | kernel (*size, in / group, out) |
| 1-d convolution | weight (out, in / group, 1, width) | kernel (width, in / group, out) |
| transposed convolution | weight (in, out, *size) | kernel (*size, in, out), mirrored in space; |
| | | with transpose_kernel=True (*size, out, in), not mirrored |
| dense after a flattened image | inputs by (channel, height, width) | by (height, width, channel) |
| normalisation | gamma, beta, moving_mean, moving_variance | scale, bias, mean, var |
| embedding | embedding_table | embedding |
| PReLU | w, of shape (1,) | negative_slope, of shape () |
| random weight | weight_posterior.mean, .untransformed_std | the same; in a tree mean, rho |

All other parameters, including biases, have the same name and layout in both.
"""

import dataclasses
import math
import re
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Num

from bnn_jax.bnn_layers import BayesianLayer, NormalPosterior

Image = tuple[int, int, int]

NORMALISATION = {"scale": "gamma", "bias": "beta", "mean": "moving_mean", "var": "moving_variance"}
NORMALISATION_LAYERS = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm, nnx.RMSNorm)


@dataclasses.dataclass(frozen=True)
class Layout:
    """The conversion of one array from MindSpore's layout to Flax's (`load`) and back (`save`)."""

    load: Callable[[np.ndarray], np.ndarray]
    save: Callable[[np.ndarray], np.ndarray]

    def their_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the shape in MindSpore of an array that has the given shape in Flax."""
        return self.save(np.broadcast_to(np.float32(0), shape)).shape


def _mirror(w: np.ndarray) -> np.ndarray:
    return np.flip(w, axis=tuple(range(w.ndim - 2)))


PLAIN = Layout(load=lambda w: w, save=lambda w: w)
DENSE = Layout(load=np.transpose, save=np.transpose)
CONV = Layout(
    load=lambda w: np.moveaxis(w, (0, 1), (-1, -2)),
    save=lambda w: np.moveaxis(w, (-1, -2), (0, 1)),
)
CONV_1D = Layout(load=lambda w: CONV.load(w[:, :, 0]), save=lambda w: CONV.save(w)[:, :, None])
CONV_TRANSPOSE = Layout(
    load=lambda w: _mirror(np.moveaxis(w, (0, 1), (-2, -1))),
    save=lambda w: np.moveaxis(_mirror(w), (-2, -1), (0, 1)),
)
PRELU = Layout(load=lambda w: w.reshape(()), save=lambda w: w.reshape((1,)))


def dense_after_flatten(image: Image) -> Layout:
    """Returns the layout of a dense kernel after a flattened image (channels, height, width)."""
    c, h, w = image
    return Layout(
        load=lambda a: a.reshape(-1, c, h, w).transpose(2, 3, 1, 0).reshape(c * h * w, -1),
        save=lambda a: a.reshape(h, w, c, -1).transpose(3, 2, 0, 1).reshape(-1, c * h * w),
    )


def kernel(
    shape: tuple[int, ...], layer: str, image: Image | None = None, *, transposed: bool = False
) -> Layout:
    """Returns the layout of a kernel.

    Args:
        shape: the shape of the kernel in Flax's layout.
        layer: the name of the layer, for the error.
        image: (channels, height, width), if the layer is dense and follows a flattened image.
        transposed: the layer is a transposed convolution without transpose_kernel.

    Raises:
        ValueError: the image does not fit the kernel.
    """
    if image is not None:
        if len(shape) != 2 or math.prod(image) != shape[0]:
            raise ValueError(
                f"flattened[{layer!r}] is the image {tuple(image)}, which requires a dense layer "
                f"with {math.prod(image)} inputs; the kernel has the shape {shape}."
            )
        return dense_after_flatten(image)
    if transposed:
        return CONV_TRANSPOSE
    return {2: DENSE, 3: CONV_1D}.get(len(shape), CONV)


def name_and_layout(
    owner: object,
    attribute: str,
    shape: tuple[int, ...],
    layer: str,
    image: Image | None,
    parent: object,
) -> tuple[str, Layout]:
    """Returns MindSpore's name and layout of a module's parameter.

    Args:
        owner: the module that has the parameter as an attribute.
        attribute: the name of the attribute.
        shape: the shape of the parameter in Flax.
        layer: the path of the layer, for errors.
        image: see `kernel`.
        parent: the module that holds the owner. It determines the layout of a posterior.
    """
    if isinstance(owner, NormalPosterior):
        is_kernel = isinstance(parent, BayesianLayer) and owner is parent.weight_posterior
        return attribute, kernel(shape, layer, image) if is_kernel else PLAIN
    if isinstance(owner, nnx.ConvTranspose) and attribute == "kernel":
        return "weight", CONV if owner.transpose_kernel else CONV_TRANSPOSE
    if isinstance(owner, nnx.Linear | nnx.Conv) and attribute == "kernel":
        return "weight", kernel(shape, layer, image)
    if isinstance(owner, NORMALISATION_LAYERS):
        return NORMALISATION.get(attribute, attribute), PLAIN
    if isinstance(owner, nnx.Embed):
        return {"embedding": "embedding_table"}.get(attribute, attribute), PLAIN
    if isinstance(owner, nnx.PReLU):
        return {"negative_slope": "w"}.get(attribute, attribute), PRELU
    return attribute, PLAIN


def flatten_nchw(
    x: Num[Array, "batch height width channels"],
) -> Num[Array, "batch features"]:
    """Returns NHWC activations flattened in MindSpore's order: channel, height, width."""
    return jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)


def attribute_name(name: str) -> str:
    """Returns a checkpoint's name by attributes: `.mean` for `.bnn_weight_mean` of a posterior."""
    return re.sub(r"(_posterior\.)\w+_(mean|untransformed_std)$", r"\1\2", name)


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def numpy_of(value: object) -> np.ndarray:
    return np.asarray(value.asnumpy() if hasattr(value, "asnumpy") else value)


def contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(array.shape)
