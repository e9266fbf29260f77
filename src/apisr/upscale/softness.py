"""How soft a source is at its own size, and the strength of a model that fits it.

Films and discs are often softer than their number of pixels; web videos and drawings are not. Of a pair of models each
is trained for one of these: the faithful one keeps a crisp source as it is, its crisp twin sharpens a soft one. The
sharpest edges of a picture tell which is needed. Even a crisp picture has blurred backgrounds, but a soft one has no
sharp edge at all.

    >>> import numpy as np
    >>> step = np.zeros((96, 96, 3), np.uint8)
    >>> step[:, 48:] = 200
    >>> strength_for(edge_width(np.concatenate([step, step.transpose(1, 0, 2)])))
    0.0
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image import ImageInt, open_picture

#: Widths, in pixels, of the sharpest edges up to which a source counts as crisp and from which it counts as soft.
#: On the validation scenes nine of ten pictures of the bicubic, web and disc rows lie below 1.7 (median 1.55),
#: all of the rows of old transfers above 1.85 (median 2.15).
CRISP_PX, SOFT_PX = 1.7, 1.9
#: The percentile of the widths that counts. A crisp picture may be blurred but for a few lines; a soft one has no sharp
#: line at all. The tenth took one crisp picture in eight for a soft one; the first hangs on the edges of blocks.
SHARPEST_PERCENT = 3
#: Strengths are rounded to this step, so that few mixtures of weights are made and kept.
STRENGTH_STEP = 0.25

_SPAN_PX = 5
_LEAST_CONTRAST = 40.0
_LEAST_EDGES = 50
_SMOOTHING_PX = 0.5
#: Side of the part of a large picture that is looked at.
_MIDDLE_PX = 1600

Plane = NDArray[np.float32]


def edge_width(picture: NDArray[np.uint8]) -> float | None:
    """Measure the sharpest edges of a picture: over how many pixels they rise.

    An edge is a place where luma changes by 40 levels or more over five pixels, in one direction, steepest in the
    middle. Its width is that change over the steepest step; the result is the third percentile.

    Args:
        picture: ``(H, W, 3)`` or ``(H, W)`` uint8.

    Returns:
        Pixels; None where the picture has fewer than 50 such edges.
    """
    gray = picture if picture.ndim == 2 else cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    luma = cv2.GaussianBlur(gray.astype(np.float32), (0, 0), _SMOOTHING_PX)
    widths = np.concatenate([_widths(cast("Plane", luma)), _widths(np.ascontiguousarray(luma.T, np.float32))])
    return float(np.percentile(widths, SHARPEST_PERCENT)) if len(widths) >= _LEAST_EDGES else None


def strength_for(width_px: float | None) -> float:
    """Return the strength for a width: 0 for crisp sources and where nothing is known, 1 for soft ones."""
    if width_px is None:
        return 0.0
    share = (width_px - CRISP_PX) / (SOFT_PX - CRISP_PX)
    return round(min(max(share, 0.0), 1.0) / STRENGTH_STEP) * STRENGTH_STEP


def median_width(pictures: Iterable[NDArray[np.uint8]]) -> float | None:
    """Return the median width of several pictures, None where none has edges."""
    widths = [width for width in map(edge_width, pictures) if width is not None]
    return float(np.median(widths)) if widths else None


def file_edge_width(path: Path, max_pixels: int | None = None) -> float | None:
    """Measure the first frame of a picture file."""
    with open_picture(path, max_pixels=max_pixels) as picture, contextlib.closing(picture.frames()) as frames:
        frame = next(frames, None)
        return None if frame is None else picture_edge_width(frame.pixels)


def picture_edge_width(pixels: ImageInt) -> float | None:
    """Measure the middle of a picture of any depth and number of channels."""
    top, left = (max(0, side - _MIDDLE_PX) // 2 for side in pixels.shape[:2])
    pixels = pixels[top : top + _MIDDLE_PX, left : left + _MIDDLE_PX]
    levels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    colours = levels[..., :3] if levels.shape[2] > 2 else levels[..., 0]
    return edge_width(np.ascontiguousarray(colours, np.uint8))


def _widths(luma: Plane) -> Plane:
    """The widths of the edges along the rows of a plane."""
    columns = luma.shape[1] - _SPAN_PX
    if columns < 3:
        return np.zeros(0, np.float32)
    steps = [luma[:, first + 1 : first + 1 + columns] - luma[:, first : first + columns] for first in range(_SPAN_PX)]
    change = luma[:, _SPAN_PX:] - luma[:, :-_SPAN_PX]
    one_way = np.all([step * np.sign(change) >= -1 for step in steps], axis=0)
    steepest = np.abs(steps[_SPAN_PX // 2])
    peak = np.zeros(steepest.shape, bool)
    peak[:, 1:-1] = (steepest[:, 1:-1] >= steepest[:, :-2]) & (steepest[:, 1:-1] > steepest[:, 2:])
    chosen = peak & one_way & (np.abs(change) > _LEAST_CONTRAST)
    return cast("Plane", np.abs(change)[chosen] / np.maximum(steepest[chosen], 1))
