"""What this machine can do with a network: every engine, device and precision measured, and what to install.

>>> for row in benchmark("apisr-x2-fast", seconds=5).rows:            # doctest: +SKIP
...     print(row.engine, row.precision, row.frames_per_s)
openvino bf16 7.6
"""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.engines import choice
from apisr.engines.base import usable_threads
from apisr.engines.ncnn import SOFTWARE
from apisr.engines.registry import ENGINES, Candidate, candidate_requests, engine_kind
from apisr.weights import choose_model

#: Size of a frame of the measurement, (height, width).
FRAME_SIZE = (360, 640)


class BenchmarkRow(BaseModel):
    """One way to run the network.

    Attributes:
        engine: name of the engine.
        device: name of the device.
        title: what the device is.
        precision: of the arithmetic.
        frames_per_s: frames of 640x360 a second; 0 if it does not run.
        psnr_db: against fp32; 200 where there is no difference.
        automatic: whether ``--engine auto`` would take it.
        problem: why it does not run; empty if it does.
    """

    model_config = ConfigDict(frozen=True)

    engine: str
    device: str
    title: str
    precision: str
    frames_per_s: float
    psnr_db: float
    automatic: bool = False
    problem: str = ""


class Benchmark(BaseModel):
    """The table of a machine.

    Attributes:
        model: name of the model.
        threads: processor threads.
        rows: the fastest first.
        advice: what to install to be faster.
    """

    model_config = ConfigDict(frozen=True)

    model: str
    threads: int
    rows: tuple[BenchmarkRow, ...]
    advice: str


def benchmark(
    model: str | Path | None = None,
    *,
    seconds: float = 2.0,
    threads: int | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> Benchmark:
    """Measure every engine, device and precision on frames of 640x360.

    Args:
        model: name or file; None takes the default for doubling.
        seconds: for each.
        threads: processor threads; None takes all that this process may use.
        progress: called for every candidate.
        cancel: stops between two candidates.
    """
    chosen = choose_model(model, scale=None if model else 2)
    found = candidate_requests(chosen, engine="auto", device="auto", precision="auto", threads=threads, every=True)
    candidates = [(kind, request) for kind, request in found if SOFTWARE not in kind.devices()[request.device]]
    # The exact precisions first: the first candidate is the reference of all.
    candidates.sort(key=lambda candidate: (candidate[0].name != "onnx", candidate[1].precision != "fp32"))
    table = _measured(candidates, seconds, progress, cancel)
    winner = choice.ranking([table[i] for i in _by_preference(candidates)], required_db=choice.AUTOMATIC_PSNR_DB)
    rows = [
        BenchmarkRow(
            engine=entry.engine,
            device=entry.device,
            title=kind.devices()[entry.device],
            precision=entry.precision,
            frames_per_s=round(entry.mpx_per_s * 1e6 / (FRAME_SIZE[0] * FRAME_SIZE[1]), 2),
            psnr_db=entry.psnr_db,
            automatic=bool(winner) and entry is winner[0],
            problem=entry.problem,
        )
        for entry, (kind, _) in zip(table, candidates, strict=True)
    ]
    rows.sort(key=lambda row: -row.frames_per_s)
    return Benchmark(
        model=chosen.name, threads=threads or usable_threads(), rows=tuple(rows), advice=advice(candidates)
    )


def advice(candidates: Sequence[Candidate]) -> str:
    """Return the line that says what to install to be faster on this machine."""
    devices = {(kind.name, request.device.split(":")[0]) for kind, request in candidates}
    cards = {("onnx", "cuda"), ("torch", "cuda"), ("onnx", "tensorrt")}
    if _has_nvidia_card() and not devices & cards:
        return (
            "An NVIDIA card was found that no engine can use. To use it: python -m pip uninstall onnxruntime, "
            "then python -m pip install onnxruntime-gpu."
        )
    if not engine_kind("openvino").devices() and _processor_has("avx512_bf16", "amx_bf16"):
        return (
            "This processor has units for bf16, which OpenVINO uses (about 2 times as fast): "
            "python -m pip install openvino"
        )
    if any(Path("/dev/dri").glob("renderD*")) and not engine_kind("ncnn").devices():
        return 'A graphics card was found. To measure it, in the clone: python -m pip install ".[vulkan]"'
    return "Nothing is missing: every device that was found can be used."


def _measured(
    candidates: Sequence[Candidate], seconds: float, progress: ProgressFn, cancel: Cancel | None
) -> list[choice.Measurement]:
    table: list[choice.Measurement] = []
    for entry in choice.measure(candidates, seconds=seconds, size=FRAME_SIZE):
        if cancel is not None:
            cancel.check()
        table.append(entry)
        progress(
            Progress(
                "benchmark",
                item=f"{entry.engine} ({entry.device}, {entry.precision})",
                index=len(table),
                count=len(candidates),
                done=len(table),
                total=len(candidates),
                unit="engines",
            )
        )
    return table


def _by_preference(candidates: Sequence[Candidate]) -> list[int]:
    order = list(ENGINES)
    return sorted(range(len(candidates)), key=lambda i: order.index(candidates[i][0].name))


def _has_nvidia_card() -> bool:
    return shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia/version").exists()


def _processor_has(*flags: str) -> bool:
    if importlib.util.find_spec("openvino") is not None:
        return False
    try:
        words = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return False
    return any(flag in words for flag in flags)
