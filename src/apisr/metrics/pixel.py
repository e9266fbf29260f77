"""PSNR, SSIM and MS-SSIM: an output against its ground truth, pixel by pixel and window by window.

>>> import numpy as np
>>> high = np.random.default_rng(0).integers(0, 200, (64, 64, 3), dtype=np.uint8)
>>> round(psnr(high + 10, high), 2)
28.13
>>> ssim(high, high)
1.0
"""

from __future__ import annotations

import math
from typing import Literal, cast

import cv2
import numpy as np

from apisr.image.types import ImageU8
from apisr.metrics.metric import PEAK, Definition, Undefined, Values, checked_pair, luma

_C1 = (0.01 * PEAK) ** 2
_C2 = (0.03 * PEAK) ** 2
_SSIM_WINDOW_PX = 7
_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_MS_SSIM_WINDOW_PX = 11


def psnr(output: ImageU8, reference: ImageU8, *, border_px: int = 0, channel: Literal["rgb", "y"] = "rgb") -> float:
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
    output, reference = checked_pair(output, reference, border_px)
    if channel == "y":
        difference = _studio_luma(output) - _studio_luma(reference)
    else:
        difference = output.astype(np.float64) - reference.astype(np.float64)
    error = float(np.mean(np.square(difference)))
    if error == 0:
        raise Undefined("the pictures are identical: PSNR is infinite", code="pictures-identical")
    return 10 * math.log10(PEAK**2 / error)


def ssim(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> float:
    """Structural similarity, 1 for identical pictures; the mean over the three channels.

    Wang et al. 2004 in the form that is scikit-image's default: uniform window of 7x7, sample covariance (divided by
    48 instead of 49), data range 255, and 3 pixels at each side left out of the mean.

    Raises:
        InputError: the sizes differ, or less than 7x7 pixels are left after the cut.
    """
    output, reference = checked_pair(output, reference, border_px, least_px=_SSIM_WINDOW_PX)
    return float(np.mean([_ssim_plane(output[..., index], reference[..., index]) for index in range(3)]))


def ms_ssim(output: ImageU8, reference: ImageU8, *, border_px: int = 0) -> float:
    """Multi-scale structural similarity of the luma, 1 for identical pictures.

    Wang, Simoncelli and Bovik 2003: five scales, Gaussian window of 11x11 with sigma 1.5, no padding. Luma is BT.601 of
    full range, rounded to 8 bits; a scale halves by averaging 2x2 (odd sides get a row or column of zeros at both
    ends, as pyiqa does); negative contrast terms count as 0.

    Raises:
        InputError: the sizes differ, or a side is shorter than 176 pixels (the window would not fit the fifth scale).
    """
    output, reference = checked_pair(output, reference, border_px, least_px=_MS_SSIM_WINDOW_PX * 16)
    first, second = luma(output), luma(reference)
    product = 1.0
    for scale, weight in enumerate(_MS_SSIM_WEIGHTS):
        structure, similarity = _gaussian_similarity(first, second)
        last = scale == len(_MS_SSIM_WEIGHTS) - 1
        product *= (similarity if last else structure) ** weight
        if not last:
            first, second = _halved_by_mean(first), _halved_by_mean(second)
    return product


def _studio_luma(picture: ImageU8) -> Values:
    return picture.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / PEAK + 16


def _ssim_plane(output: ImageU8, reference: ImageU8) -> float:
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


def _gaussian_similarity(first: Values, second: Values) -> tuple[float, float]:
    """Mean contrast-structure term and mean similarity over the positions where the whole window fits."""
    kernel = cv2.getGaussianKernel(_MS_SSIM_WINDOW_PX, 1.5, cv2.CV_64F)
    edge = _MS_SSIM_WINDOW_PX // 2

    def smooth(plane: Values) -> Values:
        return cast("Values", cv2.sepFilter2D(plane, cv2.CV_64F, kernel, kernel)[edge:-edge, edge:-edge])

    mean_1, mean_2 = smooth(first), smooth(second)
    variance_1 = smooth(first * first) - mean_1 * mean_1
    variance_2 = smooth(second * second) - mean_2 * mean_2
    covariance = smooth(first * second) - mean_1 * mean_2
    structure = np.maximum((2 * covariance + _C2) / (variance_1 + variance_2 + _C2), 0)
    similarity = (2 * mean_1 * mean_2 + _C1) / (mean_1 * mean_1 + mean_2 * mean_2 + _C1) * structure
    return float(structure.mean()), float(similarity.mean())


def _halved_by_mean(plane: Values) -> Values:
    """Average 2x2 pixels; an odd side gets zeros at both ends first, and what then does not fill a pair is dropped."""
    odd_rows, odd_columns = plane.shape[0] % 2, plane.shape[1] % 2
    padded = np.pad(plane, ((odd_rows, odd_rows), (odd_columns, odd_columns)))
    rows, columns = padded.shape[0] // 2 * 2, padded.shape[1] // 2 * 2
    return padded[:rows, :columns].reshape(rows // 2, 2, columns // 2, 2).mean(axis=(1, 3))


METRICS = (
    Definition(
        name="psnr",
        title="PSNR",
        better="higher",
        unit="dB",
        digits=2,
        source="RGB, 8 bit, peak 255",
        compare=lambda output, reference, border: psnr(output, reference, border_px=border),
    ),
    Definition(
        name="psnr_y",
        title="PSNR of luma",
        better="higher",
        unit="dB",
        digits=2,
        source="luma of BT.601 from 16 to 235 (MATLAB rgb2ycbcr), peak 255",
        compare=lambda output, reference, border: psnr(output, reference, border_px=border, channel="y"),
    ),
    Definition(
        name="ssim",
        title="SSIM",
        better="higher",
        source="scikit-image's default (7x7 uniform window), mean of the channels, data range 255",
        compare=lambda output, reference, border: ssim(output, reference, border_px=border),
    ),
    Definition(
        name="ms_ssim",
        title="MS-SSIM",
        better="higher",
        source="Wang 2003, luma, five scales",
        compare=lambda output, reference, border: ms_ssim(output, reference, border_px=border),
    ),
)
