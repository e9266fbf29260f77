"""What became of the drawing: edges found and invented, dark lines thicker, thinner or lost.

>>> import numpy as np
>>> high = np.full((80, 80, 3), 220, np.uint8)
>>> high[:, 39:42] = 20
>>> edge_f1(high, high).f1, line_change(high, high).change_px
(1.0, 0.0)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image.types import ImageU8
from apisr.metrics.metric import Definition, Undefined, Values, checked_pair, luma

_EDGE_THRESHOLDS = (60, 160)
_LINE_REACH_PX = 6
_LINE_MIN_DEPTH = 24.0
_LINE_STEP_PX = 0.125
_MAX_LINE_POINTS = 20_000


@dataclass(frozen=True)
class EdgeScore:
    """How well the edges of an output agree with those of the ground truth, each in [0, 1].

    Attributes:
        f1: harmonic mean of the two others.
        precision: share of the output's edge pixels that lie on a true edge (low: invented edges, ringing).
        recall: share of the true edge pixels that the output has (low: lost lines).
    """

    f1: float
    precision: float
    recall: float


@dataclass(frozen=True)
class LineChange:
    """What became of the drawn lines.

    Attributes:
        width_px: mean full width at half depth of the ground truth's lines.
        change_px: mean change of that width in the output; positive is thicker.
        lost_share: share of the line points, in [0, 1], that are no dark line any more (less than a quarter as deep).
        points: how many points on lines were measured.
    """

    width_px: float
    change_px: float
    lost_share: float
    points: int


def edge_f1(output: ImageU8, reference: ImageU8, *, border_px: int = 0, tolerance_px: int = 1) -> EdgeScore:
    """Compare the edges (Canny, on luma) of an output with those of the ground truth.

    An edge pixel counts as found when the other picture has one within `tolerance_px` (Chebyshev distance).

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no edges.
    """
    output, reference = checked_pair(output, reference, border_px)
    found, true = _edges(output), _edges(reference)
    if not true.any():
        raise Undefined("the ground truth has no edges", code="no-edges")
    if not found.any():
        return EdgeScore(f1=0.0, precision=0.0, recall=0.0)
    window = np.ones((2 * tolerance_px + 1, 2 * tolerance_px + 1), np.uint8)
    precision = float(np.mean(cv2.dilate(true, window)[found > 0] > 0))
    recall = float(np.mean(cv2.dilate(found, window)[true > 0] > 0))
    f1 = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return EdgeScore(f1=f1, precision=precision, recall=recall)


def line_change(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> LineChange:
    """Measure, along the ground truth's dark lines, whether an output makes them thicker or thinner, or loses them.

    Points on lines are the ridges of the ground truth's luma (largest Hessian eigenvalue, at its maximum across the
    line) that are at least 24 levels darker than both sides. At each point, luma is sampled across the line, 6 pixels
    to both sides, in both pictures. The width is the full width at half depth, where depth is counted from the darker
    of the two sides, so that a line between two areas is measured by its own darkness.

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no dark lines thin enough to measure.
    """
    output, reference = checked_pair(output, reference, border_px, least_px=4 * _LINE_REACH_PX)
    high, made = luma(reference).astype(np.float32), luma(output).astype(np.float32)
    rows, columns, across_y, across_x = _ridges(high)
    if len(rows) > _MAX_LINE_POINTS:  # evenly spaced in scan order: the same points for the same picture
        chosen = np.linspace(0, len(rows) - 1, _MAX_LINE_POINTS).astype(np.int64)
        rows, columns, across_y, across_x = rows[chosen], columns[chosen], across_y[chosen], across_x[chosen]
    width, depth = _profile_widths(high, rows, columns, across_y, across_x)
    measured = (depth >= _LINE_MIN_DEPTH) & ~np.isnan(width)
    if not measured.any():
        raise Undefined("the ground truth has no dark lines to measure", code="no-lines")
    after, after_depth = _profile_widths(
        made, rows[measured], columns[measured], across_y[measured], across_x[measured]
    )
    width, depth = width[measured], depth[measured]
    lost = after_depth < depth / 4
    kept = ~lost & ~np.isnan(after)
    if not kept.any():
        raise Undefined("the output has none of the ground truth's lines left to measure", code="lines-lost")
    return LineChange(
        width_px=float(width.mean()),
        change_px=float((after[kept] - width[kept]).mean()),
        lost_share=float(lost.mean()),
        points=len(width),
    )


def _edges(picture: ImageU8) -> NDArray[np.uint8]:
    plane = luma(picture).astype(np.uint8)
    return cast("NDArray[np.uint8]", cv2.Canny(plane, *_EDGE_THRESHOLDS, apertureSize=3, L2gradient=True))


def _ridges(plane: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], Values, Values]:
    """Points on dark ridges, and the unit vector across the ridge at each (row, column, row part, column part)."""
    smooth = cv2.GaussianBlur(plane, (0, 0), 1.0)
    rr, cc, rc = (cv2.Sobel(smooth, cv2.CV_32F, dx, dy, ksize=3, scale=1 / 4) for dx, dy in ((0, 2), (2, 0), (1, 1)))
    half, spread = (rr + cc) / 2, np.sqrt(np.square((rr - cc) / 2) + np.square(rc))
    strength = np.asarray(half + spread, np.float32)  # the larger eigenvalue: curvature across a dark line is positive
    angle = 0.5 * np.arctan2(2 * rc, rr - cc)  # of that eigenvector, from the row axis
    across_y, across_x = np.cos(angle), np.sin(angle)
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    ahead, behind = (_shifted(strength, rows + sign * across_y, columns + sign * across_x) for sign in (1, -1))
    ridge = (strength > ahead) & (strength >= behind) & (strength > 4)
    reach = _LINE_REACH_PX + 1
    ridge[:reach] = ridge[-reach:] = False
    ridge[:, :reach] = ridge[:, -reach:] = False
    at = np.nonzero(ridge)
    return at[0], at[1], across_y[at].astype(np.float64), across_x[at].astype(np.float64)


def _shifted(
    plane: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    remapped = cv2.remap(plane, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return cast("NDArray[np.float32]", remapped)


def _profile_widths(
    plane: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], across_y: Values, across_x: Values
) -> tuple[Values, Values]:
    """Full width at half depth (pixels, NaN where the line does not end within reach) and depth (levels) at points."""
    steps = round(_LINE_REACH_PX / _LINE_STEP_PX)
    offset = np.arange(-steps, steps + 1) * _LINE_STEP_PX
    map_x = (columns[:, None] + across_x[:, None] * offset).astype(np.float32)
    map_y = (rows[:, None] + across_y[:, None] * offset).astype(np.float32)
    parts = [
        cv2.remap(plane, map_x[start : start + 30_000], map_y[start : start + 30_000], cv2.INTER_LINEAR)
        for start in range(0, len(rows), 30_000)
    ]
    profile = np.concatenate(parts) if parts else np.zeros((0, len(offset)), np.float32)
    # The darkest place near the point is the line's centre: outputs may have moved it a little.
    near = round(1.5 / _LINE_STEP_PX)
    centre = steps - near + np.argmin(profile[:, steps - near : steps + near + 1], axis=1)
    count = np.arange(len(profile))
    darkest = profile[count, centre]
    index = np.arange(len(offset))
    on_left = index[None, :] <= centre[:, None]
    low_side = np.where(on_left, profile, -1).max(axis=1)
    high_side = np.where(~on_left | (index[None, :] == centre[:, None]), profile, -1).max(axis=1)
    depth = np.minimum(low_side, high_side) - darkest
    above = profile > (darkest + depth / 2)[:, None]
    # Distance from the centre to the first sample above half depth, on either side.
    left_at = np.where(on_left & above, index[None, :], -1).max(axis=1)
    right_at = np.where(~on_left & above, index[None, :], len(offset)).min(axis=1)
    width = (right_at - left_at - 1) * _LINE_STEP_PX
    inside = (left_at >= 0) & (right_at < len(offset)) & (depth > 0)
    return np.where(inside, width, np.nan).astype(np.float64), np.where(depth > 0, depth, 0).astype(np.float64)


METRICS = (
    Definition(
        name="edge_f1",
        title="Edge F1",
        better="higher",
        source="Canny edges of luma, matched within 1 pixel",
        compare=lambda output, reference, border: edge_f1(output, reference, border_px=border).f1,
    ),
    Definition(
        name="line_width",
        title="Line width change",
        better="zero",
        unit="px",
        digits=3,
        source="mean change of the full width at half depth along the ground truth's dark lines; positive is thicker",
        compare=lambda output, reference, border: line_change(output, reference, border_px=border).change_px,
    ),
    Definition(
        name="line_lost",
        title="Lines lost",
        better="lower",
        source="share of the ground truth's line points that are less than a quarter as deep",
        compare=lambda output, reference, border: line_change(output, reference, border_px=border).lost_share,
    ),
)
