"""Draws one image: gray images in inverted gray, which prints well, and color images unchanged."""

from typing import Literal

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes


def show(
    axes: Axes,
    image: UInt8[np.ndarray, "h w c"],
    *,
    extent: tuple[float, float, float, float] | None = None,
    aspect: Literal["equal", "auto"] | None = None,
) -> None:
    """Draws an image of 1 or 3 channels; extent and aspect are those of `Axes.imshow`."""
    gray = image.shape[-1] != 3
    axes.imshow(
        image[..., 0] if gray else image,
        cmap="gray_r" if gray else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        extent=extent,
        aspect=aspect,
    )
    axes.grid(False)
