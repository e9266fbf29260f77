"""Shipped models on the validation pairs, against Lanczos

Means over the 24 scenes of ../shared/data/val: PSNR and SSIM of the RGB pictures, rounded to 8 bits, 8 pixels cut at
each side, against the ground truth; "dB gained" and "SSIM gained" are the means of the differences to Lanczos, picture
by picture. One row alone: `apisr evaluate ../shared/data/val/ROW --reference ../shared/data/val/gt
--model NAME --metrics psnr,ssim -o report`.

Run: python -m benchmarks validation
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apisr import metrics
from apisr.engines import open_engine
from apisr.image import read_rgb
from apisr.upscale import upscale_pixels
from apisr.upscale.baselines import ResampleEngine
from apisr.weights import choose_model, list_models
from benchmarks import Skip

VALIDATION = Path(__file__).resolve().parents[2] / "shared" / "data" / "val"
ROWS = ("clean_x2", "web_x2", "dvd_x2", "compressed_x2", "clean_x4", "compressed_x4")
BORDER_PX = 8


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Score every shipped model on every row of its scale."""
    if not VALIDATION.is_dir():
        raise Skip("the validation pairs (../shared/data/val) are not on this machine")
    rows: list[dict[str, object]] = []
    for row in ROWS:
        scale = int(row[-1])
        pictures = sorted((VALIDATION / row).glob("*.png"))[: 3 if quick else None]
        truths = [read_rgb(VALIDATION / "gt" / path.name) for path in pictures]
        lows = [read_rgb(path) for path in pictures]
        engines = {"lanczos": ResampleEngine(scale)}
        engines |= {
            model.name: open_engine(choose_model(model.name)) for model in list_models() if model.scale == scale
        }
        base = np.zeros((len(pictures), 2))
        for name, engine in engines.items():
            scores = np.array(
                [
                    (metrics.psnr(high, truth, border_px=BORDER_PX), metrics.ssim(high, truth, border_px=BORDER_PX))
                    for high, truth in (
                        (upscale_pixels(low, engine), truth) for low, truth in zip(lows, truths, strict=True)
                    )
                ]
            )
            if name == "lanczos":
                base = scores
            psnr, ssim = scores.mean(axis=0)
            gained = (scores - base).mean(axis=0)
            rows.append(
                {
                    "set": row,
                    "model": name,
                    "PSNR dB": f"{psnr:.2f}",
                    "SSIM": f"{ssim:.4f}",
                    "dB gained": f"{gained[0]:+.2f}",
                    "SSIM gained": f"{gained[1]:+.4f}",
                }
            )
    return rows
