"""Encoding frames into segments.

A segment is a small Matroska file with nothing but encoded frames, numbered 0, 1, 2, ... instead of timed, because
encoders round, reorder and sometimes refuse real time stamps. The exact times stand beside it and are put back when the
segments are joined (:mod:`apisr.video.join`).
"""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from apisr.core.errors import RunError
from apisr.core.files import flush_to_disk, sha256_file
from apisr.core.processes import leave_realtime
from apisr.core.text import parse_json
from apisr.image import ImageInt
from apisr.video.colour import Colour
from apisr.video.encoders import EncoderChoice, coded_size, configure
from apisr.video.libav import exact, open_write
from apisr.video.rgb import FromRgb

#: Time base of segments: one tick a frame.
COUNT_UNIT = Fraction(1, 1000)


@dataclass(frozen=True)
class EncodedSegment:
    """One encoded segment.

    Attributes:
        pts: presentation times of its frames in units of the source, increasing.
        durations: of each frame, 0 if unknown.
        delay: reordering depth of its packets.
        size_bytes: of the file.
        damaged: how many of its frames had concealed errors.
        sha256: of the file.
    """

    pts: tuple[int, ...]
    durations: tuple[int, ...]
    delay: int
    size_bytes: int
    damaged: int = 0
    sha256: str = ""

    def to_json(self) -> str:
        """Return the segment as one JSON object."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> EncodedSegment:
        """Read :meth:`to_json`'s form; ValueError, KeyError or TypeError where it is another."""
        data = parse_json(text)
        return EncodedSegment(
            tuple(map(operator.index, data["pts"])),
            tuple(map(operator.index, data["durations"])),
            operator.index(data["delay"]),
            operator.index(data["size_bytes"]),
            operator.index(data["damaged"]),
            str(data["sha256"]),
        )


class SegmentWriter:
    """Encodes frames into one segment file.

    Args:
        path: Matroska file to make.
        choice: the encoder.
        size: (width, height) of the frames given; padded where the pixel format needs even numbers.
        rate: frames per second, for rate control.
        colour: what the encoded numbers mean.
        sar: pixel aspect ratio, None if unsaid.
    """

    def __init__(
        self,
        path: Path,
        choice: EncoderChoice,
        size: tuple[int, int],
        rate: Fraction,
        colour: Colour,
        sar: Fraction | None,
    ) -> None:
        self.path = path
        self.frames = 0
        self._size = size
        self._coded = coded_size(size, choice.pixel_format)
        self._rate = rate
        self._pts: list[int] = []
        self._durations: list[int] = []
        self._order: list[int] = []
        self._damaged = 0
        self._before: tuple[ImageInt, av.VideoFrame] | None = None
        self._convert = FromRgb(colour, choice.pixel_format)
        self._container = open_write(path, format="matroska")
        self._stream = cast(VideoStream, self._container.add_stream(choice.name, rate=rate))
        context = self._stream.codec_context
        configure(context, choice, self._coded, rate)
        describe_pictures(context, colour, sar)
        self._shape = None if sar is None else _shape_graph(self._coded, choice.pixel_format, sar)

    def convert(self, rgb: ImageInt) -> av.VideoFrame:
        """Turn ``(height, width, 3)`` RGB into a frame of the encoder's format."""
        wide = self._coded[0] - rgb.shape[1]
        tall = self._coded[1] - rgb.shape[0]
        if wide or tall:
            rgb = np.pad(rgb, ((0, tall), (0, wide), (0, 0)), mode="edge")
        return self._convert(rgb)

    def write(self, rgb: ImageInt, pts: int, duration: int, *, damaged: bool = False) -> None:
        """Encode one frame; `pts` and `duration` are in units of the source.

        A picture that is the same object as the one before it is not converted again; it must not have been changed.
        """
        if self._before is None or self._before[0] is not rgb:
            self._before = rgb, self.convert(rgb)
        frame = self._before[1]
        frame.pts = self.frames
        if self._shape is not None:
            self._shape.push(frame)
            frame = cast(av.VideoFrame, self._shape.pull())
        frame.time_base = 1 / self._rate
        self._pts.append(pts)
        self._durations.append(duration)
        self._damaged += damaged
        self.frames += 1
        packets = self._stream.encode(frame)
        if self.frames == 1 and self._stream.codec_context.name == "libsvtav1":
            leave_realtime()
        self._mux(packets)

    def close(self) -> EncodedSegment:
        """Finish the file.

        Raises:
            RunError: the encoder lost or invented frames.
        """
        if self.frames:
            self._mux(self._stream.encode(None))
        self._container.close()
        if not self.frames:  # none could be decoded; libav makes no file for nothing
            self.path.touch()
        if sorted(self._order) != list(range(self.frames)):
            raise RunError(
                f"the encoder gave {len(self._order)} pictures for {self.frames} frames in '{self.path.name}'.",
                code="encoder-lost-frames",
            )
        delay = max((position - number for position, number in enumerate(self._order)), default=0)
        flush_to_disk(self.path)
        return EncodedSegment(
            pts=tuple(self._pts),
            durations=tuple(self._durations),
            delay=delay,
            size_bytes=self.path.stat().st_size,
            damaged=self._damaged,
            sha256=sha256_file(self.path),
        )

    def abandon(self) -> None:
        """Close without finishing (after an error); the file is useless."""
        try:
            self._container.close()
        except (FFmpegError, OSError, ValueError):
            return

    def _mux(self, packets: Sequence[Packet[Any]]) -> None:
        for packet in packets:
            number = round(cast(int, packet.pts) * exact(packet.time_base) * self._rate)
            decoded_at = number if packet.dts is None else round(packet.dts * exact(packet.time_base) * self._rate)
            packet.time_base = COUNT_UNIT
            packet.pts = number
            packet.dts = min(max(decoded_at, 0), number)  # never decreasing, never late; made anew when joining
            packet.duration = 1
            self._order.append(number)
            packet.stream = self._stream
            self._container.mux(packet)


def _shape_graph(size: tuple[int, int], pixel_format: str, sar: Fraction) -> Graph:
    """Mark every frame with the pixel aspect ratio: some encoders (FFV1) take it from there only."""
    graph = Graph()
    graph.threads = 1  # more gain nothing here, and PyAV 19 keeps them until the garbage collector runs
    source = graph.add_buffer(
        width=size[0], height=size[1], format=VideoFormat(pixel_format), time_base=Fraction(1, 1000)
    )
    shape = graph.add("setsar", f"sar={sar.numerator}/{sar.denominator}")
    graph.link_nodes(source, shape, graph.add("buffersink")).configure()
    return graph


def describe_pictures(context: VideoCodecContext, colour: Colour, sar: Fraction | None) -> None:
    """Say what the pictures of a stream mean: colour and pixel aspect ratio."""
    if sar is not None:
        context.sample_aspect_ratio = sar
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer
    context.colorspace = colour.matrix
    context.color_range = 2 if colour.full_range else 1
