"""NIQE: how natural a picture looks, without ground truth. It was made for photographs; read it with that in mind.

>>> import numpy as np
>>> noise = np.random.default_rng(0).integers(0, 256, (192, 192, 3), dtype=np.uint8)
>>> niqe(noise) > 10
True
"""

from __future__ import annotations

import math
from functools import cache
from importlib import resources

import cv2
import numpy as np

from apisr.image.types import ImageU8
from apisr.metrics.metric import Definition, Undefined, Values, cut_border, luma

_BLOCK_PX = 96


def niqe(picture: ImageU8, *, border_px: int = 0) -> float:
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
        picture = cut_border(picture, border_px)
    plane = luma(picture)
    rows, columns = plane.shape[0] // _BLOCK_PX, plane.shape[1] // _BLOCK_PX
    if rows * columns < 2:
        raise Undefined(
            f"NIQE needs at least two blocks of 96x96 pixels; the picture is {plane.shape[1]}x{plane.shape[0]}",
            code="picture-too-small",
        )
    plane = plane[: rows * _BLOCK_PX, : columns * _BLOCK_PX]
    fine = _block_features(plane, _BLOCK_PX)
    coarse = _block_features(_halved_bicubic(plane), _BLOCK_PX // 2)
    features = np.concatenate([fine, coarse], axis=1)
    whole = features[~np.isnan(features).any(axis=1)]
    counts = np.sum(~np.isnan(features), axis=0)
    if len(whole) < 2 or not counts.all():
        raise Undefined(
            f"NIQE needs at least two blocks that are not flat; the picture has {len(whole)}", code="all-flat"
        )
    mean = np.nansum(features, axis=0) / counts
    covariance = np.cov(whole, rowvar=False)
    pristine_mean, pristine_covariance = _pristine_model()
    pooled = (pristine_covariance + covariance) / 2
    inverse = np.linalg.pinv(pooled, rcond=len(mean) * np.finfo(np.float64).eps)
    difference = pristine_mean - mean
    return float(math.sqrt(difference @ inverse @ difference))


def _halved_bicubic(plane: Values) -> Values:
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
def _pristine_model() -> tuple[Values, Values]:
    with resources.as_file(resources.files("apisr.metrics") / "niqe_parameters.npz") as path, np.load(path) as arrays:
        return arrays["mean"], arrays["covariance"]


def _block_features(plane: Values, block_px: int) -> Values:
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


def _fit_asymmetric(blocks: Values) -> tuple[Values, Values, Values, Values]:
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
def _moment_table() -> tuple[Values, Values, Values, Values]:
    shapes = np.arange(0.2, 10.001, 0.001)
    log_gamma = np.frompyfunc(math.lgamma, 1, 1)
    one, two, three = (np.asarray(log_gamma(order / shapes), np.float64) for order in (1, 2, 3))
    return shapes, np.exp(2 * two - one - three), np.sqrt(np.exp(one - three)), np.exp(two - one)


METRICS = (
    Definition(
        name="niqe",
        title="NIQE",
        better="lower",
        digits=3,
        source="Mittal 2013 with the parameters of the authors' release, details as in pyiqa",
        assess=lambda output, border: niqe(output, border_px=border),
    ),
)
