"""Networks: cost, time, memory and share of the machine's limit, engines side by side

Numbers to compare are ratios within this run. "x limit" is FLOP/s over those of a large float32 matrix product on the
same device (bfloat16 can pass 1 where the processor has units for it). "x fp32" is speed over that of the same network
by torch in float32. "x plain" compares GRL with a straightforward formulation of the same function and parameters,
checked to give the same output: position biases and masks computed in every forward, scores of the whole picture in
memory, nearest enlargement before 3x3 convolutions. Each case runs in a process of its own; "MiB" is what its peak
memory grows by while it runs (on a GPU: the peak that was allocated). Parameters are random but for the shipped models'
ONNX files; int8 is measured for those alone, for it is offered only where it holds.

Run: python -m benchmarks networks --dry-run
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

NEEDS = ("torch", "onnx")

#: Seconds after which a case is given up, its timed repetitions end, and no further case of a device is begun.
LIMIT_S, TIMED_S, BUDGET_S = 60.0, 1.5, 240.0
#: Inputs on a GPU (height, width): 480p, 720p and 1080p in whole windows.
GPU_SIZES = ((480, 864), (720, 1280), (1088, 1920))


@dataclass(frozen=True)
class Case:
    """A network with its hyper-parameters, the input side on a CPU, and the shipped file if it is one."""

    title: str
    architecture: str
    hyper: dict[str, Any]
    side: int
    shipped: Path | None = None


def cases() -> list[Case]:
    """Return the shipped models, and the released networks at their full size."""
    from apisr.weights import list_models

    shipped = [
        Case(f"{model.name} (ours)", model.architecture, dict(model.card["hyper"]), 256, model.path)
        for model in list_models()
    ]
    return [
        *shipped,
        Case("compact 64x16 x4", "compact", {"features": 64, "depth": 16, "scale": 4}, 256),
        Case("grl tiny2 x4", "grl", {}, 128),
        Case("grl tiny x4", "grl", {"upsampler": "pixelshuffledirect"}, 128),
        Case("rrdb 6 x4", "rrdb", {"scale": 4}, 96),
        Case("rrdb 6 x2", "rrdb", {"scale": 2}, 128),
        Case("cunet x2", "cunet", {}, 128),
        Case("dat small x4", "dat", {}, 96),
    ]


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure every network with every engine of this machine; a case that fails says so and stops no other."""
    import torch

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    rows: list[dict[str, object]] = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        limit = matrix_flops(device, threads)
        end = time.perf_counter() + BUDGET_S
        for case in cases():
            if quick and case.shipped is None and case.title != "grl tiny2 x4":
                continue
            for size in ((case.side, case.side),) if device == "cpu" else GPU_SIZES:
                used = (size[0] // 2, size[1] // 2) if quick else size
                rows += _rows(case, device, used, threads, limit, quick=quick, end=end)
    return rows


def _rows(
    case: Case, device: str, size: tuple[int, int], threads: int, limit: float, *, quick: bool, end: float
) -> list[dict[str, object]]:
    found: dict[str, dict[str, float] | str] = {}
    for engine in engines_of(case, device, quick=quick):
        began = time.perf_counter()
        left_out = "not measured, the suite's time was over"
        found[engine] = in_process(case, engine, size, threads) if began < end else left_out
        print(f"{case.title}, {engine}: {time.perf_counter() - began:.1f} s in all", file=sys.stderr, flush=True)
    first, plain = found.get(f"{device} fp32"), found.get(f"{device} plain")
    rows: list[dict[str, object]] = []
    for engine, row in found.items():
        shown = f"{size[0]}x{size[1]}"
        values: dict[str, float] = row if isinstance(row, dict) else {}
        speed = values["flops_per_pixel"] * size[0] * size[1] / values["seconds"] if values else None
        rows.append(
            {
                "network": case.title,
                "engine": engine.replace("cpu", "torch") if values else f"{engine}: {row}",
                "input": shown,
                "M parameters": round(values["parameters"] / 1e6, 3) if values else None,
                "kFLOP/pixel": round(values["flops_per_pixel"] / 1e3) if values else None,
                "s": values.get("seconds"),
                "MiB": round(values["megabytes"]) if values else None,
                "GFLOP/s": round(speed / 1e9) if speed else None,
                "x limit": speed / limit if speed else None,
                "x fp32": first["seconds"] / values["seconds"] if values and isinstance(first, dict) else None,
                "x plain speed": plain["seconds"] / values["seconds"] if values and isinstance(plain, dict) else None,
                "x plain memory": (
                    values["megabytes"] / max(plain["megabytes"], 1) if values and isinstance(plain, dict) else None
                ),
            }
        )
    return rows


def engines_of(case: Case, device: str, *, quick: bool = False) -> list[str]:
    """Return what is measured for a network on a device."""
    if device != "cpu":
        engines = [f"{device} fp32", f"{device} fp16"]
    elif case.shipped is not None:
        engines = ["cpu fp32", "cpu bf16", "onnx fp32", "onnx int8"]
    else:
        engines = ["cpu fp32", "cpu bf16", *([] if quick else ["onnx fp32"])]
    return [*engines, f"{device} plain"] if case.title == "grl tiny2 x4" else engines


def in_process(case: Case, engine: str, size: tuple[int, int], threads: int) -> dict[str, float] | str:
    """Run one case in a process of its own and return its measurements, or why there are none.

    The processes are copies of one that has imported torch and done nothing else.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "onnx", "apisr.networks", __name__])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, case, engine, size, threads), daemon=True)
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(LIMIT_S) else f"not done in {LIMIT_S:.0f} s"
    except EOFError:  # for want of memory, as a rule
        process.join()
        return f"ended with {process.exitcode}"
    finally:
        process.kill()
        process.join()
        receiver.close()


def _child(sender: Connection, case: Case, engine: str, size: tuple[int, int], threads: int) -> None:
    try:
        sender.send(run_case(case, engine, size, threads))
    except Exception as error:  # noqa: BLE001 - told in the table
        sender.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:120] if str(error) else ''}")


def run_case(case: Case, engine: str, size: tuple[int, int], threads: int) -> dict[str, float]:
    """Measure one network with one engine: a first run, then the best of those that fit into the time."""
    import torch

    from apisr.networks import architecture

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    network = architecture(case.architecture)
    module: Any = network.build(case.hyper).eval()
    parameters = float(sum(parameter.numel() for parameter in module.parameters()))
    device, kind = engine.split()
    if device == "onnx":
        call = onnx_runner(case, module, kind, size, threads)
    else:
        call = torch_runner(module, device, kind, size)
    before = resident_mib(fresh=True)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    call()
    best, number = float("inf"), 0
    while number < 1 or (number < 20 and time.perf_counter() - began < TIMED_S):
        best, number = min(best, timed(call)), number + 1
    megabytes = resident_mib() - before
    if device == "cuda":
        megabytes = torch.cuda.max_memory_allocated() / 2**20
    flops = network.flops_per_pixel(case.hyper)
    return {"seconds": best, "megabytes": megabytes, "parameters": parameters, "flops_per_pixel": flops}


def torch_runner(module: Any, device: str, kind: str, size: tuple[int, int]) -> Callable[[], Any]:
    """Return a function that runs the module once in a precision (``plain``: GRL's plain formulation)."""
    import torch

    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "plain": torch.float32}[kind]
    module = module.to(device=device, dtype=dtype, memory_format=torch.channels_last)
    x = torch.rand(1, 3, *size).to(device, dtype)
    if kind == "plain":
        with torch.inference_mode():
            small = x[:, :, :64, :64]
            torch.testing.assert_close(plain_grl(module, small), module(small), atol=1e-4, rtol=1e-4)

    def call() -> Any:
        with torch.inference_mode():
            y = plain_grl(module, x) if kind == "plain" else module(x)
            if device == "cuda":
                torch.cuda.synchronize()
            return y

    return call


def onnx_runner(case: Case, module: Any, kind: str, size: tuple[int, int], threads: int) -> Callable[[], Any]:
    """Return a function that runs the network's ONNX file: the shipped one, or one exported here."""
    import numpy as np

    from apisr.core.telemetry import import_onnxruntime
    from apisr.networks import architecture
    from apisr.weights import resolve_model
    from apisr.weights.convert import convert_file
    from apisr.weights.export import export_onnx

    onnxruntime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        if case.shipped is None:
            traits = architecture(case.architecture).traits(case.hyper)
            export_onnx(module, path, traits=traits, card={"architecture": case.architecture}, fixed_size=size)
        elif kind == "fp32":
            path = case.shipped
        else:
            convert_file(resolve_model(case.shipped), path, precision=kind)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
    return lambda: session.run(None, {"input": x})


def resident_mib(*, fresh: bool = False) -> float:
    """Return the peak of this process's resident memory; `fresh` forgets the peak so far first (on Linux)."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if fresh:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def timed(run: Callable[[], Any]) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def matrix_flops(device: str, threads: int) -> float:
    """Return the FLOP/s of a large float32 matrix product."""
    import torch

    torch.set_num_threads(threads)
    side = 8192 if device == "cuda" else 2048
    a, b = torch.rand(side, side, device=device), torch.rand(side, side, device=device)

    def run() -> None:
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    return 2 * side**3 / min(timed(run) for _ in range(3))


def plain_grl(module: Any, x: Any) -> Any:
    """GRL as one writes it down: nothing kept between forwards, whole-picture scores, nearest before convolutions."""
    import torch
    from torch.nn import functional

    side, mean = module.window, module.mean
    f0 = module.conv_first(x - mean)
    height, width = f0.shape[2:]

    def split(t: Any, size: int) -> Any:
        n, h, w, c = t.shape
        return t.view(n, h // size, size, w // size, size, c).transpose(2, 3).reshape(-1, size * size, c)

    def join(t: Any, size: int, h: int, w: int) -> Any:
        return t.view(-1, h // size, w // size, size, size, t.shape[-1]).transpose(2, 3).reshape(-1, h, w, t.shape[-1])

    def attend(transform: Any, q: Any, k: Any, v: Any, heads: int, mask: Any = None) -> Any:
        scale, bias = transform._compute(q.dtype)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-1, -2) * scale + bias
        if mask is not None:
            scores = scores + mask.unsqueeze(1)
        return (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(-2)

    def shift_mask() -> Any:
        rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
        vertical = (rows >= height - side).long() + (rows >= height - side // 2).long()
        horizontal = (columns >= width - side).long() + (columns >= width - side // 2).long()
        region = split((3 * vertical[:, None] + horizontal[None, :])[None, :, :, None], side).squeeze(-1)
        return (region[:, :, None] != region[:, None, :]).to(x.dtype) * -100.0

    def block(b: Any, t: Any) -> Any:
        a = b.attn
        qkv = a.qkv.body(t)
        half = qkv.shape[-1] // 2
        first, second = qkv[..., :half], qkv[..., half:]
        if b.shifted:
            first = torch.roll(first, (-(side // 2), -(side // 2)), (1, 2))
        q, k, v = split(first, side).chunk(3, -1)
        mask = shift_mask() if b.shifted else None
        w = join(attend(a.window_attn.attn_transform, q, k, v, a.heads_window, mask), side, height, width)
        if b.shifted:
            w = torch.roll(w, (side // 2, side // 2), (1, 2))
        q, k, v = split(second, side).chunk(3, -1)
        pooled = functional.avg_pool2d(t.permute(0, 3, 1, 2), a.anchor_factor).permute(0, 2, 3, 1)
        anchors = split(a.anchor.body[0].reduction(pooled), side // a.anchor_factor)
        y = attend(a.stripe_attn.attn_transform1, anchors, k, v, a.heads_stripe)
        s = join(attend(a.stripe_attn.attn_transform2, q, anchors, y, a.heads_stripe), side, height, width)
        t = t + b.norm1(a.proj(torch.cat((w, s), -1)))
        return t + b.norm2(b.mlp.fc2(functional.gelu(b.mlp.fc1(t))))

    t = module.norm_start(f0.permute(0, 2, 3, 1))
    for stage in module.layers:
        u = t
        for b in stage.blocks:
            u = block(b, u)
        t = stage.conv(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) + t
    y = module.conv_before_upsample(module.conv_after_body(module.norm_end(t).permute(0, 3, 1, 2)) + f0)
    for convolution in (module.conv_up1, module.conv_up2):
        y = functional.leaky_relu(convolution(functional.interpolate(y, scale_factor=2, mode="nearest")), 0.2)
    return module.conv_last(functional.leaky_relu(module.conv_hr(y), 0.2)) + mean
