"""Rotates an image."""

import numpy as np
from jaxtyping import Float, UInt8


def turned(
    image: UInt8[np.ndarray, "h w c"], degrees: Float[np.ndarray, " angles"]
) -> UInt8[np.ndarray, "angles h w c"]:
    """Returns the image rotated counterclockwise about its center, bilinear, black outside."""
    from PIL import Image

    planes = [Image.fromarray(plane) for plane in np.ascontiguousarray(np.moveaxis(image, -1, 0))]
    return np.stack(
        [
            np.stack(
                [np.asarray(p.rotate(float(d), Image.Resampling.BILINEAR)) for p in planes], axis=-1
            )
            for d in degrees
        ]
    )
