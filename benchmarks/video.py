"""Video: whole commands, from file to file

Each clip is upscaled from file to file by the shipped `lite-x2` network: decoded, upscaled, encoded (libx264,
veryfast), joined and checked. "off", "exact" and "hold" are the frames per second of the whole run with nothing reused,
with exact reuse, and with the hold filter before it. "loop" is a plain Python loop over the same network: decode a
frame, whole picture through the network, encode it, one after the other, nothing else kept. The ratios compare runs of
this table. "network busy" is the share of the run (without the final joining) during which the stage that limits it,
the network, was at work: decoding and encoding happen beside it. The last rows are the peak memory of a process that
upscales one minute and twenty minutes of the same video (nearest neighbour in place of the network, so that it ends).

Run: python -m benchmarks video
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from apisr.upscale import choose_model, load_engine
from apisr.upscale.engine import Engine
from apisr.upscale.prepare import Preparation
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.videos import VideoOptions, VideoOutcome, upscale_video
from benchmarks import Skip

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "data" / "clips"
OPTIONS = VideoOptions(codec="libx264", preset="veryfast", deinterlace="off", overwrite=True)
FRAMES = 24


def run(*, quick: bool = False) -> list[dict[str, object]]:
    """Measure the clips and the memory; one row each."""
    if not CLIPS.is_dir():
        raise Skip("the clips (../shared/data/clips) are not on this machine")
    engine = load_engine(choose_model("lite-x2"), device="cpu")
    names = ["talk/web"] if quick else ["talk/low", "talk/web", "action/web", "pan/web"]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            source = _shortened(CLIPS / f"{name}.mkv", Path(folder) / "in.mkv", 12 if quick else FRAMES)
            rows.append(_clip(name, source, Path(folder) / "out.mkv", engine))
        rows += [_memory(minutes, Path(folder)) for minutes in ((1,) if quick else (1, 20))]
    return rows


def _clip(name: str, source: Path, target: Path, engine: Engine) -> dict[str, object]:
    loop_s = _plain_loop(source, target, engine)
    off = _run(source, target, lambda: CanvasUpscaler(engine, reuse="off"))
    exact = _run(source, target, lambda: CanvasUpscaler(engine))
    held = _run(source, target, lambda: CanvasUpscaler(engine), Preparation("auto"))
    frames = off.frames_out
    speeds = [frames / outcome.seconds["total"] for outcome in (off, exact, held)]
    busy = off.seconds["upscale"] / (off.seconds["total"] - off.seconds["join"])
    return {
        "what": name,
        "frames": frames,
        "off, frames/s": speeds[0],
        "exact, frames/s": speeds[1],
        "hold, frames/s": speeds[2],
        "exact / off": speeds[1] / speeds[0],
        "hold / off": speeds[2] / speeds[0],
        "off / loop": speeds[0] * loop_s / frames,
        "hold / loop": speeds[2] * loop_s / frames,
        "network busy %": 100 * busy,
        "peak MiB": None,
    }


def _run(
    source: Path, target: Path, make: Callable[[], CanvasUpscaler], prepare: Preparation | None = None
) -> VideoOutcome:
    return upscale_video(source, target, make, OPTIONS, scale=2, prepare=prepare)


def _plain_loop(source: Path, target: Path, engine: Engine) -> float:
    """Upscale as a script would, one thing after the other; return the seconds."""
    began = time.perf_counter()
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        stream: Any = None
        for frame in container.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24").astype(np.float32) / 255
            large = engine.run(np.ascontiguousarray(rgb.transpose(2, 0, 1)[None]))[0].transpose(1, 2, 0)
            pixels = np.ascontiguousarray((large.clip(0, 1) * 255).round().astype(np.uint8))
            if stream is None:
                stream = out.add_stream(
                    "libx264", rate=Fraction(24000, 1001), options={"preset": "veryfast", "crf": "16"}
                )
                stream.width, stream.height, stream.pix_fmt = pixels.shape[1], pixels.shape[0], "yuv420p"
            out.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(stream.encode(None))
    return time.perf_counter() - began


def _shortened(source: Path, target: Path, frames: int) -> Path:
    """Copy the first packets of a clip."""
    with av.open(str(source)) as container, av.open(str(target), "w") as out:
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        for number, packet in enumerate(container.demux(video=0)):
            if packet.size and number < frames:
                packet.stream = copy
                out.mux(packet)
    return target


def _memory(minutes: int, folder: Path) -> dict[str, object]:
    """Upscale a video of so many minutes in a process of its own; return its row (Linux only)."""
    source = _long(folder / f"{minutes}.mkv", minutes * 60 * 24)
    program = textwrap.dedent(
        f"""
        import time
        from pathlib import Path
        from apisr.upscale.baselines import NearestEngine
        from apisr.upscale.reuse import CanvasUpscaler
        from apisr.upscale.videos import VideoOptions, upscale_video
        began = time.perf_counter()
        options = VideoOptions(preset="ultrafast", deinterlace="off")
        engine = NearestEngine(2)
        done = upscale_video(Path({str(source)!r}), Path({str(folder / f"{minutes}_x2.mkv")!r}),
                             lambda: CanvasUpscaler(engine), options, scale=2)
        status = Path("/proc/self/status").read_text()  # not getrusage: that remembers the process it was forked from
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
        print(done.frames_out, time.perf_counter() - began, peak)
        """
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    frames, seconds, peak = (float(word) for word in done.stdout.split())
    row: dict[str, object] = dict.fromkeys(
        ("off, frames/s", "exact / off", "hold / off", "off / loop", "hold / loop", "network busy %", "hold, frames/s")
    )
    row |= {"exact, frames/s": frames / seconds, "peak MiB": peak, "what": f"{minutes} min", "frames": int(frames)}
    order = ["what", "frames", "off, frames/s", "exact, frames/s", "hold, frames/s", "exact / off", "hold / off"]
    return {key: row[key] for key in [*order, "off / loop", "hold / loop", "network busy %", "peak MiB"]}


def _long(target: Path, frames: int, *, size: tuple[int, int] = (160, 90)) -> Path:
    """Make a long video: ten seconds of moving squares on noise, its packets repeated."""
    noise = np.random.default_rng(0).integers(0, 60, (size[1], size[0], 3), dtype=np.uint8)
    piece = target.with_suffix(".piece.mkv")
    with av.open(str(piece), "w") as out:
        stream: Any = out.add_stream("libx264", rate=24, options={"bf": "0", "g": "240"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for number in range(240):
            rgb = noise.copy()
            left = number // 3 * 7 % (size[0] - 20)
            rgb[30:50, left : left + 20] = 200
            out.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(stream.encode(None))
    with av.open(str(piece)) as container, av.open(str(target), "w") as out:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        copy = out.add_stream_from_template(container.streams.video[0], opaque=True)
        contents = [(bytes(packet), packet.is_keyframe) for packet in packets]
        for number in range(frames):
            data, key = contents[number % len(contents)]
            packet = av.Packet(data)
            packet.pts = packet.dts = round(number * 1000 / 24)
            packet.time_base = Fraction(1, 1000)
            packet.is_keyframe = key
            packet.stream = copy
            out.mux(packet)
    return target
