"""Between frames: how much a held drawing flickers.

>>> import numpy as np
>>> one = np.full((20, 20, 3), 100, np.uint8)
>>> flicker([one, one + 4, one + 90, one + 90], [0, 0, 1, 1])
2.0
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from apisr.core.errors import InputError
from apisr.image.types import ImageU8
from apisr.metrics.metric import Undefined, check_sizes, cut_border, luma

#: Flicker is a property of a clip, not of a picture: reports have it for every clip whose held drawings are known.
FLICKER = "flicker"
FLICKER_TITLE = "Flicker of held drawings"
FLICKER_SOURCE = "mean absolute luma change, in 8-bit levels, between neighbouring frames that show one drawing"


def held_change(first: ImageU8, second: ImageU8, *, border_px: int = 0) -> float:
    """Return the mean absolute luma change, in 8-bit levels, between two frames that show one drawing.

    Raises:
        InputError: the sizes differ.
        Undefined: nothing is left after the cut.
    """
    check_sizes(second.shape, first.shape)
    planes = [luma(cut_border(frame, border_px) if border_px else frame) for frame in (first, second)]
    return float(np.mean(np.abs(planes[1] - planes[0])))


def flicker(frames: Iterable[ImageU8], drawings: Iterable[int], *, border_px: int = 0) -> float:
    """Return the mean of :func:`held_change` over all neighbours that show the same drawing; 0 is still.

    Args:
        frames: the output's frames in order, uint8 RGB, one shape; read once, two are held.
        drawings: the number of the drawing that each frame shows (equal numbers: the same drawing).
        border_px: pixels cut at each side.

    Raises:
        InputError: the counts or shapes differ.
        Undefined: no frame shows the same drawing as the one before it.
    """
    previous: tuple[ImageU8, int] | None = None
    changes: list[float] = []
    try:
        for frame, drawing in zip(frames, drawings, strict=True):
            if previous is not None and drawing == previous[1]:
                changes.append(held_change(previous[0], frame, border_px=border_px))
            previous = (frame, drawing)
    except ValueError as error:
        raise InputError(
            "flicker needs one drawing number per frame; the counts differ.", code="drawings-count"
        ) from error
    if not changes:
        raise Undefined("no frame shows the same drawing as the one before it", code="no-held-drawing")
    return float(np.mean(changes))
