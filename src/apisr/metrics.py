"""Numbers that say how good a picture is, in numpy and OpenCV alone.

Full reference (output against ground truth): :func:`psnr`, :func:`ssim`, :func:`ms_ssim`, :func:`edge_f1`,
:func:`line_change`. No reference: :func:`niqe`. Between frames: :func:`flicker`. Training and evaluation use the same
functions, so that a validation score and a published score are the same number.

Pictures are uint8 RGB ``(H, W, 3)``: what is scored is what a file would hold, after rounding to 8 bits. A score that
does not exist for a picture (PSNR of two identical pictures, NIQE of a picture smaller than a block) raises
:class:`Undefined` with the reason; nothing returns NaN or infinity, because either would end in somebody's mean.

    >>> import numpy as np
    >>> high = np.random.default_rng(0).integers(0, 200, (64, 64, 3), dtype=np.uint8)
    >>> round(psnr(high + 10, high), 2)
    28.13
    >>> ssim(high, high)
    1.0
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from apisr.core.errors import InputError

Rgb = NDArray[np.uint8]
Plane = NDArray[np.float64]

#: The border that our own tables cut, in pixels: at the edge, upscalers differ for reasons that nobody sees.
BORDER_PX = 8

_PEAK = 255.0
_C1 = (0.01 * _PEAK) ** 2
_C2 = (0.03 * _PEAK) ** 2
_SSIM_WINDOW_PX = 7
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_MS_SSIM_WINDOW_PX = 11
_NIQE_BLOCK_PX = 96
_EDGE_THRESHOLDS = (60, 160)
_LINE_REACH_PX = 6
_LINE_MIN_DEPTH = 24.0
_LINE_STEP_PX = 0.125
_MAX_LINE_POINTS = 20_000


class Undefined(InputError):  # noqa: N818 - not a mistake of the user's, a fact about the pictures
    """A score that does not exist for these pictures; the message is the reason, in words."""


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


def psnr(output: Rgb, reference: Rgb, *, border_px: int = 0, channel: Literal["rgb", "y"] = "rgb") -> float:
    """Peak signal-to-noise ratio in dB, higher is better.

    Args:
        output: uint8 RGB ``(H, W, 3)``.
        reference: the ground truth, same shape.
        border_px: pixels cut at each side before comparing.
        channel: ``"rgb"`` is the mean squared error over all three channels; ``"y"`` is that of luma by MATLAB's
            ``rgb2ycbcr`` (BT.601, 16 to 235, not rounded), as the super-resolution literature has it.

    Raises:
        InputError: the sizes differ, or nothing is left after the cut.
        Undefined: the pictures are identical.
    """
    output, reference = _prepared(output, reference, border_px)
    if channel == "y":
        difference = _studio_luma(output) - _studio_luma(reference)
    else:
        difference = output.astype(np.float64) - reference.astype(np.float64)
    error = float(np.mean(np.square(difference)))
    if error == 0:
        raise Undefined("the pictures are identical: PSNR is infinite")
    return 10 * math.log10(_PEAK**2 / error)


def ssim(output: Rgb, reference: Rgb, *, border_px: int = 0) -> float:
    """Structural similarity, 1 for identical pictures; the mean over the three channels.

    Wang et al. 2004 in the form that is scikit-image's default: uniform window of 7x7, sample covariance (divided by
    48 instead of 49), data range 255, and 3 pixels at each side left out of the mean.

    Raises:
        InputError: the sizes differ, or less than 7x7 pixels are left after the cut.
    """
    output, reference = _prepared(output, reference, border_px, least_px=_SSIM_WINDOW_PX)
    return float(np.mean([_ssim_plane(output[..., index], reference[..., index]) for index in range(3)]))


def ms_ssim(output: Rgb, reference: Rgb, *, border_px: int = 0) -> float:
    """Multi-scale structural similarity of the luma, 1 for identical pictures.

    Wang, Simoncelli and Bovik 2003: five scales, Gaussian window of 11x11 with sigma 1.5, no padding. Luma is BT.601 of
    full range, rounded to 8 bits; a scale halves by averaging 2x2 (odd sides get a row or column of zeros at both
    ends, as pyiqa does); negative contrast terms count as 0.

    Raises:
        InputError: the sizes differ, or a side is shorter than 176 pixels (the window would not fit the fifth scale).
    """
    output, reference = _prepared(output, reference, border_px, least_px=_MS_SSIM_WINDOW_PX * 16)
    first, second = luma(output), luma(reference)
    product = 1.0
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        structure, similarity = _gaussian_similarity(first, second)
        last = scale == len(_MS_SSIM_WEIGHTS) - 1
        product *= (similarity if last else structure) ** weight
        if not last:
            first, second = _halved_by_mean(first), _halved_by_mean(second)
    return product


def niqe(picture: Rgb, *, border_px: int = 0) -> float:
    """Naturalness image quality evaluator (Mittal, Soundararajan, Bovik 2013): a distance, lower is better.

    The details are those of pyiqa's ``niqe``, which the paper's tables were made with (its equality is tested to 1e-3
    relative): luma BT.601 of full range rounded to 8 bits, blocks of 96x96 in two scales, MATLAB's antialiased bicubic
    halving, edges repeated, and a 7x7 Gaussian rounded to single precision. The last matters for anime: in a perfectly
    flat block its sum, not quite 1, decides what the normalised values are. A flat block has no distribution to fit;
    its undefined features are left out of the mean, and the block out of the covariance.

    The pristine model (`niqe_parameters.npz`) is that of the authors' release, see the notice beside it.

    Raises:
        Undefined: fewer than two blocks, or nothing but flat blocks.
    """
    if border_px:
        picture = _cut(picture, border_px)
    plane = luma(picture)
    rows, columns = plane.shape[0] // _NIQE_BLOCK_PX, plane.shape[1] // _NIQE_BLOCK_PX
    if rows * columns < 2:
        raise Undefined(
            f"NIQE needs at least two blocks of 96x96 pixels; the picture is {plane.shape[1]}x{plane.shape[0]}"
        )
    plane = plane[: rows * _NIQE_BLOCK_PX, : columns * _NIQE_BLOCK_PX]
    fine = _block_features(plane, _NIQE_BLOCK_PX)
    coarse = _block_features(_halved_bicubic(plane), _NIQE_BLOCK_PX // 2)
    features = np.concatenate([fine, coarse], axis=1)
    whole = features[~np.isnan(features).any(axis=1)]
    counts = np.sum(~np.isnan(features), axis=0)
    if len(whole) < 2 or not counts.all():
        raise Undefined(f"NIQE needs at least two blocks that are not flat; the picture has {len(whole)}")
    mean = np.nansum(features, axis=0) / counts
    covariance = np.cov(whole, rowvar=False)
    pristine_mean, pristine_covariance = _niqe_parameters()
    pooled = (pristine_covariance + covariance) / 2
    inverse = np.linalg.pinv(pooled, rcond=len(mean) * np.finfo(np.float64).eps)
    difference = pristine_mean - mean
    return float(math.sqrt(difference @ inverse @ difference))


def edge_f1(output: Rgb, reference: Rgb, *, border_px: int = 0, tolerance_px: int = 1) -> EdgeScore:
    """Compare the edges (Canny, on luma) of an output with those of the ground truth.

    An edge pixel counts as found when the other picture has one within `tolerance_px` (Chebyshev distance).

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no edges.
    """
    output, reference = _prepared(output, reference, border_px)
    found, true = _edges(output), _edges(reference)
    if not true.any():
        raise Undefined("the ground truth has no edges")
    if not found.any():
        return EdgeScore(f1=0.0, precision=0.0, recall=0.0)
    window = np.ones((2 * tolerance_px + 1, 2 * tolerance_px + 1), np.uint8)
    precision = float(np.mean(cv2.dilate(true, window)[found > 0] > 0))
    recall = float(np.mean(cv2.dilate(found, window)[true > 0] > 0))
    f1 = 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)
    return EdgeScore(f1=f1, precision=precision, recall=recall)


def line_change(output: Rgb, reference: Rgb, *, border_px: int = 0) -> LineChange:
    """Measure, along the ground truth's dark lines, whether an output makes them thicker or thinner, or loses them.

    Points on lines are the ridges of the ground truth's luma (largest Hessian eigenvalue, at its maximum across the
    line) that are at least 24 levels darker than both sides. At each point, luma is sampled across the line, 6 pixels
    to both sides, in both pictures. The width is the full width at half depth, where depth is counted from the darker
    of the two sides, so that a line between two areas is measured by its own darkness.

    Raises:
        InputError: the sizes differ.
        Undefined: the ground truth has no dark lines thin enough to measure.
    """
    output, reference = _prepared(output, reference, border_px, least_px=4 * _LINE_REACH_PX)
    high, made = luma(reference).astype(np.float32), luma(output).astype(np.float32)
    rows, columns, across_y, across_x = _ridges(high)
    if len(rows) > _MAX_LINE_POINTS:  # evenly spaced in scan order: the same points for the same picture
        chosen = np.linspace(0, len(rows) - 1, _MAX_LINE_POINTS).astype(np.int64)
        rows, columns, across_y, across_x = rows[chosen], columns[chosen], across_y[chosen], across_x[chosen]
    width, depth = _profile_widths(high, rows, columns, across_y, across_x)
    measured = (depth >= _LINE_MIN_DEPTH) & ~np.isnan(width)
    if not measured.any():
        raise Undefined("the ground truth has no dark lines to measure")
    after, after_depth = _profile_widths(
        made, rows[measured], columns[measured], across_y[measured], across_x[measured]
    )
    width, depth = width[measured], depth[measured]
    lost = after_depth < depth / 4
    kept = ~lost & ~np.isnan(after)
    if not kept.any():
        raise Undefined("the output has none of the ground truth's lines left to measure")
    return LineChange(
        width_px=float(width.mean()),
        change_px=float((after[kept] - width[kept]).mean()),
        lost_share=float(lost.mean()),
        points=len(width),
    )


def flicker(frames: Iterable[Rgb], drawings: Iterable[int], *, border_px: int = 0) -> float:
    """Mean absolute luma change, in 8-bit levels, between neighbouring frames that show the same drawing; 0 is still.

    Args:
        frames: the output's frames in order, uint8 RGB, one shape; read once, two are held.
        drawings: the number of the drawing that each frame shows (equal numbers: the same drawing).
        border_px: pixels cut at each side.

    Raises:
        InputError: the counts or shapes differ.
        Undefined: no frame shows the same drawing as the one before it.
    """
    previous: Plane | None = None
    previous_drawing = 0
    total, pairs = 0.0, 0
    try:
        for frame, drawing in zip(frames, drawings, strict=True):
            plane = luma(_cut(frame, border_px) if border_px else frame)
            if previous is not None and drawing == previous_drawing:
                _check_shapes(plane.shape, previous.shape)
                total += float(np.mean(np.abs(plane - previous)))
                pairs += 1
            previous, previous_drawing = plane, drawing
    except ValueError as error:
        raise InputError("flicker needs one drawing number per frame; the counts differ.") from error
    if not pairs:
        raise Undefined("no frame shows the same drawing as the one before it")
    return total / pairs


def luma(picture: Rgb) -> Plane:
    """Luma of BT.601 in full range (0 to 255), rounded to whole levels, as float64 ``(H, W)``."""
    values = picture.astype(np.float32) / np.float32(_PEAK)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.rint((values @ weights) * np.float32(_PEAK)).astype(np.float64)


def _prepared(output: Rgb, reference: Rgb, border_px: int, *, least_px: int = 1) -> tuple[Rgb, Rgb]:
    for picture in (output, reference):
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise InputError(
                f"a score needs uint8 RGB pictures (H, W, 3), got {picture.dtype} {picture.shape}. Convert them first."
            )
    _check_shapes(output.shape, reference.shape)
    if border_px:
        output, reference = _cut(output, border_px), _cut(reference, border_px)
    if min(output.shape[:2]) < least_px:
        raise Undefined(
            f"at least {least_px}x{least_px} pixels are needed after the border is cut, "
            f"there are {output.shape[1]}x{output.shape[0]}"
        )
    return output, reference


def _check_shapes(output: tuple[int, ...], reference: tuple[int, ...]) -> None:
    if output[:2] != reference[:2]:
        raise InputError(
            f"the sizes differ: output {output[1]}x{output[0]}, reference {reference[1]}x{reference[0]}. "
            "Give outputs of exactly the reference's size."
        )


def _cut(picture: Rgb, border_px: int) -> Rgb:
    height, width = picture.shape[:2]
    if min(height, width) <= 2 * border_px:
        raise Undefined(f"nothing is left of {width}x{height} pixels after cutting {border_px} at each side")
    return picture[border_px : height - border_px, border_px : width - border_px]


def _studio_luma(picture: Rgb) -> Plane:
    return picture.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / _PEAK + 16


def _ssim_plane(output: Rgb, reference: Rgb) -> float:
    first, second = output.astype(np.float64), reference.astype(np.float64)
    window = (_SSIM_WINDOW_PX, _SSIM_WINDOW_PX)
    sample = _SSIM_WINDOW_PX**2 / (_SSIM_WINDOW_PX**2 - 1)
    mean_1, mean_2 = cv2.blur(first, window), cv2.blur(second, window)
    variance_1 = sample * (cv2.blur(first * first, window) - mean_1 * mean_1)
    variance_2 = sample * (cv2.blur(second * second, window) - mean_2 * mean_2)
    covariance = sample * (cv2.blur(first * second, window) - mean_1 * mean_2)
    numerator = (2 * mean_1 * mean_2 + _C1) * (2 * covariance + _C2)
    denominator = (mean_1 * mean_1 + mean_2 * mean_2 + _C1) * (variance_1 + variance_2 + _C2)
    edge = (_SSIM_WINDOW_PX - 1) // 2
    return float(np.mean((numerator / denominator)[edge:-edge, edge:-edge]))


def _gaussian_similarity(first: Plane, second: Plane) -> tuple[float, float]:
    """Mean contrast-structure term and mean similarity over the positions where the whole window fits."""
    kernel = cv2.getGaussianKernel(_MS_SSIM_WINDOW_PX, 1.5, cv2.CV_64F)
    edge = _MS_SSIM_WINDOW_PX // 2

    def smooth(plane: Plane) -> Plane:
        return cast("Plane", cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[edge:-edge, edge:-edge])

    mean_1, mean_2 = smooth(first), smooth(second)
    variance_1 = smooth(first * first) - mean_1 * mean_1
    variance_2 = smooth(second * second) - mean_2 * mean_2
    covariance = smooth(first * second) - mean_1 * mean_2
    structure = np.maximum((2 * covariance + _C2) / (variance_1 + variance_2 + _C2), 0)
    similarity = (2 * mean_1 * mean_2 + _C1) / (mean_1 * mean_1 + mean_2 * mean_2 + _C1) * structure
    return float(structure.mean()), float(similarity.mean())


def _halved_by_mean(plane: Plane) -> Plane:
    """Average 2x2 pixels; an odd side gets zeros at both ends first, and what then does not fill a pair is dropped."""
    odd_rows, odd_columns = plane.shape[0] % 2, plane.shape[1] % 2
    padded = np.pad(plane, ((odd_rows, odd_rows), (odd_columns, odd_columns)))
    rows, columns = padded.shape[0] // 2 * 2, padded.shape[1] // 2 * 2
    return padded[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


def _halved_bicubic(plane: Plane) -> Plane:
    """Halve as MATLAB's `imresize` does: cubic (a = -0.5) stretched to 8 taps, borders mirrored with the edge pixel."""
    distance = np.abs(np.arange(8) - 3.5) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = np.where(distance <= 1, near, far)
    taps /= taps.sum()
    for _ in range(2):  # columns, turned, then rows
        padded = np.pad(plane, ((3, 4), (0, 0)), mode="symmetric")
        count = plane.shape[0] // 2
        halved = np.zeros((count, plane.shape[1]))
        for index, tap in enumerate(taps):
            halved += tap * padded[index : index + 2 * count : 2]
        plane = halved.T
    return np.ascontiguousarray(plane)


@cache
def _niqe_parameters() -> tuple[Plane, Plane]:
    with resources.as_file(resources.files("apisr") / "niqe_parameters.npz") as path, np.load(path) as arrays:
        return arrays["mean"], arrays["covariance"]


def _block_features(plane: Plane, block_px: int) -> Plane:
    """The 18 features of each block (rows of the result); undefined ones are NaN. Equations 4 to 8 of the paper."""
    position = np.arange(7) - 3.0
    kernel = np.exp(-(position[:, None] ** 2 + position[None, :] ** 2) / (2 * (7 / 6) ** 2))
    kernel = (kernel / kernel.sum()).astype(np.float32).astype(np.float64)
    mean = cv2.filter2D(plane, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE)
    square = cv2.filter2D(plane * plane, cv2.CV_64F, kernel, borderType=cv2.BORDER_REPLICATE)
    deviation = np.sqrt(np.abs(square - mean * mean) + np.finfo(np.float64).eps)
    normalised = (plane - mean) / (deviation + 1)
    rows, columns = plane.shape[0] // block_px, plane.shape[1] // block_px
    blocks = normalised.reshape(rows, block_px, columns, block_px).swapaxes(1, 2).reshape(-1, block_px, block_px)
    shape, left, right, _ = _fit_asymmetric(blocks)
    features = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right, mean_factor = _fit_asymmetric(blocks * np.roll(blocks, shift, axis=(1, 2)))
        features += [shape, (right - left) * mean_factor, left, right]
    return np.stack(features, axis=1)


def _fit_asymmetric(blocks: Plane) -> tuple[Plane, Plane, Plane, Plane]:
    """Fit an asymmetric generalised Gaussian to each block by matching moments (Lasmar et al. 2009).

    Returns:
        shape, left scale, right scale, and the factor that turns their difference into the mean; one value a block. A
        block without values on one side has the smallest shape of the table and NaN scales, as in the authors' code.
    """
    shapes, ratios, scale_factors, mean_factors = _moment_table()
    flat = blocks.reshape(len(blocks), -1)
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(np.sum(np.square(np.minimum(flat, 0)), axis=1) / np.sum(flat < 0, axis=1))
        right = np.sqrt(np.sum(np.square(np.maximum(flat, 0)), axis=1) / np.sum(flat > 0, axis=1))
        skew = left / right
        ratio = np.square(np.mean(np.abs(flat), axis=1)) / np.mean(np.square(flat), axis=1)
        ratio = ratio * (skew**3 + 1) * (skew + 1) / np.square(skew**2 + 1)
    above = np.clip(np.searchsorted(ratios, ratio), 1, len(ratios) - 1)  # the table rises
    index = np.where(np.abs(ratios[above - 1] - ratio) <= np.abs(ratios[above] - ratio), above - 1, above)
    index = np.where(np.isnan(ratio), 0, index)
    return shapes[index], left * scale_factors[index], right * scale_factors[index], mean_factors[index]


@cache
def _moment_table() -> tuple[Plane, Plane, Plane, Plane]:
    shapes = np.arange(0.2, 10.001, 0.001)
    log_gamma = np.frompyfunc(math.lgamma, 1, 1)
    one, two, three = (np.asarray(log_gamma(order / shapes), np.float64) for order in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.sqrt(np.exp(one - three)), np.exp(two - one)


def _edges(picture: Rgb) -> NDArray[np.uint8]:
    plane = luma(picture).astype(np.uint8)
    return cast("NDArray[np.uint8]", cv2.Canny(plane, *_EDGE_THRESHOLDS, apertureSize=3, L2gradient=True))


def _ridges(plane: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64], Plane, Plane]:
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
    plane: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64], across_y: Plane, across_x: Plane
) -> tuple[Plane, Plane]:
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
