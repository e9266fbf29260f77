"""Measure every shipped network on every graphics card, in each engine and precision; a line of JSON for each.

    python scripts/card_speed.py card.jsonl                  # frames of 1080 lines (GRL, RRDB: 270)
    python scripts/card_speed.py card.jsonl --lines 128 --any-device

A line has frames and input megapixels a second (the picture travels to the card and back), the PSNR against
onnxruntime in fp32 on the processor, the card's peak memory where torch knows it, and how many seconds of one
processor core, with torch in fp32, a second of the card replaces. What the file has is not measured again, so that a
run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np

from apisr.core.errors import ApisrError
from apisr.engines.base import Engine, Request, probe_picture, psnr_db
from apisr.engines.ncnn import SOFTWARE
from apisr.engines.pixels import run_pixels
from apisr.engines.registry import Candidate, candidate_requests, engine_kind, open_engine
from apisr.weights import Model, list_models

#: Warm runs (the second records a CUDA graph), and timed ones.
WARM, TIMED = 3, 5
#: Networks whose frames are a quarter as high.
SLOW = ("grl", "rrdb")


def main() -> int:
    """Measure what the file does not have yet; the exit code is 1 if nothing could be measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="file that the lines are added to")
    parser.add_argument("--lines", type=int, default=1080, help="height of the frame")
    parser.add_argument("--any-device", action="store_true", help="without a card, measure what there is (a dry run)")
    parser.add_argument("--models", nargs="*", help="these only")
    options = parser.parse_args()
    known = _known(options.output)
    count = len(known)
    for model in list_models():
        if model.name.endswith("-vivid") or (options.models and model.name not in options.models):
            continue
        found = _candidates(model, any_device=options.any_device)
        new = [one for one in found if (model.name, one[0].name, one[1].device, one[1].precision) not in known]
        for row in _measured(model, new, options.lines):
            with options.output.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            sys.stdout.write(f"{row}\n")
            sys.stdout.flush()
            count += 1
    if not count:
        sys.stderr.write("card_speed: no graphics card was found. For a dry run: --any-device.\n")
    return int(not count)


def _known(path: Path) -> set[tuple[str, str, str, str]]:
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return set()
    return {(row["model"], row["engine"], row["device"], row["precision"]) for row in rows}


def _candidates(model: Model, *, any_device: bool) -> list[Candidate]:
    """Every engine and precision on a card; without one the first two of the processor, if any device will do."""
    found = list(candidate_requests(model, engine="auto", device="auto", precision="auto", threads=None, every=True))
    cards = [
        (kind, request)
        for kind, request in found
        if request.device not in ("cpu", "tensorrt") and SOFTWARE not in kind.devices()[request.device]
    ]
    return cards or ([one for one in found if one[1].device == "cpu"][:2] if any_device else [])


def _measured(model: Model, candidates: list[Candidate], lines: int) -> list[dict[str, object]]:
    if not candidates:
        return []
    small = probe_picture(64, 64)
    exact = open_engine(model, engine="onnx", device="cpu", precision="fp32").run(small)
    side = lines // 4 if model.architecture in SLOW else lines
    shape = (side // 8 * 8, side * 16 // 9 // 8 * 8, 3)
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    core_s = _core_seconds(model)
    rows: list[dict[str, object]] = []
    for kind, request in candidates:
        names = {"model": model.name, "engine": kind.name, "device": request.device, "precision": request.precision}
        try:
            engine = kind.open(request)
            close_db = psnr_db(engine.run(small), exact)
            seconds, peak_mib = _seconds(engine, frame)
        except ApisrError as error:
            rows.append({**names, "problem": str(error)})
            continue
        mpx_per_s = frame.shape[0] * frame.shape[1] / seconds / 1e6
        rows.append(
            {
                **names,
                "frame": f"{frame.shape[1]}x{frame.shape[0]}",
                "frames_per_s": round(1 / seconds, 3),
                "mpx_per_s": round(mpx_per_s, 3),
                "psnr_db": round(close_db, 1),
                "peak_mib": peak_mib,
                "core_seconds_a_second": None if core_s is None else round(core_s * mpx_per_s, 2),
            }
        )
    return rows


def _seconds(engine: Engine, frame: np.ndarray) -> tuple[float, int | None]:
    """Seconds a frame (the best), and the peak memory of the card in MiB where torch runs the network."""
    memory = None
    if engine.name.startswith("torch (cuda"):
        from torch import cuda

        memory = cuda
        memory.reset_peak_memory_stats()
    for _ in range(WARM):
        run_pixels(engine, frame)
    best = float("inf")
    for _ in range(TIMED):
        start = time.perf_counter()
        run_pixels(engine, frame)
        best = min(best, time.perf_counter() - start)
    return best, None if memory is None else memory.max_memory_reserved() >> 20


def _core_seconds(model: Model) -> float | None:
    """Seconds of processor time for an input megapixel with torch in fp32 on one thread; None without torch."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    kind, before = engine_kind("torch"), torch.get_num_threads()
    picture = probe_picture(128, 128)
    try:
        engine = kind.open(Request(model, "cpu", "fp32", 1))
        engine.run(picture)
        start = time.process_time()
        engine.run(picture)
        return (time.process_time() - start) / (picture.shape[2] * picture.shape[3]) * 1e6
    except ApisrError:
        return None
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    sys.exit(main())
