"""Short sequences that end on a picture, for video codecs that predict from other frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import cv2
import numpy as np

from apisr.image import ImageU8


def pan(picture: ImageU8, frames: int, right: int, down: int) -> list[ImageU8]:
    """Make a pan of so many frames, moved by so many pixels from one to the next, that ends on `picture`."""
    reach_x, reach_y = abs(right) * (frames - 1), abs(down) * (frames - 1)
    wide = cast("ImageU8", cv2.copyMakeBorder(picture, reach_y, reach_y, reach_x, reach_x, cv2.BORDER_REFLECT_101))
    height, width = picture.shape[:2]
    sequence: list[ImageU8] = []
    for back in range(frames - 1, -1, -1):
        top, left = reach_y + down * back, reach_x + right * back
        sequence.append(wide[top : top + height, left : left + width])
    return sequence


def grained(sequence: Sequence[ImageU8], *, sigma: float, seed: int) -> list[ImageU8]:
    """Add gray noise that differs from frame to frame: what is seen of a film's grain behind a codec."""
    generator = np.random.Generator(np.random.SFC64(seed))
    noisy: list[ImageU8] = []
    for picture in sequence:
        noise = generator.standard_normal((*picture.shape[:2], 1), dtype=np.float32) * np.float32(sigma)
        noisy.append((np.clip(picture + noise, 0, 255) + np.float32(0.5)).astype(np.uint8))
    return noisy
