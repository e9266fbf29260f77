"""What restoring does to a drawing: edges softer or sharper, noise left in flat areas, rims beside the lines.

Each is measured where the ground truth says there is an edge or a flat area, so that a picture cannot gain by having
fewer of them.

    >>> import numpy as np
    >>> high = np.full((96, 96, 3), 210, np.uint8)
    >>> high[:, 40:56] = 30
    >>> edge_spread(high, high), flat_noise(high, high).luma, halo(high, high)
    (0.0, 0.0, 0.0)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.image.types import ImageU8
from apisr.metrics.metric import Definition, Undefined, Values, checked_pair, luma

#: How far across an edge luma is looked at, in pixels, and in which steps.
REACH_PX, STEP_PX = 6.0, 0.125
#: Least difference of luma of the two sides of an edge, in levels.
MIN_HEIGHT = 40.0
#: An edge that is less than this share as high in the output is lost, and has no width.
LOST_SHARE = 0.25
#: A place is flat when luma, Cb and Cr vary by less than this around it (standard deviation in 7x7, in levels).
FLAT_LEVELS = 1.5
#: Distance that flat areas keep from everything else, in pixels.
FLAT_MARGIN_PX = 6
#: Colour that changes slower than over so many pixels is shading or an offset, not noise.
SHADING_PX = 31
#: Least number of flat pixels.
MIN_FLAT_PX = 1024

#: A profile has turned when it has gone back by more than this, in levels.
TURN_LEVELS = 4.0

#: A binomial kernel (sigma 1), and by what the sum of its products with Sobel's is too large.
_SMOOTHING = np.array([1, 4, 6, 4, 1], np.float32)
_GRADIENT_SCALE = 256 * 8

_SIDE_PX = 4.0
_MAX_POINTS = 20_000
_AT_ONCE = 30_000

Plane = NDArray[np.float32]


@dataclass(frozen=True)
class FlatNoise:
    """Noise in the flat areas of the ground truth, as standard deviations in levels.

    Attributes:
        luma: of luma.
        chroma: of Cb and Cr together (root of the mean of the two variances).
        share: flat share of the picture.
    """

    luma: float
    chroma: float
    share: float


def edge_spread(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> float:
    """Return the mean change of the 10 to 90 % width of edges in pixels; positive is softer.

    The edges are those of the ground truth. Across each, luma is sampled 6 pixels to both sides; its two levels are the
    darkest and the lightest values between the edge and the place where the ground truth's profile turns back, so that
    a thin line has an edge on each side. A Gaussian of sigma s spreads a sharp step over 2.56 s.

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no edges to measure, or the output has none of them.
    """
    high, made, edges = _edges_of(output, reference, border_px)
    true, sides = _sampled(high, edges), _sides(_sampled(high, edges))
    before = _width(true, sides)
    after = _width(_sampled(made, edges), sides)
    height_before, height_after = _height(true, sides), _height(_sampled(made, edges), sides)
    kept = (height_after >= LOST_SHARE * height_before) & ~np.isnan(before) & ~np.isnan(after)
    if not kept.any():
        raise Undefined("the output has none of the ground truth's edges left to measure", code="edges-lost")
    return float((after[kept] - before[kept]).mean())


def halo(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> float:
    """Return how far an output goes beyond the ground truth beside its edges, as a share of the edge's height.

    Beside each edge of the ground truth, up to 4 pixels away, the lightest and the darkest luma of both pictures are
    compared: what the output is lighter than the lightest, or darker than the darkest, is overshoot. The result is the
    mean over both sides; a rim of a tenth of the edge's height on one side gives 0.05.

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no edges to measure.
    """
    high, made, edges = _edges_of(output, reference, border_px)
    side = round(_SIDE_PX / STEP_PX)
    middle = round(REACH_PX / STEP_PX)
    window = slice(middle - side, middle + side + 1)
    true, after = _sampled(high, edges, along=True)[:, window], _sampled(made, edges, along=True)[:, window]
    lighter = np.maximum(after.max(axis=1) - true.max(axis=1), 0)
    darker = np.maximum(true.min(axis=1) - after.min(axis=1), 0)
    height = np.maximum(true.max(axis=1) - true.min(axis=1), 1)
    return float(((lighter + darker) / (2 * height)).mean())


def flat_noise(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> FlatNoise:
    """Measure the noise that an output has where the ground truth is flat.

    Noise is what is left of the output when the smoothed ground truth and slow differences (over 31 pixels) are taken
    off: neither shading nor a change of brightness counts. Ground truth measured against itself gives its own noise.

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no flat areas.
    """
    output, reference = checked_pair(output, reference, border_px)
    true = cv2.cvtColor(reference, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    made = cv2.cvtColor(output, cv2.COLOR_RGB2YCrCb).astype(np.float32)
    flat = _flat(true)
    count = int(flat.sum())
    if count < MIN_FLAT_PX:
        raise Undefined(f"the ground truth has {count} flat pixels, {MIN_FLAT_PX} are needed", code="no-flat-area")
    rest = made - cv2.blur(true, (5, 5))
    weight = flat.astype(np.float32)
    size = (SHADING_PX, SHADING_PX)
    total = np.maximum(cv2.blur(weight, size), 1e-6)
    slow = cv2.blur(rest * weight[..., None], size) / total[..., None]
    variance = np.square((rest - slow)[flat].astype(np.float64)).mean(axis=0)
    return FlatNoise(
        luma=float(np.sqrt(variance[0])), chroma=float(np.sqrt(variance[1:].mean())), share=count / flat.size
    )


@dataclass(frozen=True)
class _Edges:
    """Points on edges, and the unit vector across each, towards the light side."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    across_y: Values
    across_x: Values


def _edges_of(output: ImageU8, reference: ImageU8, border_px: int) -> tuple[Plane, Plane, _Edges]:
    """Return the luma of truth and output, and the truth's edge points that are high enough to measure."""
    output, reference = checked_pair(output, reference, border_px, least_px=round(4 * REACH_PX))
    high, made = luma(reference).astype(np.float32), luma(output).astype(np.float32)
    edges = _find_edges(high)
    true = _sampled(high, edges)
    kept = _height(true, _sides(true)) >= MIN_HEIGHT
    if not kept.any():
        raise Undefined("the ground truth has no edges to measure", code="no-edges")
    chosen = np.flatnonzero(kept)
    if len(chosen) > _MAX_POINTS:  # evenly spaced in scan order: the same points for the same picture
        chosen = chosen[np.linspace(0, len(chosen) - 1, _MAX_POINTS).astype(np.int64)]
    edges = _Edges(edges.rows[chosen], edges.columns[chosen], edges.across_y[chosen], edges.across_x[chosen])
    return high, made, edges


def _find_edges(plane: Plane) -> _Edges:
    """Find the points whose gradient is the steepest across the edge.

    Luma is whole levels and the kernels are whole numbers: every sum is exact, whatever the order of its parts, so that
    the points are the same on every run.
    """
    smooth = cv2.sepFilter2D(plane, cv2.CV_32F, _SMOOTHING, _SMOOTHING)
    gradient_y = cv2.Sobel(smooth, cv2.CV_32F, 0, 1).astype(np.float64) / _GRADIENT_SCALE
    gradient_x = cv2.Sobel(smooth, cv2.CV_32F, 1, 0).astype(np.float64) / _GRADIENT_SCALE
    length = np.sqrt(np.square(gradient_x) + np.square(gradient_y))
    strength = length.astype(np.float32)
    safe = np.maximum(length, 1e-6)
    unit_y, unit_x = (gradient_y / safe).astype(np.float32), (gradient_x / safe).astype(np.float32)
    rows, columns = np.mgrid[0 : plane.shape[0], 0 : plane.shape[1]].astype(np.float32)
    ahead, behind = (
        cv2.remap(strength, columns + sign * unit_x, rows + sign * unit_y, cv2.INTER_LINEAR) for sign in (1, -1)
    )
    edge = (strength >= ahead) & (strength > behind) & (strength > MIN_HEIGHT / 16)
    reach = round(REACH_PX) + 1
    edge[:reach] = edge[-reach:] = False
    edge[:, :reach] = edge[:, -reach:] = False
    at = np.nonzero(edge)
    return _Edges(at[0], at[1], unit_y[at].astype(np.float64), unit_x[at].astype(np.float64))


def _sampled(plane: Plane, edges: _Edges, *, along: bool = False) -> Plane:
    """Return luma across each edge, from the dark to the light side; `along`: the mean of three places of the edge."""
    steps = round(REACH_PX / STEP_PX)
    offset = np.arange(-steps, steps + 1) * STEP_PX
    total = np.zeros((len(edges.rows), len(offset)), np.float32)
    places = (-1.0, 0.0, 1.0) if along else (0.0,)
    for start in range(0, len(edges.rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        for place in places:
            y = edges.rows[part, None] + edges.across_y[part, None] * offset + place * edges.across_x[part, None]
            x = edges.columns[part, None] + edges.across_x[part, None] * offset - place * edges.across_y[part, None]
            total[part] += cv2.remap(
                plane, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
    return total / np.float32(len(places))


def _sides(profile: Plane) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the two sides of each edge end: where the profile has turned back, or the end of the reach."""
    middle = profile.shape[1] // 2
    right, left = profile[:, middle:], profile[:, middle::-1]
    turned_right = np.maximum.accumulate(right, axis=1) - right > TURN_LEVELS
    turned_left = left - np.minimum.accumulate(left, axis=1) > TURN_LEVELS
    ends = [
        np.where(turned.any(axis=1), np.argmax(turned, axis=1) - 1, turned.shape[1] - 1)
        for turned in (turned_left, turned_right)
    ]
    return (middle - ends[0]).astype(np.int64), (middle + ends[1]).astype(np.int64)


def _levels(profile: Plane, sides: tuple[NDArray[np.int64], NDArray[np.int64]]) -> tuple[Values, Values]:
    """Return the darkest value of the dark side and the lightest of the light side, a pixel beyond the turns."""
    index = np.arange(profile.shape[1])[None, :]
    middle, beyond = profile.shape[1] // 2, round(1 / STEP_PX)
    dark = np.where((index >= sides[0][:, None] - beyond) & (index <= middle), profile, np.inf).min(axis=1)
    light = np.where((index <= sides[1][:, None] + beyond) & (index >= middle), profile, -np.inf).max(axis=1)
    return dark.astype(np.float64), light.astype(np.float64)


def _height(profile: Plane, sides: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Values:
    dark, light = _levels(profile, sides)
    return light - dark


def _width(profile: Plane, sides: tuple[NDArray[np.int64], NDArray[np.int64]]) -> Values:
    """Return the 10 to 90 % width of each edge in pixels, NaN where a level is not crossed."""
    dark, light = _levels(profile, sides)
    height = light - dark
    # The edge of an output may lie a little beside that of the truth: it is where half the height is crossed nearest.
    half = np.abs(profile - (dark + height / 2)[:, None])
    near = round(2 / STEP_PX)
    middle = profile.shape[1] // 2
    centre = middle - near + np.argmin(half[:, middle - near : middle + near + 1], axis=1)
    low = _crossing(profile[:, ::-1], profile.shape[1] - 1 - centre, -(dark + 0.1 * height), falling=True)
    high = _crossing(profile, centre, dark + 0.9 * height, falling=False)
    return (low + high) * STEP_PX


def _crossing(profile: Plane, centre: NDArray[np.int64], level: Values, *, falling: bool) -> Values:
    """Return how many steps after the centre a profile first reaches a level, to a part of a step."""
    values = -profile if falling else profile
    index = np.arange(values.shape[1])[None, :]
    reached = (index > centre[:, None]) & (values >= level[:, None])
    first = np.where(reached.any(axis=1), np.argmax(reached, axis=1), 1)
    count = np.arange(len(values))
    before, after = values[count, first - 1], values[count, first]
    part = np.clip((level - before) / np.maximum(after - before, 1e-6), 0, 1)
    steps = (first - 1 + part - centre).astype(np.float64)
    return np.where(reached.any(axis=1), np.maximum(steps, 0), np.nan)


def _flat(planes: NDArray[np.float32]) -> NDArray[np.bool_]:
    window = (7, 7)
    variance = cv2.blur(planes * planes, window) - np.square(cv2.blur(planes, window))
    flat = (variance < FLAT_LEVELS**2).all(axis=2)
    size = 2 * FLAT_MARGIN_PX + 1
    return np.asarray(cv2.erode(np.asarray(flat, np.uint8), np.ones((size, size), np.uint8)), np.uint8) > 0


METRICS = (
    Definition(
        name="edge_spread",
        title="Edge spread change",
        better="zero",
        unit="px",
        digits=3,
        source="mean change of the 10 to 90 % width of the ground truth's edges; positive is softer",
        compare=lambda output, reference, border: edge_spread(output, reference, border_px=border),
    ),
    Definition(
        name="noise_luma",
        title="Noise in flat areas, luma",
        better="lower",
        unit="levels",
        digits=3,
        source="standard deviation of luma where the ground truth is flat, shading and brightness taken off",
        compare=lambda output, reference, border: flat_noise(output, reference, border_px=border).luma,
    ),
    Definition(
        name="noise_chroma",
        title="Noise in flat areas, chroma",
        better="lower",
        unit="levels",
        digits=3,
        source="standard deviation of Cb and Cr where the ground truth is flat, shading and colour casts taken off",
        compare=lambda output, reference, border: flat_noise(output, reference, border_px=border).chroma,
    ),
    Definition(
        name="halo",
        title="Halo overshoot",
        better="lower",
        source="how far the output goes beyond the ground truth beside its edges, as a share of their height",
        compare=lambda output, reference, border: halo(output, reference, border_px=border),
    ),
)
