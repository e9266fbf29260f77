"""Numbers that say how good a picture is.

Training, curation and evaluation use the same functions: a validation score and a published score are the same number.

With ground truth: :func:`psnr`, :func:`ssim`, :func:`ms_ssim`, :func:`edge_f1`, :func:`line_change`,
:func:`edge_spread`, :func:`flat_noise`, :func:`halo`. Without: :func:`niqe`. Between frames: :func:`flicker`. By name,
and those that are networks: :mod:`apisr.metrics.registry`.

    >>> import numpy as np
    >>> high = np.random.default_rng(0).integers(0, 200, (64, 64, 3), dtype=np.uint8)
    >>> round(psnr(high + 10, high), 2)
    28.13
"""

from __future__ import annotations

from apisr.metrics.artifacts import FlatNoise, edge_spread, flat_noise, halo
from apisr.metrics.lines import EdgeScore, LineChange, edge_f1, line_change
from apisr.metrics.metric import BORDER_PX, Metric, Undefined, luma
from apisr.metrics.niqe import niqe
from apisr.metrics.pixel import ms_ssim, psnr, ssim
from apisr.metrics.temporal import flicker, held_change

__all__ = [
    "BORDER_PX",
    "EdgeScore",
    "FlatNoise",
    "LineChange",
    "Metric",
    "Undefined",
    "edge_f1",
    "edge_spread",
    "flat_noise",
    "flicker",
    "halo",
    "held_change",
    "line_change",
    "luma",
    "ms_ssim",
    "niqe",
    "psnr",
    "ssim",
]
