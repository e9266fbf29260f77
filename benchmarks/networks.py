"""Networks: cost, time, memory and share of the machine's limit, engines side by side

Numbers to compare are ratios within this run. "x limit" is FLOP/s over those of a large float32 matrix product on the
same device. "x plain" compares GRL with a straightforward formulation of the same function and parameters, checked to
give the same output: position biases and masks computed in every forward, scores of the whole picture in memory,
nearest enlargement before 3x3 convolutions. Each case runs in its own process, so that its peak memory is its own.

Run: python -m benchmarks networks --dry-run
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

#: Name -> (architecture, hyper-parameters).
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "compact 64x16 x4": ("compact", {"features": 64, "depth": 16, "scale": 4}),
    "compact lite x2": ("compact", {"features": 64, "depth": 8, "scale": 2, "unshuffle": 2, "activation": "relu"}),
    "grl tiny2 x4": ("grl", {}),
    "grl tiny x4": ("grl", {"upsampler": "pixelshuffledirect"}),
    "rrdb 6 x4": ("rrdb", {"scale": 4}),
    "rrdb 6 x2": ("rrdb", {"scale": 2}),
    "cunet x2": ("cunet", {}),
    "dat small x4": ("dat", {}),
}


NEEDS = ("torch", "onnx")


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure every network with every engine of this machine."""
    import torch

    size, threads = (64 if quick else 256), min(2, os.cpu_count() or 1)
    rows: list[dict[str, object]] = []
    for device in ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]:
        limit = matrix_flops(device, threads)
        for name in CASES:
            # The slowest ones on a smaller picture: times are divided by pixels below.
            side = size if device == "cuda" or name.startswith(("grl tiny2", "compact")) else size // 2
            found = {engine: in_process(name, engine, side, threads) for engine in engines_of(name, device)}
            plain = found.get(f"{device} plain")
            for engine, row in found.items():
                speed = row["flops_per_pixel"] * side**2 / row["seconds"]
                rows.append(
                    {
                        "network": name,
                        "engine": engine,
                        "input": f"{side}x{side}",
                        "M parameters": round(row["parameters"] / 1e6, 2),
                        "kFLOP/pixel": round(row["flops_per_pixel"] / 1e3),
                        "s": row["seconds"],
                        "peak MiB": round(row["megabytes"]),
                        "GFLOP/s": round(speed / 1e9),
                        "x limit": speed / limit,
                        "x plain speed": plain["seconds"] / row["seconds"] if plain else None,
                        "x plain memory": row["megabytes"] / max(plain["megabytes"], 1) if plain else None,
                    }
                )
    return rows


def engines_of(name: str, device: str) -> list[str]:
    """Return what is measured for a network on a device."""
    engines = [f"{device} fp32", f"{device} bf16"] if device == "cpu" else [f"{device} fp32", f"{device} fp16"]
    if device == "cpu":
        engines.append("onnx fp32")
    if name == "grl tiny2 x4":
        engines.append(f"{device} plain")
    return engines


def in_process(name: str, engine: str, size: int, threads: int) -> dict[str, float]:
    """Run one case in a process of its own and return its measurements."""
    command = [sys.executable, __file__, "--case", name, "--engine", engine, "--size", str(size)]
    finished = subprocess.run([*command, "--threads", str(threads)], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(f"{name}, {engine}: {finished.stderr.strip().splitlines()[-1]}")
    return json.loads(finished.stdout.splitlines()[-1])


def main() -> None:
    """Measure one case and print its numbers as JSON (for :func:`in_process`)."""
    parser = argparse.ArgumentParser(description="Measure one network with one engine.")
    parser.add_argument("--case", required=True, choices=list(CASES))
    parser.add_argument("--engine", required=True, help="'cpu fp32', 'cpu plain', 'onnx fp32', 'cuda fp16', ...")
    parser.add_argument("--size", type=int, default=256, help="side of the input picture")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    print(json.dumps(run_case(parser.parse_args())))


def run_case(options: argparse.Namespace) -> dict[str, float]:
    """Measure one network with one engine: the best of a few runs, and the growth of the process's peak memory."""
    import resource

    import torch

    from apisr.networks import architecture

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    name, hyper = CASES[options.case]
    network = architecture(name)
    module: Any = network.build(hyper).eval()
    x = torch.rand(1, 3, options.size, options.size)
    device, kind = options.engine.split()
    if device == "onnx":
        call = onnx_runner(network, hyper, module, options)
    else:
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "plain": torch.float32}[kind]
        module = module.to(device=device, dtype=dtype, memory_format=torch.channels_last)
        x = x.to(device, dtype)
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

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    call()
    best = min(timed(call) for _ in range(options.repeats))
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    if device == "cuda":
        megabytes = torch.cuda.max_memory_allocated() / 2**20
    return {
        "seconds": best,
        "megabytes": megabytes,
        "parameters": float(sum(parameter.numel() for parameter in module.parameters())),
        "flops_per_pixel": network.flops_per_pixel(hyper),
    }


def onnx_runner(network: Any, hyper: dict[str, Any], module: Any, options: argparse.Namespace) -> Any:
    """Export the network and return a function that runs the file."""
    import numpy as np
    import onnxruntime

    from apisr.weights.export import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export_onnx(module, path, traits=network.traits(hyper), card={"architecture": network.name})
        session_options = onnxruntime.SessionOptions()
        session_options.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(str(path), session_options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).random((1, 3, options.size, options.size), dtype=np.float32)
    return lambda: session.run(None, {"input": x})


def timed(run: Any) -> float:
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


if __name__ == "__main__":
    main()
