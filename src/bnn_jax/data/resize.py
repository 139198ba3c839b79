"""Bilinear resizing of uint8 images with Pillow.

Enlarging is plain bilinear interpolation between pixel centres, rounded to uint8, as in MindSpore's
`vision.Resize`. When shrinking, Pillow widens the filter so that every pixel contributes; OpenCV's
bilinear filter skips pixels instead.
"""

import numpy as np
from jaxtyping import UInt8

from bnn_jax._extras import optional_import
from bnn_jax.data import memory
from bnn_jax.data.errors import DataError


def check_size(size: int | None) -> None:
    """Raises DataError unless size is None or a positive integer."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise DataError(f"image_size must be a positive integer or None, got {size!r}.")


def resize(
    images: UInt8[np.ndarray, "n h w c"], size: int | None
) -> UInt8[np.ndarray, "n h2 w2 c"]:
    """Resizes all images to size x size; returns the array itself if size is None or unchanged."""
    if size is None or images.shape[1:3] == (size, size):
        return images
    _check_memory(len(images), size, images.shape[3])
    out = np.empty((len(images), size, size, images.shape[3]), np.uint8)
    for source, target in zip(images, out, strict=True):
        target[...] = resize_one(source, size)
    return out


def resize_one(image: UInt8[np.ndarray, "h w c"], size: int | None) -> UInt8[np.ndarray, "h2 w2 c"]:
    """Resizes one image to size x size, each channel independently."""
    if size is None or image.shape[:2] == (size, size):
        return image
    _check_memory(1, size, image.shape[2])
    with optional_import("Resizing images"):
        from PIL import Image
    planes = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BILINEAR))
        for plane in np.ascontiguousarray(np.moveaxis(image, -1, 0))
    ]
    return np.stack(planes, axis=-1)


def _check_memory(count: int, size: int, channels: int) -> None:
    """Raises DataError if so many images of this size do not fit the memory."""
    shortage = memory.shortage(float(count) * size * size * channels)
    if shortage is not None:
        raise DataError(f"image_size={size} needs {shortage}, for {count} images: lower it.")
