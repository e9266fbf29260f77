"""Reading the frames of a video with their exact times, from anywhere in the file.

Frames come out in presentation order as RGB arrays, each with the time stamp that the file gives it, in the units of
the file. Reading may start at any time: decoding then begins one keyframe earlier than needed, so that pictures which
refer across a keyframe (open groups, recovery points) are complete, and the frames are bit for bit those of reading
from the start. Where a container cannot be sought reliably the file is decoded from its start and the beginning thrown
away.

Used through :meth:`apisr.video.source.VideoSource.frames`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import cast

import av
import numpy as np
from av.error import EOFError as AvEOFError
from av.error import FFmpegError
from av.video.stream import VideoStream
from numpy.typing import DTypeLike

from apisr.core.errors import RunError
from apisr.core.progress import Cancel
from apisr.image import ImageInt
from apisr.video import ffv1
from apisr.video.clock import seam_packets
from apisr.video.fields import FieldFilter, TimedFrame, filtered_fields
from apisr.video.index import PacketIndex
from apisr.video.info import SourceInfo
from apisr.video.libav import crop_exactly, reason
from apisr.video.probe import open_file, packets_of
from apisr.video.rgb import ToRgb
from apisr.video.sizes import stream_header

_SAFE_DISTANCE_KEYFRAMES = 1
_MOST_PROBLEMS = 5


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        pts: presentation time in units of the video's time base.
        duration: how long it is shown in the same units, 0 if unknown.
        rgb: ``(height, width, 3)`` uint8 or uint16.
        damaged: whether the decoder had to conceal errors in it.
    """

    pts: int
    duration: int
    rgb: ImageInt
    damaged: bool = False


@dataclass
class ReadReport:
    """What happened while reading (filled in as frames come out).

    Attributes:
        frames: frames given out.
        damaged: frames with concealed errors, and packets that could not be decoded.
        problems: what the decoder or the demuxer reported, the first ones.
        sizes: the (width, height) of the frames, where they change inside the file, in the order of their coming.
        decode_s: seconds spent in decoding, filters and colour.
    """

    frames: int = 0
    damaged: int = 0
    problems: list[str] = field(default_factory=list[str])
    sizes: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    decode_s: float = 0.0

    def note(self, problem: str) -> None:
        """Count a damage and keep its description if it is among the first."""
        self.damaged += 1
        if len(self.problems) < _MOST_PROBLEMS:
            self.problems.append(problem.replace("\n", " ").strip())


def read_frames(
    source: SourceInfo,
    index: PacketIndex,
    *,
    start: int | None = None,
    end: int | None = None,
    dtype: DTypeLike = np.uint8,
    fields: FieldFilter = "none",
    threads: int = 0,
    report: ReadReport | None = None,
    cancel: Cancel | None = None,
) -> Iterator[Frame]:
    """Read frames with ``start <= pts < end`` in presentation order (see :meth:`VideoSource.frames`).

    Raises:
        RunError: reading fails in a way that leaves no frames.
        Cancelled: a stop was asked for.
    """
    log = report if report is not None else ReadReport()
    convert = ToRgb(source.video.colour, dtype)
    decoded = decoded_frames(
        source, index, start=start if fields != "detelecine" else None, threads=threads, report=log
    )
    stage = decoded if fields == "none" else filtered_fields(decoded, source, fields)
    last: int | None = None
    clock = time.perf_counter()
    for pts, duration, picture in stage:
        if cancel is not None:
            cancel.check()
        if last is not None and pts <= last:
            pts = last + 1  # two frames cannot share a time
        last = pts
        if start is not None and pts < start:
            continue
        if end is not None and pts >= end:
            break
        damaged = bool(picture.is_corrupt)
        log.damaged += damaged
        log.frames += 1
        size = (picture.width, picture.height)
        if not log.sizes or log.sizes[-1] != size:
            log.sizes.append(size)
        rgb = _cropped(convert(picture), source.video.crop)
        log.decode_s += time.perf_counter() - clock
        yield Frame(pts, duration, rgb, damaged)
        clock = time.perf_counter()
    log.decode_s += time.perf_counter() - clock


def decoded_frames(
    source: SourceInfo,
    index: PacketIndex | None,
    *,
    start: int | None = None,
    threads: int = 0,
    report: ReadReport,
) -> Iterator[TimedFrame]:
    """Yield decoded frames in presentation order from a safe place before `start`."""
    origin, limit = _entry_point(index, start)
    if origin is not None and limit is not None:
        sought = _Pass(source, index, report, threads).frames(origin=origin, limit=limit)
        first = next(sought, None)
        if first is not None:
            yield first
            yield from sought
            return
    yield from _Pass(source, index, report, threads).frames()


def _cropped(rgb: ImageInt, crop: tuple[int, int, int, int]) -> ImageInt:
    if not any(crop):
        return rgb
    top, bottom, left, right = crop
    return np.ascontiguousarray(rgb[top : rgb.shape[0] - bottom, left : rgb.shape[1] - right])


def _entry_point(index: PacketIndex | None, start: int | None) -> tuple[int | None, int | None]:
    """Return (where to seek, the latest keyframe that may come first), None to read from the beginning."""
    if index is None or start is None or not index.seekable:
        return None, None
    needed = int(np.searchsorted(index.keyframes, start, side="right")) - 1
    if needed - _SAFE_DISTANCE_KEYFRAMES <= 0:
        return None, None
    return int(index.keyframes[needed - _SAFE_DISTANCE_KEYFRAMES]), int(index.keyframes[needed])


class _Pass:
    """Decodes a file once, from its beginning or from a keyframe."""

    def __init__(self, source: SourceInfo, index: PacketIndex | None, report: ReadReport, threads: int) -> None:
        self._source = source
        self._report = report
        self._threads = threads
        self._parts = list(index.parts) if index is not None else []
        self._seams = seam_packets(self._parts)
        self._sizes_change = bool(index is not None and index.sizes)
        self._header: bytes | None = None
        self._turns = zip(index.pts.tolist(), index.duration.tolist(), strict=True) if index is not None else iter(())
        self._step = max(1, round((1 / (source.video.declared_rate or Fraction(24))) / source.video.time_base))
        self._last: int | None = None
        self._shift = 0
        self._number = 0

    def frames(self, *, origin: int | None = None, limit: int | None = None) -> Iterator[TimedFrame]:
        """Decode from the beginning or from `origin`; nothing is yielded if seeking lands after `limit`."""
        video = self._source.video
        with open_file(self._source.path) as container:
            stream = cast(VideoStream, container.streams[video.index])
            crop_exactly(stream)
            stream.codec_context.thread_count = self._threads
            stream.thread_type = "AUTO"
            if origin is not None:
                try:
                    container.seek(origin, stream=stream, backward=True)
                except FFmpegError:
                    return
            packets = packets_of(container, video.index)
            if origin is not None:
                first = next((packet for packet in packets if packet.is_keyframe), None)
                if first is None or limit is None or first.pts is None or first.pts > limit:
                    return
                yield from self._timed(self._decode(first))
            while (packet := self._next(packets)) is not None:
                if self._begins_anew(packet):
                    yield from self._timed(self._flush(stream))
                    stream.codec_context.flush_buffers()
                yield from self._timed(self._decode(packet))
            yield from self._timed(self._flush(stream))

    def _next(self, packets: Iterator[av.Packet[VideoStream]]) -> av.Packet[VideoStream] | None:
        try:
            return next(packets, None)
        except FFmpegError as error:  # reading failed: what came before it is good
            self._report.note(reason(error))
            return None

    def _begins_anew(self, packet: av.Packet[VideoStream]) -> bool:
        """Whether pictures of another size begin: decoders throw away what they still hold."""
        if not self._sizes_change or not packet.is_keyframe:
            return False
        before, header = self._header, stream_header(self._source.video.codec, bytes(packet))
        self._header = header or before
        return before is not None and header is not None and header != before

    def _decode(self, packet: av.Packet[VideoStream]) -> list[av.VideoFrame]:
        at_seam = self._number in self._seams
        if not packet.is_discard:
            while self._parts and self._parts[0].first_packet <= self._number:
                self._shift = self._parts.pop(0).shift
            self._number += 1
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        if packet.is_corrupt and not at_seam:
            self._report.note("a damaged packet")
        if self._source.video.codec == "ffv1" and (bad := ffv1.damaged_slices(bytes(packet))):
            self._report.note(f"{bad} slices of a frame fail their checksum")
        try:
            return packet.decode()
        except AvEOFError:
            return []
        except MemoryError as error:
            raise RunError(
                f"out of memory while decoding '{self._source.path}'. Close other programs.", code="out-of-memory"
            ) from error
        except (FFmpegError, ValueError) as error:
            self._report.note(reason(error))
            return []

    def _flush(self, stream: VideoStream) -> list[av.VideoFrame]:
        try:
            return stream.decode(None)
        except AvEOFError:
            return []
        except (FFmpegError, ValueError) as error:
            self._report.note(reason(error))
            return []

    def _timed(self, frames: list[av.VideoFrame]) -> Iterator[TimedFrame]:
        for frame in frames:
            pts, duration = self._time_of(frame)
            self._last = pts
            yield TimedFrame(pts, duration, frame)

    def _time_of(self, frame: av.VideoFrame) -> tuple[int, int]:
        following = 0 if self._last is None else self._last + self._step
        if self._source.video.synthetic_timestamps:
            return next(self._turns, (following, self._step))
        duration = int(frame.duration or 0)
        if frame.pts is not None:
            return frame.pts, duration
        return following if self._last is not None or frame.dts is None else frame.dts, duration
