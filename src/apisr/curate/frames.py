"""What is wrong with a frame: black, flat, barred, combed, in a fade, written on.

Pure functions from arrays to numbers; the thresholds sit beside them with their units, the verdicts are given by
:func:`picture_flags`. Frames that are useless (black, white, flat, in a fade) are left out; frames that may be fine
(combs, writing) are only flagged, a person decides.

    >>> import numpy as np
    >>> picture_flags(np.zeros((90, 160, 3), np.uint8))
    ('black',)
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image.types import ImageU8

#: Every flag that curation can set, in the order of the review page.
Flag = Literal[
    "nudity", "live_action", "credits", "subtitle", "combed", "bars", "fade", "black", "white", "flat", "duplicate"
]

#: A frame is black (white) when 99 % of its luma is below (above) this value of 255.
BLACK_LUMA, WHITE_LUMA = 32, 230
#: A frame is flat when 98 % of its luma lies within this many values of 255.
FLAT_RANGE = 12
#: A row or column belongs to a bar when no pixel of it, in any frame, is brighter than this (of 255).
BAR_LUMA = 34
#: Bars that take less than this share of the picture are taken as an edge of the picture and left.
BAR_MIN_SHARE = 0.004
#: Share of 16x16 blocks with combs above which a frame is flagged.
COMBED_SHARE = 0.02
#: Combs: how much a line must stand out from both neighbours, in values of 255.
COMB_LUMA = 12.0


@dataclass(frozen=True)
class Crop:
    """Picture area inside the bars: rows ``top:bottom``, columns ``left:right``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.bottom - self.top, self.right - self.left

    def cut(self, pixels: Any) -> Any:
        """Return the part of an array ``(H, W, ...)`` inside the bars."""
        return pixels[self.top : self.bottom, self.left : self.right]


class BarFinder:
    """Finds letterbox and pillarbox bars: what is dark in every frame of a video.

    Feed it the full-size luma of all frames; black frames change nothing.
    """

    def __init__(self) -> None:
        self._rows: ImageU8 | None = None
        self._columns: ImageU8 | None = None

    def add(self, luma: ImageU8) -> None:
        """Take note of one frame's luma ``(H, W)``, 0 to 255."""
        rows = np.asarray(cv2.reduce(luma, 1, cv2.REDUCE_MAX), np.uint8).ravel()
        columns = np.asarray(cv2.reduce(luma, 0, cv2.REDUCE_MAX), np.uint8).ravel()
        if self._rows is None or self._columns is None:
            self._rows, self._columns = rows, columns
        else:
            self._rows, self._columns = np.maximum(self._rows, rows), np.maximum(self._columns, columns)

    def crop(self) -> Crop | None:
        """Return the picture area, or None when no frame was given."""
        if self._rows is None or self._columns is None:
            return None
        top, bottom = _bounds(self._rows)
        left, right = _bounds(self._columns)
        return Crop(top, bottom, left, right)


def bars(luma: ImageU8) -> Crop:
    """Return the picture area of one frame's luma ``(H, W)``."""
    finder = BarFinder()
    finder.add(luma)
    crop = finder.crop()
    return crop or Crop(0, luma.shape[0], 0, luma.shape[1])


def _bounds(brightest: ImageU8) -> tuple[int, int]:
    size = len(brightest)
    lit = np.flatnonzero(brightest > BAR_LUMA)
    if lit.size == 0:
        return 0, size
    first, last = int(lit[0]), int(lit[-1]) + 1
    if last - first < size // 2:  # a title on black, a spotlight: no bars
        return 0, size
    least = max(2, BAR_MIN_SHARE * size)
    return (first if first >= least else 0), (last if size - last >= least else size)


def picture_flags(picture: ImageU8) -> tuple[Flag, ...]:
    """Return ``black``, ``white`` or ``flat`` for an RGB picture ``(H, W, 3)`` with nothing in it, else nothing."""
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    low, high, top = (float(value) for value in np.percentile(luma, (1, 99, 99.7)))
    if top < BLACK_LUMA:
        return ("black",)
    if low > WHITE_LUMA:
        return ("white",)
    if high - low < FLAT_RANGE:
        return ("flat",)
    return ()


def combed_share(luma: ImageU8) -> float:
    """Return the share of 16x16 blocks of a full-size luma ``(H, W)`` in which two fields of different times are woven.

    A pixel is combed when it and its neighbours two lines away agree against both adjacent lines,
    ``|a + 4c + e - 3(b + d)| > 6 T``; a block when 40 % of its pixels are (a thin drawn line combs only a row or two).
    """
    if luma.shape[0] < 32 or luma.shape[1] < 32:
        return 0.0
    kernel = np.array([[1], [-3], [4], [-3], [1]], np.float32)
    response = cv2.filter2D(luma, cv2.CV_32F, kernel)
    combed = (np.abs(response) > 6 * COMB_LUMA).astype(np.float32)
    blocks = cv2.resize(combed, (luma.shape[1] // 16, luma.shape[0] // 16), interpolation=cv2.INTER_AREA)
    return float(np.mean(blocks > 0.4))


def in_fade(frames: Sequence[ImageU8]) -> bool:
    """Tell whether the first of consecutive small gray frames ``(H, W)`` lies in a fade or cross-fade.

    In a fade every frame is a mix ``(1 - a) A + a B`` with growing `a`: the differences between frames are the same
    picture again and again, everywhere at once. A pan or zoom also repeats its differences, but they are explained
    by the gradient of the picture (brightness constancy), which a mix is not.

    Args:
        frames: at least 4 frames, the first is the one in question; about 64 pixels wide is enough.
    """
    if len(frames) < 4:
        return False
    values = [cv2.GaussianBlur(frame, (0, 0), 1.0).astype(np.float32) for frame in frames]
    steps = [after - before for before, after in itertools.pairwise(values)]
    sizes = [float(np.sqrt(np.mean(step * step))) for step in steps]
    total = values[-1] - values[0]
    if min(sizes) < 0.35 or float(np.sqrt(np.mean(total * total))) < 2.5:
        return False
    alike = [
        float(np.mean(one * other)) / (size * next_size)
        for one, other, size, next_size in zip(steps, steps[1:], sizes, sizes[1:], strict=False)
    ]
    if min(alike) < 0.7 or max(sizes) > 3 * min(sizes):
        return False
    spread = float(np.mean(np.abs(total) > 0.25 * float(np.abs(total).mean())))
    return spread > 0.4 and _moved_share(values[len(values) // 2], total) < 0.4


def _moved_share(picture: NDArray[np.float32], change: NDArray[np.float32]) -> float:
    """Share of a change that a shift and zoom of the whole picture explain (least squares on its gradient)."""
    gradient_x = cv2.Sobel(picture, cv2.CV_32F, 1, 0, scale=0.125)
    gradient_y = cv2.Sobel(picture, cv2.CV_32F, 0, 1, scale=0.125)
    height, width = picture.shape
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j].astype(np.float32)
    terms = np.stack([gradient_x, gradient_y, gradient_x * x + gradient_y * y], -1).reshape(-1, 3)
    target = change.reshape(-1)
    solution = np.linalg.lstsq(terms, target, rcond=None)[0]
    rest = target - terms @ solution
    return 1.0 - float(rest @ rest) / max(float(target @ target), 1e-9)


@dataclass(frozen=True)
class Writing:
    """Lines of writing found in a picture: number of text lines, and of those in the bottom third."""

    lines: int
    bottom_lines: int

    @property
    def flags(self) -> tuple[Flag, ...]:
        """``credits`` for three or more lines (or two outside the bottom), ``subtitle`` for fewer at the bottom."""
        if self.lines >= 3 or self.lines - self.bottom_lines >= 2:
            return ("credits",)
        return ("subtitle",) if self.bottom_lines else ()


def find_writing(picture: ImageU8) -> Writing:
    """Look for burnt-in subtitles and credits in an RGB picture ``(H, W, 3)``.

    Letters of one line are small bright (or dark) strokes of nearly the same height, side by side on a common base,
    with even gaps. Looked for on 480 lines; letters 10 to 36 lines high, at least seven side by side.
    """
    height, width = picture.shape[:2]
    scale = 480 / height
    small = cv2.resize(picture, (max(round(width * scale), 32), 480), interpolation=cv2.INTER_AREA)
    gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (13, 13))
    rows: list[float] = []
    for bright in (True, False):
        hat = cv2.morphologyEx(gray, cv2.MORPH_TOPHAT if bright else cv2.MORPH_BLACKHAT, kernel)
        strokes = (hat > 60) & ((gray > 170) if bright else (gray < 60))
        rows += _text_rows(strokes.astype(np.uint8))
    merged: list[float] = []
    for row in sorted(rows):
        if not merged or row - merged[-1] > 10:
            merged.append(row)
    return Writing(len(merged), sum(row > 320 for row in merged))


def _text_rows(mask: ImageU8) -> list[float]:
    """Return the vertical centres of rows of letter-like components of a mask."""
    _, _, boxes, centres = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found: list[tuple[float, float, float, float, float]] = []
    for (x, y, w, h, area), (_, centre) in zip(boxes[1:], centres[1:], strict=True):
        if 7 <= h <= 36 and 2 <= w <= 44 and area >= 0.12 * w * h and area >= 12:
            found.append((float(x), float(y), float(w), float(h), float(centre)))
    found.sort()
    rows: list[float] = []
    used = [False] * len(found)
    for start in range(len(found)):
        if used[start]:
            continue
        chain = [start]
        x, y, w, h, _ = found[start]
        bottom, right, tall = y + h, x + w, h
        for number in range(start + 1, len(found)):
            x, y, w, h, _ = found[number]
            if x - right > 1.8 * tall:
                break
            if abs(y + h - bottom) <= 0.25 * tall + 1 and 0.55 <= h / tall <= 1.8 and x >= right - 3:
                chain.append(number)
                right, bottom = x + w, 0.7 * bottom + 0.3 * (y + h)
                tall = max(tall, h)
        if len(chain) < 7:
            continue
        heights = np.array([found[number][3] for number in chain])
        widths = np.array([found[number][2] for number in chain])
        if heights.std() / heights.mean() < 0.3 and widths.std() / widths.mean() < 0.75:
            for number in chain:
                used[number] = True
            rows.append(float(np.mean([found[number][1] + found[number][3] / 2 for number in chain])))
    return rows
