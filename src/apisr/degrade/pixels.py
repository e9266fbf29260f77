"""Between the two forms of a picture while it is degraded: uint8 for codecs, float32 in [0, 1] for everything else."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np

from apisr.image import ImageF32, ImageU8


def to_bytes(picture: ImageU8 | ImageF32) -> ImageU8:
    """Round a float picture in [0, 1] to uint8, clipped; uint8 is returned as it is."""
    if picture.dtype == np.uint8:
        return cast("ImageU8", picture)
    return cast("ImageU8", cv2.addWeighted(picture, 255.0, picture, 0.0, 0.0, dtype=cv2.CV_8U))


def to_unit(picture: ImageU8 | ImageF32) -> ImageF32:
    """Convert uint8 to float32 in [0, 1]; float32 is returned as it is."""
    if picture.dtype == np.uint8:
        return cast("ImageF32", cv2.addWeighted(picture, 1 / 255, picture, 0.0, 0.0, dtype=cv2.CV_32F))
    return cast("ImageF32", picture)
