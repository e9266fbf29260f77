"""Engines: the same network in every engine, one thread

Every shipped faithful network on a frame of 640x360 (GRL and RRDB: 128x128), in each engine, device and precision that
runs here, one processor thread. The candidates take turns; the best of the rounds counts. "x onnx fp32" is the speed
over that of onnxruntime in fp32 in the same run; "dB" is the PSNR of the output against it; "% of matrix rate" is the
share of what torch reaches here, on one thread, in a product of two 1536x1536 matrices of the same precision (int8 and
graphics cards: not stated). `--engine auto` takes a reduced precision only above 50 dB.

Run: python -m benchmarks engines
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass

import numpy as np

from apisr.core.errors import ApisrError
from apisr.engines import Engine
from apisr.engines.base import probe_picture, psnr_db
from apisr.engines.registry import candidate_requests
from apisr.weights import Model, list_models

FRAME, SMALL_FRAME = (360, 640), (128, 128)
#: Networks above this cost a pixel are measured on the small frame.
LARGE_FLOPS = 3e6
ROUNDS, QUICK_ROUNDS = 5, 2
MATRIX = 1536


@dataclass
class Runner:
    """One candidate and its best time."""

    engine: Engine
    name: str
    device: str
    precision: str
    seconds: float
    output: np.ndarray


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure every network; one row a candidate."""
    models = [model for model in list_models() if not model.name.endswith("-vivid")]
    rows: list[dict[str, object]] = []
    rates = _matrix_rates()
    for model in models[:1] if quick else models:
        rows += _of_model(model, rates, QUICK_ROUNDS if quick else ROUNDS)
    return rows


def _of_model(model: Model, rates: dict[str, float], rounds: int) -> list[dict[str, object]]:
    flops = float(model.card.get("flops_per_pixel", 0))
    height, width = SMALL_FRAME if flops > LARGE_FLOPS or model.architecture == "grl" else FRAME
    picture = probe_picture(height, width)
    runners = _opened(model, picture)
    for _ in range(rounds):
        for runner in runners:
            start = time.perf_counter()
            runner.engine.run(picture)
            runner.seconds = min(runner.seconds, time.perf_counter() - start)
    base = next(runner for runner in runners if (runner.name, runner.precision) == ("onnx", "fp32"))
    rows: list[dict[str, object]] = []
    for runner in runners:
        rate = rates.get(runner.precision) if runner.device == "cpu" else None
        share = None if rate is None else 100 * flops * height * width / runner.seconds / rate
        exact = psnr_db(runner.output, base.output)
        rows.append(
            {
                "network": model.name,
                "frame": f"{width}x{height}",
                "engine": runner.name,
                "device": runner.device,
                "precision": runner.precision,
                "x onnx fp32": base.seconds / runner.seconds,
                "dB": "same" if exact > 90 else round(exact, 1),
                "% of matrix rate": share,
                "frames/s": 1 / runner.seconds,
            }
        )
    return rows


def _opened(model: Model, picture: np.ndarray) -> list[Runner]:
    found = candidate_requests(model, engine="auto", device="auto", precision="auto", threads=1, every=True)
    runners: list[Runner] = []
    for kind, request in found:
        if kind.devices()[request.device].endswith("(software)"):
            continue
        try:
            engine = kind.open(request)
            output = engine.run(picture)
        except ApisrError:
            continue
        runners.append(Runner(engine, kind.name, request.device, request.precision, float("inf"), output))
    return runners


def _matrix_rates() -> dict[str, float]:
    """Operations a second in a matrix product, by precision."""
    if importlib.util.find_spec("torch") is None:
        return {}
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rates: dict[str, float] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        matrix = torch.rand(MATRIX, MATRIX).to(dtype)
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            matrix @ matrix
            best = min(best, time.perf_counter() - start)
        rates[name] = 2 * MATRIX**3 / best
    torch.set_num_threads(before)
    return rates
