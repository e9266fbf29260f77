"""Shipped models and released peers on the validation pairs

Means over the first 8 scenes of ../shared/data/val against the ground truth: PSNR and SSIM of the RGB pictures (8 bits,
8 pixels cut at each side), ST-LPIPS (lower is better), and the share of the ground truth's dark lines that are lost.
Peers are those of ../shared/weights. "auto" takes, of a model with a twin for soft sources, the strength that the
measured softness of each picture asks for, as `apisr upscale` does. Networks run in float32.

Run: python -m benchmarks validation
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np

from apisr.core.errors import MissingExtra
from apisr.engines import open_engine
from apisr.engines.base import Engine
from apisr.image import read_rgb
from apisr.metrics.metric import Metric, Undefined
from apisr.metrics.registry import open_metric
from apisr.upscale import upscale_pixels
from apisr.upscale.baselines import ResampleEngine
from apisr.upscale.models import SOFT_TWIN
from apisr.upscale.softness import edge_width, strength_for
from apisr.weights import choose_model, list_models, resolve_model
from benchmarks import Skip

SHARED = Path(__file__).resolve().parents[2] / "shared"
VALIDATION = SHARED / "data" / "val"
ROWS = (
    *("clean_x2", "web_x2", "dvd_x2", "compressed_x2", "old_x2"),
    *("clean_x4", "compressed_x4", "old_x4"),
)
PEERS = {2: ("realcugan-se-x2-conservative",), 4: ("realesr-animevideov3-x4", "realesrgan-x4plus-anime")}
METRICS = {"psnr": "PSNR dB", "ssim": "SSIM", "st-lpips": "ST-LPIPS", "line_lost": "lines lost"}
BORDER_PX, SCENES, QUICK_SCENES = 8, 8, 2


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Score every shipped model and peer on every row of its scale."""
    if not VALIDATION.is_dir():
        raise Skip("the validation pairs (../shared/data/val) are not on this machine")
    opened = _metrics()
    rows: list[dict[str, object]] = []
    for row in ROWS:
        scale = int(row[-1])
        pictures = sorted((VALIDATION / row).glob("*.png"))[: QUICK_SCENES if quick else SCENES]
        truths = [read_rgb(VALIDATION / "gt" / path.name) for path in pictures]
        lows = [read_rgb(path) for path in pictures]
        for name, engine_of in _upscalers(scale).items():
            highs = [upscale_pixels(low, engine_of(low)) for low in lows]
            scores = {
                METRICS[metric]: _mean(opened[metric], highs, truths) if metric in opened else "-" for metric in METRICS
            }
            rows.append({"set": row, "model": name, **scores})
    return rows


def _upscalers(scale: int) -> dict[str, Callable[[np.ndarray], Engine]]:
    """Name -> the engine for a low picture."""
    fixed: dict[str, Engine] = {"lanczos": ResampleEngine(scale)}
    for peer in PEERS[scale]:
        path = SHARED / "weights" / f"{peer}.safetensors"
        if path.is_file():
            fixed[peer] = open_engine(resolve_model(path), engine="torch", precision="fp32")
    pairs: dict[str, Callable[[np.ndarray], Engine]] = {}
    for model in list_models():
        if model.scale == scale:
            fixed[model.name] = open_engine(choose_model(model.name), engine="onnx", precision="fp32")
            if model.card.get(SOFT_TWIN):
                pairs[f"{model.name}, auto"] = partial(_engine_for, model.name)
    return {**{name: partial(_same, engine) for name, engine in fixed.items()}, **pairs}


def _same(engine: Engine, low: np.ndarray) -> Engine:
    return engine


def _engine_for(name: str, low: np.ndarray) -> Engine:
    return _open_between(name, strength_for(edge_width(low)))


@cache
def _open_between(name: str, strength: float) -> Engine:
    return open_engine(choose_model(name, strength=strength), engine="onnx", precision="fp32")


def _metrics() -> dict[str, Metric]:
    opened: dict[str, Metric] = {}
    for name in METRICS:
        with contextlib.suppress(MissingExtra):
            opened[name] = open_metric(name, border_px=BORDER_PX)
    return opened


def _mean(metric: Metric, highs: list[np.ndarray], truths: list[np.ndarray]) -> str:
    scores: list[float] = []
    for high, truth in zip(highs, truths, strict=True):
        try:
            scores.append(metric.score(high, truth))
        except Undefined:
            continue
    return f"{np.mean(scores):.2f}" if metric.name == "psnr" else f"{np.mean(scores):.4f}"
