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

from apisr import image
from apisr.errors import InputError
from apisr.image import Floats

Mode = Literal[
    "nearest", "area", "bilinear", "bicubic", "box", "bilinear-antialiased", "bicubic-antialiased", "lanczos"
]
MODES: tuple[str, ...] = get_args(Mode)


def resize(picture: Floats, height: int, width: int, *, mode: Mode) -> Floats:
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
        raise InputError(f"cannot resize to {width}x{height}: both sides must be at least 1 pixel.")
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
        return cast("Floats", cv2.resize(picture, (width, height), interpolation=method))
    if mode in ("bilinear-antialiased", "bicubic-antialiased", "lanczos"):
        return image.resize(picture, height, width, method=mode.partition("-")[0])  # type: ignore[arg-type]
    raise InputError(f"unknown resize mode '{mode}'. Use one of {', '.join(MODES)}.")


def _averaged(picture: Floats, height: int, width: int) -> Floats:
    """Adaptive average: output i is the plain mean of the inputs floor(i H / h) up to ceil((i + 1) H / h)."""
    columns = picture
    for count in (height, width):  # rows first; turned, columns are rows
        rows = _averaged_rows(columns.reshape(columns.shape[0], -1), count).reshape(count, columns.shape[1], -1)
        columns = cast("Floats", cv2.transpose(rows)).reshape(columns.shape[1], count, -1)
    return columns


def _averaged_rows(values: Floats, count: int) -> Floats:
    size = values.shape[0]
    if size == count:
        return values
    index: NDArray[np.int64] = np.arange(count, dtype=np.int64)
    start = index * size // count
    length = -((-(index + 1) * size) // count) - start
    total = values[start]
    for step in range(1, int(length.max())):
        longer = np.flatnonzero(length > step)
        if len(longer) == count:
            total += values[start + step]
        else:
            for target, source in zip(longer.tolist(), (start[longer] + step).tolist(), strict=True):
                total[target] += values[source]
    scale = (1 / length).astype(np.float32)
    total *= scale[:, None]
    return total
