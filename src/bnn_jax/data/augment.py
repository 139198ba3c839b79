"""Random changes of training images that keep their classes: shifts and mirror images.

They are pure functions of a key and a batch, for use inside a compiled training step.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Shaped

from bnn_jax.data.errors import DataError
from bnn_jax.noise import PRNGKey

Images = Shaped[Array, "batch height width channels"]


def pad_crop_flip(key: PRNGKey, images: Images, *, padding: int = 4, flip: bool = True) -> Images:
    """Shifts each image by up to `padding` pixels in each direction, and mirrors half of them.

    An image is padded with zeros on all sides and cropped at random to its size, then mirrored
    from left to right with probability 1/2: the augmentation of He et al. 2016, arXiv:1512.03385,
    section 4.2, for CIFAR-10. Pixels should be centred, so that 0 is the mean.

    Args:
        key: determines the shifts and the mirror images; each image has its own.
        images: of any dtype.
        padding: the largest shift, in pixels; 0 for none.
        flip: whether to mirror; not for digits or letters.

    Raises:
        DataError: padding is negative, or the images are no images.
    """
    if images.ndim != 4:
        raise DataError(
            f"images must be of shape (batch, height, width, channels), got {images.shape}."
        )
    if padding < 0:
        raise DataError(f"padding must be at least 0, got {padding}.")
    crop_key, flip_key = jax.random.split(key)
    if padding:
        images = _shifted(crop_key, images, padding)
    if flip:
        chosen = jax.random.bernoulli(flip_key, 0.5, (len(images), 1, 1, 1))
        images = jnp.where(chosen, images[:, :, ::-1], images)
    return images


def _shifted(key: PRNGKey, images: Images, padding: int) -> Images:
    edge = (padding, padding)
    padded = jnp.pad(images, ((0, 0), edge, edge, (0, 0)))
    corners = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1)

    def crop(image: Array, corner: Array) -> Array:
        return jax.lax.dynamic_slice(
            image, (corner[0], corner[1], jnp.zeros_like(corner[0])), images.shape[1:]
        )

    return jax.vmap(crop)(padded, corners)
