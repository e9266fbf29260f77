"""Turning pictures as a video says that they are to be shown, for outputs that cannot say it themselves."""

from __future__ import annotations

import numpy as np

from apisr.image.types import ImageInt


def is_right_angle(matrix: tuple[int, ...]) -> bool:
    """Whether a display matrix (libav's nine numbers) turns by quarters, or mirrors, and nothing else."""
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    return (a == d == 0 and b != 0 != c) or (b == c == 0 and a != 0 != d)


def turned(pixels: ImageInt, matrix: tuple[int, ...] | None) -> ImageInt:
    """Return a picture as it is to be shown; other turns than by quarters are left alone.

    >>> turned(np.array([[[1], [2]]], np.uint8), (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))[..., 0].tolist()
    [[1], [2]]
    """
    if matrix is None or not is_right_angle(matrix):
        return pixels
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if b:  # a point goes to x = c * y, y = b * x
        return np.ascontiguousarray(pixels.transpose(1, 0, 2)[:: 1 if b > 0 else -1, :: 1 if c > 0 else -1])
    return np.ascontiguousarray(pixels[:: 1 if d > 0 else -1, :: 1 if a > 0 else -1])
