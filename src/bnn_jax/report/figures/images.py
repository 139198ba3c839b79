"""One image in axes: grey ones as ink on paper, which prints well; coloured ones as they are."""

from typing import Any

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes


def show(axes: Axes, image: UInt8[np.ndarray, "h w c"], **where: Any) -> None:
    """Draw an image of 1 or 3 channels; `where` goes to `Axes.imshow`."""
    grey = image.shape[-1] != 3
    axes.imshow(
        image[..., 0] if grey else image,
        cmap="gray_r" if grey else None,
        vmin=0,
        vmax=255,
        interpolation="nearest",
        **where,
    )
    axes.grid(False)
