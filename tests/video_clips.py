"""Makes small videos of every kind on the spot, and reads them back, for the tests of video."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from apisr.core.progress import Cancel, Progress
from apisr.image import ImageInt
from apisr.upscale.options import VideoOptions
from apisr.upscale.preprocess import Preprocess
from apisr.upscale.results import ReuseStats, VideoResult
from apisr.upscale.sizes import SizeRequest
from apisr.upscale.video import plan, upscale
from apisr.upscale.video.output import OutputRequest
from apisr.upscale.video.plan import VideoPlan
from apisr.upscale.video.run import FrameUpscaler, Processing, SegmentRunner
from apisr.upscale.video.segments import LocalRunner
from apisr.video.colour import Colour
from apisr.video.rgb import FromRgb
from apisr.video.source import VideoSource

SRT = [(0, 400, "<i>First</i> line"), (500, 900, "Second &amp; last")]


class Nearest:
    """The network of these tests: every pixel becomes a square."""

    def __init__(self, scale: int = 2) -> None:
        self.scale = scale
        self.stats = ReuseStats()

    @property
    def frames(self) -> int:
        return self.stats.frames

    def process(self, rgb: ImageInt) -> ImageInt:
        self.stats.frames += 1
        return np.ascontiguousarray(rgb.repeat(self.scale, 0).repeat(self.scale, 1))


def upscale_video(
    source: Path,
    target: Path,
    make_upscaler: Callable[[], FrameUpscaler],
    options: VideoOptions,
    on_progress: Callable[[float, float | None], None] | None = None,
    *,
    scale: int = 2,
    identity: str = "",
    preprocess: Preprocess | None = None,
    size: SizeRequest | None = None,
    overwrite: bool = False,
    workers: int = 1,
    runner: SegmentRunner | None = None,
    cancel: Cancel | None = None,
) -> VideoResult:
    """Upscale a video with a network of these tests."""

    def progress(event: Progress) -> None:
        if on_progress is not None and event.stage == "upscale" and event.kind == "advanced":
            on_progress(event.done, event.total)

    with VideoSource.open(source, rate=options.rate) as opened:
        output = OutputRequest(target, size or SizeRequest(), overwrite)
        return upscale.upscale_video(
            opened,
            plan.plan_video(opened, output, scale=scale, options=options),
            Processing(make_upscaler, scale, identity, preprocess or Preprocess()),
            options,
            runner=runner or LocalRunner(workers),
            progress=progress,
            cancel=cancel,
        )


def plan_video(
    source: Path, target: Path, options: VideoOptions, scale: int = 2, size: SizeRequest | None = None
) -> VideoPlan:
    """Plan what :func:`upscale_video` does."""
    with VideoSource.open(source, rate=options.rate) as opened:
        return plan.plan_video(opened, OutputRequest(target, size or SizeRequest()), scale=scale, options=options)


def picture(number: int, width: int, height: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A gradient with a moving box and the number of the frame as a bar code."""
    y, x = np.mgrid[:height, :width]
    rgb = np.stack([x * 255 // width, y * 255 // height, np.full_like(x, 90)], -1).astype(np.uint8)
    left = (number * 3) % max(1, width - 12)
    rgb[height // 3 : height // 3 + 10, left : left + 10] = (230, 60, 40)
    for bit in range(8):
        rgb[:4, bit * 6 : bit * 6 + 6] = 235 if number >> bit & 1 else 20
    return rgb


def number_of(rgb: ImageInt, scale: int = 1) -> int:
    """Read the bar code of :func:`picture` from a frame enlarged by `scale`."""
    white = np.iinfo(rgb.dtype).max
    bits = [
        rgb[scale : 3 * scale, (bit * 6 + 2) * scale : (bit * 6 + 4) * scale].mean() > white / 2 for bit in range(8)
    ]
    return sum(int(on) << bit for bit, on in enumerate(bits))


def make_clip(
    path: Path,
    *,
    codec: str = "libx264",
    frames: int = 24,
    size: tuple[int, int] = (96, 64),
    rate: Fraction = Fraction(24),
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    audio: str | None = None,
    audio_offset: Fraction = Fraction(0),
    srt: bool = False,
    ass: bool = False,
    font: bytes | None = None,
    cover: bool = False,
    chapters: bool = False,
    tags: dict[str, str] | None = None,
    colour: Colour | None = None,
    sar: Fraction | None = None,
    rotation: float | None = None,
    container_options: dict[str, str] | None = None,
    pictures: Any = picture,
    format: str | None = None,  # noqa: A002
) -> Path:
    """Make a video; `times` are the presentation times of its frames in units of `time_base`."""
    with av.open(str(path), "w", format=format, options=container_options or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt
        unit = time_base or 1 / rate
        stream.codec_context.time_base = unit
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        if rotation is not None:
            stream.set_display_rotation(rotation)
        tint = colour or Colour(1, 1, 1, full_range=False)
        if colour is not None:
            context = stream.codec_context
            context.colorspace, context.color_primaries = colour.matrix, colour.primaries
            context.color_trc, context.color_range = colour.transfer, 2 if colour.full_range else 1
        convert = FromRgb(tint, pix_fmt)
        sound: Any = None
        if audio:
            sound = out.add_stream(audio, rate=48000)
            sound.metadata.update({"language": "jpn", "title": "Stereo"})
        text: Any = None
        if srt:
            text = out.add_mux_stream("subrip")
            text.time_base = Fraction(1, 1000)
            text.metadata.update({"language": "fre", "title": "Sous-titres"})
            text.disposition = 1 | 64
        styled: Any = None
        if ass:
            from apisr.video.subtitles import ASS_HEADER

            styled = out.add_stream("ass")
            styled.codec_context.subtitle_header = ASS_HEADER
            styled.codec_context.time_base = Fraction(1, 1000)
            styled.time_base = Fraction(1, 1000)
            styled.metadata.update({"language": "eng"})
        if font is not None:
            out.add_attachment("Font.ttf", "application/x-truetype-font", font)
        if cover and out.format.name == "matroska":
            out.add_attachment("cover.png", "image/png", small_png())
        if chapters:
            out.set_chapters(
                [
                    {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000), "metadata": {"title": "Opening"}},
                    {
                        "id": 2,
                        "start": 400,
                        "end": 900,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": "Part A"},
                    },
                ]
            )
        out.metadata.update(tags or {})
        for number in range(frames):
            frame = convert(pictures(number, *size))
            frame.pts = times[number] if times is not None else number
            frame.time_base = unit
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if sound is not None:
            _sound(out, sound, float(frames / rate) if times is None else float(times[-1] * unit), audio_offset)
        if text is not None:
            for start, end, words in SRT:
                _text(out, text, start, end, words.encode())
        if styled is not None:
            for start, end, words in SRT:
                _text(out, styled, start, end, f"{start},0,Default,,0,0,0,,{words}".encode())
    return path


def small_png() -> bytes:
    """A PNG of 16x16 pixels."""
    import io

    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture(3, 48, 48)).resize((16, 16)).save(data, "PNG")
    return data.getvalue()


def _sound(out: Any, stream: Any, seconds: float, offset: Fraction) -> None:
    size = stream.codec_context.frame_size or 1024
    layout, kind = stream.codec_context.layout.name, stream.codec_context.format.name
    resampler = av.AudioResampler(format=kind, layout=layout, rate=48000, frame_size=None)
    for block in range(math.ceil(seconds * 48000 / size)):
        samples = np.arange(block * size, (block + 1) * size)
        wave = (np.sin(samples * 2 * np.pi * 440 / 48000) * 0.2).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate = 48000
        frame.pts = block * size + round(offset * 48000)
        frame.time_base = Fraction(1, 48000)
        for ready in resampler.resample(frame):
            out.mux(stream.encode(ready))
    out.mux(stream.encode(None))


def _text(out: Any, stream: Any, start: int, end: int, data: bytes) -> None:
    packet = av.Packet(data)
    packet.pts = packet.dts = start
    packet.duration = end - start
    packet.time_base = Fraction(1, 1000)
    packet.stream = stream
    out.mux(packet)


@dataclass(frozen=True)
class Read:
    """A file read back with PyAV.

    Attributes:
        times: presentation times of the video's frames in seconds.
        numbers: bar codes of the frames.
        sizes: their sizes.
        packets: for each other stream (kind, number among its kind), the times and hashes of its packets.
        tags: of each stream.
    """

    times: list[Fraction]
    numbers: list[int]
    sizes: set[tuple[int, int]]
    packets: dict[tuple[str, int], list[tuple[Fraction, str]]]
    tags: dict[tuple[str, int], dict[str, str]]


def read_back(path: Path, *, scale: int = 1, decode: bool = True) -> Read:
    """Read everything of a file."""
    times: list[Fraction] = []
    numbers: list[int] = []
    sizes: set[tuple[int, int]] = set()
    packets: dict[tuple[str, int], list[tuple[Fraction, str]]] = {}
    names: dict[int, tuple[str, int]] = {}
    tags: dict[tuple[str, int], dict[str, str]] = {}
    with av.open(str(path)) as container:
        count: dict[str, int] = {}
        for stream in container.streams:
            kind = "cover" if int(stream.disposition) & 1024 else stream.type
            names[stream.index] = (kind, count.get(kind, 0))
            tags[names[stream.index]] = dict(stream.metadata)
            count[kind] = count.get(kind, 0) + 1
        main = next(index for index, name in names.items() if name == ("video", 0))
        for packet in container.demux():
            name = names[packet.stream.index]
            if packet.stream.index == main:
                if decode:
                    for frame in packet.decode():
                        counted = container.format.name == "avi"  # its frames have no times, they are counted
                        times.append(
                            len(times) / container.streams.video[0].average_rate
                            if counted
                            else frame.pts * packet.time_base
                        )
                        rgb = frame.to_ndarray(format="rgb24")
                        sizes.add((frame.width, frame.height))
                        numbers.append(number_of(rgb, scale))
            elif packet.size:
                stamp = packet.pts if packet.pts is not None else 0
                packets.setdefault(name, []).append(
                    (stamp * packet.time_base, hashlib.sha256(bytes(packet)).hexdigest())
                )
    return Read(times, numbers, sizes, packets, tags)


def ffprobe(path: Path, *show: str) -> dict[str, Any]:
    """Ask ffprobe; the test is skipped where it is not installed."""
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    command = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", *(f"-show_{what}" for what in show), str(path)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
