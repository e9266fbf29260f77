"""Structural similarity of crops as a loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from apisr.core.errors import InputError

_MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW_PX, _SIGMA = 11, 1.5
_FLAT_PX = 8
_LOG_SSIM_FLOOR = 0.01


def ssim_loss(output: Tensor, target: Tensor, *, kind: Literal["mean", "log"] = "mean") -> Tensor:
    """1 - structural similarity of square windows of 8 pixels at every second place, the mean over the channels.

    The form of Wang et al. (2004) with flat windows instead of Gaussian ones and sample statistics: cheap enough for
    every step on a processor. ``kind="log"`` takes the mean over the crops of ``log(1 + (1 - SSIM)/0.01)``: as with
    :func:`apisr.train.losses.pixel.log_mse`, crops that are nearly right count as much as hopeless ones.

    Args:
        output: ``(N, C, H, W)`` in [0, 1].
        target: likewise.
        kind: ``mean`` or ``log``.
    """
    output = output.float()
    pictures = (output, target, output * output, target * target, output * target)
    # 8x8 windows at every second place are 4x4 windows, as two lines, of 2x2 means: a sixth of the work.
    quarter = functional.avg_pool2d(torch.cat(pictures, 1), 2)
    lines = functional.avg_pool2d(quarter, (_FLAT_PX // 2, 1), stride=1)
    mean_1, mean_2, square_1, square_2, product = functional.avg_pool2d(lines, (1, _FLAT_PX // 2), stride=1).chunk(5, 1)
    variances = square_1 - mean_1.square() + square_2 - mean_2.square()
    covariance = product - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variances + c2)
    similarity = structure * (2 * mean_1 * mean_2 + c1) / (mean_1.square() + mean_2.square() + c1)
    loss = 1 - similarity.mean((1, 2, 3))
    return (torch.log1p(loss / _LOG_SSIM_FLOOR) if kind == "log" else loss).mean()


def ms_ssim_loss(output: Tensor, target: Tensor) -> Tensor:
    """1 - multi-scale structural similarity over the channels (Wang et al. 2003), for crops.

    Gaussian window of 11 pixels (sigma 1.5), no padding, sample statistics of each channel. Crops smaller than 176
    pixels use the scales that fit and the first weights of them, normalised to sum 1.

    Args:
        output: ``(N, C, H, W)`` in [0, 1].
        target: likewise.

    Raises:
        InputError: the crops are smaller than the window.
    """
    output = output.float()
    scales = 0
    while scales < len(_MS_SSIM_WEIGHTS) and min(output.shape[-2:]) // 2**scales >= _WINDOW_PX:
        scales += 1
    if scales == 0:
        raise InputError(
            f"MS-SSIM needs crops of at least {_WINDOW_PX} pixels, got {tuple(output.shape[-2:])}.",
            code="crop-too-small",
        )
    weights = torch.tensor(_MS_SSIM_WEIGHTS[:scales], device=output.device)
    weights = weights / weights.sum()
    window = _gaussian(output)
    product = torch.ones(output.shape[:2], device=output.device)
    for scale in range(scales):
        structure, similarity = _ssim_terms(output, target, window)
        value = similarity if scale == scales - 1 else structure
        product = product * value.clamp_min(1e-6) ** weights[scale]
        output, target = functional.avg_pool2d(output, 2), functional.avg_pool2d(target, 2)
    return 1 - product.mean()


def _gaussian(like: Tensor) -> Tensor:
    place = torch.arange(_WINDOW_PX, dtype=torch.float32, device=like.device) - _WINDOW_PX // 2
    line = torch.exp(-place.square() / (2 * _SIGMA**2))
    line = line / line.sum()
    return torch.outer(line, line).expand(like.shape[1], 1, _WINDOW_PX, _WINDOW_PX)


def _ssim_terms(first: Tensor, second: Tensor, window: Tensor) -> tuple[Tensor, Tensor]:
    """Contrast-structure and full similarity, the mean over space: (N, C) each."""
    channels = first.shape[1]

    def blur(values: Tensor) -> Tensor:
        return functional.conv2d(values, window, groups=channels)

    mean_1, mean_2 = blur(first), blur(second)
    variance_1 = blur(first * first) - mean_1.square()
    variance_2 = blur(second * second) - mean_2.square()
    covariance = blur(first * second) - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    structure = (2 * covariance + c2) / (variance_1 + variance_2 + c2)
    similarity = structure * (2 * mean_1 * mean_2 + c1) / (mean_1.square() + mean_2.square() + c1)
    return structure.mean((-2, -1)), similarity.mean((-2, -1))
