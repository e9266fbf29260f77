"""The height a drawing was made at, before somebody enlarged it.

Much anime is drawn at 720, 810 or 900 lines and delivered at 1080. Such a picture holds no more than its native lines:
shrinking it back loses nothing, gives training pictures their true sharpness (paper 3.1 takes 720 for all) and an
upscaler less to compute. Enlarging by bilinear, bicubic or Lanczos filters is linear, row by row: the columns of an
enlarged picture lie in the space spanned by the filter's taps, which has as many dimensions as the drawing had lines.
So for every candidate height the columns are projected on that space (least squares), and what is left over is compared
with the neighbouring heights: at the true height it falls in a sharp dip, at others it changes smoothly.

Runs of rows are projected, not the whole height: a few times less arithmetic, and the phase of the sampling grid, which
is fixed to the whole picture, differs from run to run, so that neighbouring heights are told apart.

    >>> import numpy as np
    >>> noise = np.random.default_rng(0).random((64, 160, 1), dtype=np.float32)
    >>> from apisr.image import from_float, resize
    >>> enlarged = from_float(resize(resize(noise, 360, 640), 540, 640, method="bilinear"), np.uint8)
    >>> estimate_native_height([enlarged])  # doctest: +SKIP
    NativeHeight(height=360, kernel='bilinear', confidence=1.0)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError

Kernel = Literal["bilinear", "bicubic", "lanczos"]
Plane = NDArray[np.float32]

#: Candidate heights lie between these shares of the picture's height.
MIN_SHARE, MAX_SHARE = 0.40, 0.90
#: Pictures lower than this are taken as they are.
MIN_HEIGHT = 480
#: Rows projected at once, and columns taken from each run of rows.
RUN_ROWS, RUN_COLUMNS = 160, 96

#: Filters that are tried: kernel name, half width in taps, and parameters (B and C of the cubic family).
_FILTERS: tuple[tuple[Kernel, int, float, float], ...] = (
    ("bilinear", 1, 0.0, 0.0),
    ("bicubic", 2, 0.0, 0.5),
    ("bicubic", 2, 1 / 3, 1 / 3),
    ("bicubic", 2, 0.0, 0.75),
    ("lanczos", 3, 0.0, 0.0),
)
_FIRST_FILTER = 1
#: Depth of the dip (difference of logarithms of energy) at which the confidence is 0 and 1.
_UNSURE_DEPTH, _SURE_DEPTH = 0.1, 0.5
#: A dip counts when it is this many times deeper than the curve is rough (median absolute deviation).
_MIN_PROMINENCE = 7.0
#: A codec that drops the highest frequencies of its 8x8 (or 4x4) blocks leaves a picture that looks enlarged from so
#: many eighths. Dips seen there in pictures that were never enlarged, up to CRF 28, are taken off; 7/8 is left out.
_BLOCK_DIPS = {4: 0.30, 5: 0.25, 6: 0.75, 7: math.inf}
#: Heights looked at around a candidate, in lines: its neighbours make the level that the dip is measured from.
_NEIGHBOURS = (3, 4, 6, 8, 11, 14)


@dataclass(frozen=True)
class NativeHeight:
    """Native height of a picture.

    Attributes:
        height: lines of the drawing; the picture's own where nothing speaks for another.
        kernel: filter by which it was enlarged, None where it was not or nothing is known.
        confidence: 0 (unsure: leave the picture as it is) to 1.
    """

    height: int
    kernel: Kernel | None
    confidence: float


def estimate_native_height(frames: Sequence[NDArray[np.uint8]]) -> NativeHeight:
    """Estimate at how many lines pictures of one video were drawn.

    Args:
        frames: one or more pictures of the same size, uint8, gray ``(H, W)`` or RGB ``(H, W, 3)``, as decoded:
            not cropped, not resized. Five detailed ones are plenty; soft or empty ones cannot speak.

    Returns:
        The height with its filter and confidence; the height of the pictures with confidence 0 when unsure.

    Raises:
        InputError: no pictures, or different sizes.
    """
    if not frames:
        raise InputError("the native height needs at least one picture, got none.", code="no-pictures")
    planes = [_plane(frame) for frame in frames]
    height = planes[0].shape[0]
    if any(plane.shape != planes[0].shape for plane in planes):
        raise InputError("the native height needs pictures of one size, got several.", code="sizes-differ")
    nothing = NativeHeight(height, None, 0.0)
    runs = _runs(planes)
    if height < MIN_HEIGHT or not runs:
        return nothing
    reach = max(_NEIGHBOURS)
    low = round(height * MIN_SHARE)
    high = min(round(height * MAX_SHARE), int(height * (1 - 10 / RUN_ROWS)) - reach)  # some freedom must be left over
    heights = np.arange(low - reach, high + reach + 1)
    coarse = np.array([_left_over(runs[:2], height, int(h), _FIRST_FILTER) for h in heights])
    dips = _dips(coarse)
    dips -= np.array([_block_dip(int(h), height) for h in heights])
    usual = dips[np.isfinite(dips)]
    roughness = float(np.median(np.abs(usual - np.median(usual)))) * 1.4826
    order = np.argsort(-dips, kind="stable")
    tried: list[int] = []
    for position in order:
        prominent = dips[position] >= _MIN_PROMINENCE * roughness
        if prominent and all(abs(int(heights[position]) - other) > 2 for other in tried):
            tried.append(int(heights[position]))
        if len(tried) == 5:
            break
    best: tuple[float, int, int] | None = None
    for centre in tried:
        for number in range(len(_FILTERS)):
            level = np.mean([_left_over(runs, height, centre + sign * step, number)
                             for step in _NEIGHBOURS[::2] for sign in (-1, 1)])  # fmt: skip
            for candidate in range(centre - 2, centre + 3):
                depth = float(level - _left_over(runs, height, candidate, number)) - _block_dip(candidate, height)
                if best is None or depth > best[0]:
                    best = (depth, candidate, number)
    if best is None:
        return nothing
    confidence = min(max((best[0] - _UNSURE_DEPTH) / (_SURE_DEPTH - _UNSURE_DEPTH), 0.0), 1.0)
    return NativeHeight(best[1], _FILTERS[best[2]][0], confidence) if confidence >= 0.5 else nothing


def _dips(curve: NDArray[np.float64]) -> NDArray[np.float64]:
    """Depth of every point of a curve below the median of its neighbours."""
    reach = max(_NEIGHBOURS)
    inner = np.arange(reach, len(curve) - reach)
    around = np.stack([curve[inner + sign * step] for step in _NEIGHBOURS for sign in (-1, 1)])
    result = np.full(len(curve), -np.inf)
    result[inner] = np.median(around, axis=0) - curve[inner]
    return result


def _block_dip(candidate: int, height: int) -> float:
    """What to take off the dip at a height because block codecs make one there."""
    for eighths, depth in _BLOCK_DIPS.items():
        if abs(candidate - height * eighths / 8) < 8:
            return depth
    return 0.0


def _plane(frame: NDArray[np.uint8]) -> Plane:
    if frame.ndim == 3 and frame.shape[2] == 3:
        return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.float32)
    if frame.ndim == 3 and frame.shape[2] == 1:
        frame = frame[..., 0]
    if frame.ndim != 2:
        raise InputError(
            f"the native height needs gray or RGB pictures, got an array of shape {frame.shape}.", code="bad-shape"
        )
    return frame.astype(np.float32)


@dataclass(frozen=True)
class _Run:
    first: int
    columns: Plane


def _runs(planes: Sequence[Plane]) -> list[_Run]:
    """Cut the most detailed columns out of a few runs of rows of every picture."""
    height, width = planes[0].shape
    if height < 2 * RUN_ROWS:
        return []
    pool: dict[int, list[tuple[float, Plane]]] = {}
    for plane in planes:
        for part in (0.12, 0.38, 0.62, 0.88):
            first = int((height - RUN_ROWS) * part)
            block = plane[first : first + RUN_ROWS]
            detail = np.abs(np.diff(block, 2, axis=0)).mean(axis=0)
            for column in range(0, width, 3):
                if detail[column] > 0.7:
                    pool.setdefault(first, []).append((float(detail[column]), block[:, column]))
    runs: list[_Run] = []
    for first, columns in pool.items():
        if len(columns) < 24:
            continue
        columns.sort(key=lambda item: -item[0])
        runs.append(_Run(first, np.stack([column for _, column in columns[:RUN_COLUMNS]], axis=1)))
    runs.sort(key=lambda run: -float(np.abs(np.diff(run.columns, 2, axis=0)).mean()))
    return runs


def _left_over(runs: Sequence[_Run], height: int, candidate: int, filter_number: int) -> float:
    """Log of the energy per degree of freedom that remains after the projection, mean over the runs."""
    total = 0.0
    nothing = np.zeros((0, 0), np.float32)
    for run in runs:
        taps = _taps(run.first, RUN_ROWS, height, candidate, filter_number)
        # OpenCV's small solvers: no pool of threads to wake for a matrix of 100 x 100.
        normal = cv2.mulTransposed(taps, aTa=True)
        normal[np.diag_indices_from(normal)] += np.float32(1e-4)
        right = cv2.gemm(taps, run.columns, 1.0, nothing, 0.0, flags=cv2.GEMM_1_T)
        solution = cv2.solve(normal, right, flags=cv2.DECOMP_CHOLESKY)[1]
        rest = cv2.gemm(taps, solution, -1.0, run.columns, 1.0)
        energy = cv2.norm(rest, cv2.NORM_L2SQR) / rest.shape[1] / (RUN_ROWS - taps.shape[1])
        total += math.log(energy + 1e-3)
    return total / len(runs)


def _taps(first: int, rows: int, height: int, candidate: int, filter_number: int) -> Plane:
    """Matrix ``(rows, taps)`` of the filter that enlarges `candidate` lines to `height`, rows from `first` on."""
    name, support, b, c = _FILTERS[filter_number]
    centres = (np.arange(first, first + rows, dtype=np.float32) + np.float32(0.5)) * np.float32(candidate / height)
    centres -= np.float32(0.5)
    nearest = np.floor(centres).astype(np.int64)
    offsets = np.arange(1 - support, support + 1)
    start = int(nearest[0]) + 1 - support
    x = np.abs(centres[:, None] - nearest[:, None] - offsets.astype(np.float32))
    if name == "bilinear":
        weights = 1 - x
    elif name == "lanczos":
        weights = np.sinc(x) * np.sinc(x / 3)
    else:
        near = ((12 - 9 * b - 6 * c) * x + (-18 + 12 * b + 6 * c)) * x * x + (6 - 2 * b)
        far = (((-b - 6 * c) * x + (6 * b + 30 * c)) * x - (12 * b + 48 * c)) * x + (8 * b + 24 * c)
        weights = np.where(x < 1, near, far) / 6
    weights = weights / weights.sum(axis=1, keepdims=True)
    taps = np.zeros((rows, int(nearest[-1]) + support - start + 1), np.float32)
    taps[np.arange(rows)[:, None], nearest[:, None] + offsets - start] = weights
    return taps
