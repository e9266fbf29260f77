"""Shipped models and released peers on the validation pairs

Means against the ground truth: PSNR and SSIM of the RGB pictures (8 bits, 8 pixels cut at each side), ST-LPIPS (lower
is better), and the share of the ground truth's dark lines that are lost. The pairs are the first 8 scenes of
../shared/data/val where they are, else the six of the folder `validation`. Peers are those of ../shared/weights, else
those that `apisr models fetch` has fetched (with torch); animevideov3 enlarges by 4, for x2 its output is halved by a
box. "auto" takes, of a model with a twin for soft sources, the strength that the measured softness of each picture
asks for, as `apisr upscale` does. Networks run in float32.

Run: python -m benchmarks validation
(ST-LPIPS takes seconds a picture, hence most of an hour in all; the scores of each picture are kept in the cache
folder, so that a run that was stopped goes on where it was, and one after a change scores what has changed; --quick
leaves ST-LPIPS out)
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from apisr.core.errors import MissingExtra
from apisr.core.files import write_atomic
from apisr.engines import open_engine
from apisr.engines.base import Engine
from apisr.image import read_rgb
from apisr.metrics.metric import Metric, Undefined
from apisr.metrics.registry import open_metric
from apisr.upscale import upscale_pixels
from apisr.upscale.baselines import ResampleEngine
from apisr.upscale.models import SOFT_TWIN
from apisr.upscale.softness import CRISP_PX, SHARPEST_PERCENT, SOFT_PX, edge_width, strength_for
from apisr.weights import choose_model, list_models, resolve_model
from apisr.weights.releases import CATALOGUE, cache_folder, cached
from benchmarks import Skip

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
LARGE, SMALL = SHARED / "data" / "val", ROOT / "validation"
ROWS = (
    *("clean_x2", "web_x2", "dvd_x2", "compressed_x2", "old_x2"),
    *("clean_x4", "compressed_x4", "old_x4"),
)
#: The peers: (name in the tables, scale of the table, scale of the network, file of ../shared/weights, release).
PEERS = (
    ("animevideov3", 2, 4, "realesr-animevideov3-x4", "realesr-animevideov3"),
    ("Real-CUGAN", 2, 2, "realcugan-se-x2-conservative", None),
    ("animevideov3", 4, 4, "realesr-animevideov3-x4", "realesr-animevideov3"),
    ("x4plus-anime-6B", 4, 4, "realesrgan-x4plus-anime", "realesrgan-anime-6b"),
)
METRICS = {"psnr": "PSNR dB", "ssim": "SSIM", "st-lpips": "ST-LPIPS", "line_lost": "lines lost"}
#: What a quick run leaves out.
SLOW = ("st-lpips",)
#: In float32 both give the same pictures (docs/machines.md); the first is the faster one.
ENGINE = "openvino" if find_spec("openvino") else "onnx"
BORDER_PX, SCENES, QUICK_SCENES = 8, 8, 2


@dataclass(frozen=True)
class Upscaler:
    """One way to enlarge: the network is opened when it is first used.

    ``identity`` changes when its weights do, or how they are chosen; ``identity_for`` says what one picture gets.
    """

    identity: str
    engine_for: Callable[[np.ndarray], Engine]
    halvings: int = 0
    identity_for: Callable[[np.ndarray], str] | None = None

    def apply(self, low: np.ndarray, *, part_of: np.ndarray | None = None) -> np.ndarray:
        """Enlarge ``low``; where it is a crop, what is measured of the source is measured of ``part_of``."""
        high = upscale_pixels(low, self.engine_for(low if part_of is None else part_of))
        for _ in range(self.halvings):
            high = cv2.resize(high, (high.shape[1] // 2, high.shape[0] // 2), interpolation=cv2.INTER_AREA)
        return high


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Score every shipped model and peer on every row of its scale."""
    folder = LARGE if LARGE.is_dir() else SMALL
    if not folder.is_dir():
        raise Skip("neither the folder `validation` nor ../shared/data/val is here")
    opened = metrics([name for name in METRICS if name not in SLOW] if quick else tuple(METRICS))
    rows: list[dict[str, object]] = []
    for row in ROWS:
        lows, truths = pairs(folder, row, QUICK_SCENES if quick else SCENES)
        for name, upscaler in upscalers(int(row[-1])).items():
            scored = [kept_scores(opened, upscaler, low, truth) for low, truth in zip(lows, truths, strict=True)]
            means = {head: shown(key, [scores.get(key) for scores in scored]) for key, head in METRICS.items()}
            rows.append({"set": row, "model": name, **means})
    return rows


def kept_scores(
    opened: dict[str, Metric], upscaler: Upscaler, low: np.ndarray, truth: np.ndarray
) -> dict[str, float | None]:
    """Return the scores of one picture, from the cache folder or measured now."""
    versions = [importlib.metadata.version(package) for package in ("apisr", ENGINE, "opencv-python-headless")]
    identity = upscaler.identity if upscaler.identity_for is None else upscaler.identity_for(low)
    digest = hashlib.sha256("\n".join([identity, *versions, *sorted(opened)]).encode())
    digest.update(low.tobytes())
    digest.update(truth.tobytes())
    path = cache_folder().parent / "benchmarks" / f"{digest.hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError):
        return json.loads(path.read_text(encoding="utf-8"))
    scores = {name: values[0] for name, values in score(opened, [upscaler.apply(low)], [truth]).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(scores).encode(), overwrite=True)
    return scores


def pairs(folder: Path, row: str, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the first low pictures of a row and their ground truths."""
    paths = scenes(folder, row)[:count]
    return [read_rgb(path) for path in paths], [read_rgb(folder / "gt" / path.name) for path in paths]


def scenes(folder: Path, row: str) -> list[Path]:
    """Return the pictures of a row."""
    return sorted(path for path in (folder / row).iterdir() if path.suffix in (".png", ".webp"))


def upscalers(scale: int) -> dict[str, Upscaler]:
    """Return every way to enlarge by this factor that can be had here, by its name in the tables."""
    found = {"lanczos": Upscaler("lanczos", partial(_same, ResampleEngine(scale)))}
    for name, of_table, of_network, file, release in PEERS:
        path = _peer(file, release)
        if of_table == scale and path is not None:
            found[name] = Upscaler(f"{name} x{of_network}", partial(_peer_engine, path), of_network // scale - 1)
    for model in list_models():
        if model.scale == scale:
            found[model.name] = Upscaler(model.sha256, partial(_fixed, model.name))
            if model.card.get(SOFT_TWIN):
                found[f"{model.name}, auto"] = _auto_upscaler(model.name)
    return found


def metrics(names: Sequence[str] = tuple(METRICS)) -> dict[str, Metric]:
    """Open the metrics of these names that are installed."""
    opened: dict[str, Metric] = {}
    for name in names:
        with contextlib.suppress(MissingExtra):
            opened[name] = open_metric(name, border_px=BORDER_PX)
    return opened


def score(
    opened: dict[str, Metric], highs: Sequence[np.ndarray], truths: Sequence[np.ndarray]
) -> dict[str, list[float | None]]:
    """Return the scores of each metric, one a picture; None where a metric says nothing about a picture."""
    return {
        name: [_score(metric, high, truth) for high, truth in zip(highs, truths, strict=True)]
        for name, metric in opened.items()
    }


def shown(metric: str, scores: Sequence[float | None] | None) -> str:
    """Return the mean as a table shows it."""
    known = [value for value in scores or [] if value is not None]
    if not known:
        return "-"
    digits = {"psnr": 2, "line_lost": 3}.get(metric, 4)
    return f"{np.mean(known):.{digits}f}"


def _score(metric: Metric, high: np.ndarray, truth: np.ndarray) -> float | None:
    try:
        return metric.score(high, truth)
    except Undefined:
        return None


def _peer(file: str, release: str | None) -> Path | None:
    if find_spec("torch") is None:
        return None
    shared = SHARED / "weights" / f"{file}.safetensors"
    if shared.is_file():
        return shared
    return cached(CATALOGUE[release]) if release else None


def _same(engine: Engine, low: np.ndarray) -> Engine:
    return engine


def _peer_engine(path: Path, low: np.ndarray) -> Engine:
    return _open_peer(path)


def _fixed(name: str, low: np.ndarray) -> Engine:
    return _open(name, None)


def _auto_upscaler(name: str) -> Upscaler:
    """Follows the softness of each picture; at both ends it is one of the two models."""
    faithful, twin = (resolve_model(model).sha256 for model in (name, f"{name}-vivid"))

    def identity_for(low: np.ndarray) -> str:
        strength = strength_for(edge_width(low))
        return {0.0: faithful, 1.0: twin}.get(strength, f"{faithful} {twin} {strength}")

    measure = f"{SHARPEST_PERCENT} {CRISP_PX} {SOFT_PX}"
    return Upscaler(f"{faithful} {twin} {measure}", partial(_auto, name), identity_for=identity_for)


def _auto(name: str, low: np.ndarray) -> Engine:
    return _open(name, strength_for(edge_width(low)))


@lru_cache(maxsize=4)
def _open(name: str, strength: float | None) -> Engine:
    return open_engine(choose_model(name, strength=strength), engine=ENGINE, device="cpu", precision="fp32")


@lru_cache(maxsize=4)
def _open_peer(path: Path) -> Engine:
    return open_engine(resolve_model(path), engine=ENGINE, device="cpu", precision="fp32")
