"""Resizing with the definitions that degradation models use.

``area``, ``bilinear`` and ``bicubic`` equal torch's ``interpolate(size=...)`` (``align_corners=False``, bicubic with
a = -0.75, area as adaptive average): without antialiasing, because that is what the paper's degradation was made with.
``bilinear-antialiased``, ``bicubic-antialiased`` and ``lanczos`` widen their kernel when shrinking (Pillow's
definition, bicubic with a = -0.5), ``box`` averages exact fractions of pixels.

    >>> import numpy as np
    >>> steps = np.array([[0, 0, 1, 1]], np.float32).repeat(4, 0)[..., None].repeat(3, 2)
    >>> resize(steps, 2, 2, mode="area")[0, :, 0].tolist()
    [0.0, 1.0]
"""

from __future__ import annotations

from typing import Literal, cast, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

import apisr.image as image
from apisr.core.errors import InputError
from apisr.image import ImageF32

Mode = Literal[
    "nearest", "area", "bilinear", "bicubic", "box", "bilinear-antialiased", "bicubic-antialiased", "lanczos"
]
MODES: tuple[str, ...] = get_args(Mode)


def resize(picture: ImageF32, height: int, width: int, *, mode: Mode) -> ImageF32:
    """Resize a picture to an exact size. Values are neither clipped nor rounded (bicubic and lanczos overshoot).

    Args:
        picture: ``(H, W, 3)`` float32.
        height: rows of the result.
        width: columns of the result.
        mode: see the module's text.

    Raises:
        InputError: unknown mode, or a size below 1.
    """
    if height < 1 or width < 1:
        raise InputError(
            f"cannot resize to {width}x{height}: both sides must be at least 1 pixel.", code="out-of-range"
        )
    if picture.shape[:2] == (height, width):
        return picture
    if mode == "area":
        return _averaged(picture, height, width)
    if mode in ("nearest", "bilinear", "bicubic", "box"):
        method = {
            "nearest": cv2.INTER_NEAREST_EXACT,
            "bilinear": cv2.INTER_LINEAR,
            "bicubic": cv2.INTER_CUBIC,
            "box": cv2.INTER_AREA,
        }[mode]
        return cast("ImageF32", cv2.resize(picture, (width, height), interpolation=method))
    if mode in ("bilinear-antialiased", "bicubic-antialiased", "lanczos"):
        return image.resize(picture, height, width, method=mode.partition("-")[0])  # type: ignore[arg-type]
    raise InputError(f"unknown resize mode '{mode}'. Use one of {', '.join(MODES)}.", code="out-of-range")


def _averaged(picture: ImageF32, height: int, width: int) -> ImageF32:
    """Adaptive average: output i is the plain mean of the inputs floor(i H / h) up to ceil((i + 1) H / h)."""
    rows = _averaged_rows(picture.reshape(picture.shape[0], -1), height).reshape(height, *picture.shape[1:])
    return _averaged_columns(rows, width)


def _windows(size: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the first input of each output, and how many there are (they differ by one at most)."""
    index: NDArray[np.int64] = np.arange(count, dtype=np.int64)
    start = index * size // count
    return start, -((-(index + 1) * size) // count) - start


def _averaged_columns(values: ImageF32, count: int) -> ImageF32:
    size = values.shape[1]
    if size == count:
        return values
    start, length = _windows(size, count)
    shortest, longest = int(length.min()), int(length.max())
    channels = values.shape[2]  # factors are repeated, because multiplying three values at a time is slow
    total = values.take(start, axis=1)
    for step in range(1, shortest):
        total += values.take(start + step, axis=1)
    for step in range(shortest, longest):
        extra = values.take(np.minimum(start + step, size - 1), axis=1)
        flat = extra.reshape(extra.shape[0], -1)
        flat *= (length > step).astype(np.float32).repeat(channels)
        total += extra
    flat = total.reshape(total.shape[0], -1)
    flat *= (1 / length).astype(np.float32).repeat(channels)
    return total


def _averaged_rows(values: ImageF32, count: int) -> ImageF32:
    size = values.shape[0]
    if size == count:
        return values
    start, length = _windows(size, count)
    total = np.empty((count, values.shape[1]), np.float32)
    for target, (first, number) in enumerate(zip(start.tolist(), length.tolist(), strict=True)):
        if number == 1:
            total[target] = values[first]
        elif number == 2:
            np.add(values[first], values[first + 1], out=total[target])
        else:
            cv2.reduce(values[first : first + number], 0, cv2.REDUCE_SUM, dst=total[target : target + 1])
    total *= (1 / length).astype(np.float32)[:, None]
    return total
