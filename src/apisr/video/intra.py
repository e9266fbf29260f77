"""Intra frames of a video, decoded without decoding anything else.

Training pictures come from intra frames (paper 3.1): the encoder spends most of its data on them, so they are the
cleanest pictures of a video. The usual way decodes every frame and asks its type. Here the packets are read first: the
type of the picture is in the first bytes of its packet (slice header of H.264 and HEVC, picture header of MPEG-1,
MPEG-2 and MPEG-4 part 2; for other codecs the container's key flag), and only the intra packets reach the decoder,
each on its own. An intra picture refers to nothing else, so it decodes alone, at the start of a group of pictures
and inside an open one. A packet is a few hundred bytes to read and a picture millions, hence the speed.

    >>> with IntraReader("tests/data/curate/two_scenes.mkv") as reader:  # doctest: +SKIP
    ...     for intra in reader:
    ...         print(intra.info.time, intra.info.kind, intra.frame.width)
    ...     reader.statistics.counts
"""

from __future__ import annotations

import collections
import contextlib
import math
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

import av.error
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from apisr.core.errors import InputError
from apisr.video.early import early_times, timed
from apisr.video.libav import rational
from apisr.video.probe import main_stream, open_file, stream_infos

#: ``key``: a random access point; ``intra``: an intra picture that later pictures may refer across (open group,
#: scene cut).
FrameKind = Literal["key", "intra"]

#: Type of a coded picture; ``other`` where the codec's headers are not read and the packet is no key frame.
PictureType = Literal["I", "P", "B", "other"]

#: Histogram bins per doubling of the packet size.
BINS_PER_OCTAVE = 4


@dataclass(frozen=True)
class PacketInfo:
    """Where an intra picture is.

    Attributes:
        number: ordinal of the packet among all packets of the stream, from 0, in file order.
        pts: presentation time stamp in units of the stream's time base (decoding time where the container has no
            other).
        time: the same in seconds, exact.
        kind: see :data:`FrameKind`.
        size_bytes: coded size of the packet.
    """

    number: int
    pts: int
    time: Fraction
    kind: FrameKind
    size_bytes: int


@dataclass(frozen=True)
class IntraFrame:
    """A decoded intra picture, and the pictures after it where they were asked for."""

    info: PacketInfo
    frame: VideoFrame
    following: tuple[VideoFrame, ...] = ()


@dataclass
class PacketStatistics:
    """What the packets of a stream say, gathered while reading.

    Attributes:
        counts: number of packets by picture type.
        total_bytes: sum of packet sizes by picture type.
        histogram: by picture type, packet sizes in bins of ``floor(BINS_PER_OCTAVE * log2(bytes))``.
        undecodable: intra packets that gave no picture.
        last_time: latest presentation time seen.
    """

    counts: dict[PictureType, int] = field(default_factory=dict[PictureType, int])
    total_bytes: dict[PictureType, int] = field(default_factory=dict[PictureType, int])
    histogram: dict[PictureType, dict[int, int]] = field(default_factory=dict[PictureType, dict[int, int]])
    undecodable: int = 0
    last_time: Fraction = Fraction(0)

    def add(self, kind: PictureType, size_bytes: int) -> None:
        """Count one packet."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.total_bytes[kind] = self.total_bytes.get(kind, 0) + size_bytes
        bins = self.histogram.setdefault(kind, {})
        position = math.floor(BINS_PER_OCTAVE * math.log2(max(size_bytes, 1)))
        bins[position] = bins.get(position, 0) + 1


class IntraReader:
    """Read the intra frames of a file's main video stream, in file order, in constant memory.

    Args:
        path: a video that FFmpeg's libraries can read.
        stream: number of the video stream, None for the main one.
        keyframes_only: only random access points, not the intra pictures inside open groups.
        numbers: only the packets with these ordinals are decoded (all intra packets where None); reading ends after
            the last.
        every: decode only one in `every` intra packets.
        spacing_s: and none that is shown within this many seconds of the last decoded one (videos of intra frames
        only).
        following: also decode this many pictures after each intra picture, in coding order.
        threads: decoders that work side by side.

    Raises:
        InputError: the file cannot be opened or has no video stream.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        stream: int | None = None,
        keyframes_only: bool = False,
        numbers: Collection[int] | None = None,
        every: int = 1,
        spacing_s: float = 0.0,
        following: int = 0,
        threads: int = 1,
    ) -> None:
        if every < 1:
            raise InputError(f"every must be at least 1, got {every}.", code="bad-option")
        self.path = Path(path)
        self.statistics = PacketStatistics()
        self._chosen = stream
        self._keyframes_only = keyframes_only
        self._numbers = None if numbers is None else frozenset(numbers)
        self._every = every
        self._spacing = Fraction(spacing_s)
        self._following = following
        self._stack = contextlib.ExitStack()
        try:
            self._container, self._stream = self._open()
            self._decoders: collections.deque[VideoCodecContext] = collections.deque()
            for _ in range(max(threads, 1)):
                _, decoder = self._open()
                context = decoder.codec_context
                context.thread_count = 1
                # Pictures decoded without what came before them count as damaged in H.264; they are not.
                context.options = {**dict(context.options or {}), "flags": "+output_corrupt+unaligned"}
                self._decoders.append(context)
        except BaseException:
            self._stack.close()
            raise
        context = self._stream.codec_context
        self.stream_index = self._stream.index
        self.codec = context.name
        self.width, self.height = context.width, context.height
        self.time_base = rational(self._stream.time_base) or Fraction(1, 1000)
        self.sample_aspect_ratio = rational(context.sample_aspect_ratio) or Fraction(1)
        self._classify = _Classifier(self.codec, bytes(context.extradata or b""))

    def __enter__(self) -> IntraReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[IntraFrame]:
        """Decode; broken packets are counted in ``statistics.undecodable`` and passed over."""
        workers = len(self._decoders)
        with ThreadPoolExecutor(workers) as pool:
            waiting: collections.deque[Future[IntraFrame | None]] = collections.deque()
            try:
                for info, packets in self._groups():
                    waiting.append(pool.submit(self._decode, info, packets))
                    while len(waiting) > workers + 1:
                        yield from self._finished(waiting.popleft())
                while waiting:
                    yield from self._finished(waiting.popleft())
            finally:
                for future in waiting:
                    future.cancel()

    def _finished(self, future: Future[IntraFrame | None]) -> Iterator[IntraFrame]:
        result = future.result()
        if result is None:
            self.statistics.undecodable += 1
        else:
            yield result

    def _open(self) -> tuple[Any, VideoStream]:
        container = self._stack.enter_context(open_file(self.path))
        infos = stream_infos(container)
        chosen = main_stream(infos, self.path, self._chosen)
        return container, cast(VideoStream, container.streams[chosen.index])

    def _packets(self) -> Iterator[tuple[int, Packet[VideoStream], PictureType, bool]]:
        number = 0
        packets = timed(self._container.demux(self._stream), early_times(self._container))
        while True:
            try:
                packet = next(packets, None)
            except (OSError, av.error.FFmpegError):
                return  # a damaged end: what came before it is good
            if packet is None:
                return
            if packet.size == 0:
                continue
            kind = self._classify(packet)
            self.statistics.add(kind, packet.size)
            yield number, packet, kind, packet.is_keyframe
            number += 1

    def _groups(self) -> Iterator[tuple[PacketInfo, list[Packet[VideoStream]]]]:
        """Yield each requested intra packet with the packets that follow it (as many as were asked for)."""
        open_groups: list[tuple[PacketInfo, list[Packet[VideoStream]]]] = []
        last = max(self._numbers, default=-1) if self._numbers is not None else None
        passed = 0
        last_time: Fraction | None = None
        for number, packet, kind, is_key in self._packets():
            for group in open_groups:
                group[1].append(packet)
            while open_groups and len(open_groups[0][1]) > self._following:
                yield open_groups.pop(0)
            stamp = packet.pts if packet.pts is not None else packet.dts
            time = Fraction(stamp or 0) * self.time_base
            self.statistics.last_time = max(self.statistics.last_time, time)
            if kind == "I" and (is_key or not self._keyframes_only):
                passed += 1
                if self._numbers is not None:
                    chosen = number in self._numbers
                else:
                    chosen = (passed - 1) % self._every == 0 and (
                        last_time is None or abs(time - last_time) >= self._spacing
                    )
                if chosen:
                    last_time = time
                    info = PacketInfo(number, stamp or 0, time, "key" if is_key else "intra", packet.size)
                    open_groups.append((info, [packet]))
                    if not self._following:
                        yield open_groups.pop()
            if last is not None and number >= last and not open_groups:
                return
        yield from open_groups

    def _decode(self, info: PacketInfo, packets: list[Packet[VideoStream]]) -> IntraFrame | None:
        context = self._decoders.popleft()
        try:
            frames: list[VideoFrame] = []
            try:
                for packet in [*packets, None]:
                    frames.extend(context.decode(packet))
            except (OSError, av.error.FFmpegError, ValueError):
                if not frames:
                    return None
            finally:
                context.flush_buffers()
        finally:
            self._decoders.append(context)
        return _arranged(info, packets[0], frames)


def _arranged(info: PacketInfo, packet: Packet[VideoStream], frames: list[VideoFrame]) -> IntraFrame | None:
    """Find the intra picture among what the decoder gave; what is shown after it follows."""
    if not frames:
        return None
    stamps = (packet.pts, packet.dts)
    position = next((n for n, frame in enumerate(frames) if frame.pts is not None and frame.pts in stamps), None)
    if position is None:
        if len(frames) > 1 and frames[0].pts is not None and packet.pts is not None:
            return None
        position = 0
    return IntraFrame(info, frames[position], tuple(frames[position + 1 :]))


class _Classifier:
    """Tell the type of a picture from the first bytes of its packet."""

    def __init__(self, codec: str, extradata: bytes) -> None:
        self._reader = {
            "h264": self._h264,
            "hevc": self._hevc,
            "mpeg1video": _mpeg12,
            "mpeg2video": _mpeg12,
            "mpeg4": _mpeg4,
        }.get(codec)
        self._extra_bits: dict[int, int] = {}  # HEVC: number of extra slice header bits by parameter set
        self._length_bytes = 0  # size of the length before each unit; 0: start codes
        if extradata[:1] == b"\x01" and codec == "h264" and len(extradata) > 6:
            self._length_bytes = (extradata[4] & 3) + 1
        elif extradata[:1] == b"\x01" and codec == "hevc" and len(extradata) > 22:
            self._length_bytes = (extradata[21] & 3) + 1
            self._read_parameter_sets(extradata)
        elif codec == "hevc":
            for unit in _units(memoryview(extradata), 0):
                self._hevc_parameter_set(unit)

    def __call__(self, packet: Packet[VideoStream]) -> PictureType:
        if self._reader is not None:
            kind = self._reader(memoryview(packet))  # pyright: ignore[reportArgumentType]
            if kind is not None:
                return kind
        return "I" if packet.is_keyframe else "other"

    def _h264(self, data: memoryview) -> PictureType | None:
        for unit in _units(data, self._length_bytes):
            if len(unit) > 1 and (unit[0] & 31) in (1, 2, 5):
                bits = _Bits(unit[1:17])
                bits.exp_golomb()
                kinds: tuple[PictureType, ...] = ("P", "B", "I", "P", "I")
                return kinds[bits.exp_golomb() % 5]
        return None

    def _hevc(self, data: memoryview) -> PictureType | None:
        for unit in _units(data, self._length_bytes):
            if len(unit) < 3:
                continue
            kind = (unit[0] >> 1) & 63
            if kind == 34:
                self._hevc_parameter_set(unit)
            elif kind < 32:
                bits = _Bits(unit[2:18])
                if not bits.take(1):  # not the first slice of its picture
                    continue
                if 16 <= kind <= 23:
                    bits.take(1)
                bits.take(self._extra_bits.get(bits.exp_golomb(), 0))
                kinds: tuple[PictureType, ...] = ("B", "P", "I")
                value = bits.exp_golomb()
                return kinds[value] if value < 3 else None
        return None

    def _hevc_parameter_set(self, unit: memoryview) -> None:
        if len(unit) < 4 or (unit[0] >> 1) & 63 != 34:
            return
        bits = _Bits(unit[2:18])
        identifier = bits.exp_golomb()
        bits.exp_golomb()
        bits.take(2)
        self._extra_bits[identifier] = bits.take(3)

    def _read_parameter_sets(self, extradata: bytes) -> None:
        """Read the parameter sets of an hvcC record (ISO/IEC 14496-15, 8.3.3.1)."""
        position = 23
        for _ in range(extradata[22]):
            count = int.from_bytes(extradata[position + 1 : position + 3], "big")
            position += 3
            for _ in range(count):
                size = int.from_bytes(extradata[position : position + 2], "big")
                position += 2
                self._hevc_parameter_set(memoryview(extradata)[position : position + size])
                position += size


class _Bits:
    """A bit reader over a few bytes (emulation prevention bytes cannot occur before the fields that are read here)."""

    def __init__(self, data: memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            return 0
        return (self._value >> self._left) & ((1 << count) - 1)

    def exp_golomb(self) -> int:
        zeros = 0
        while self._left > 0 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)


def _units(data: memoryview, length_bytes: int) -> Iterator[memoryview]:
    """Yield the network abstraction layer units of a packet, length-prefixed or after start codes."""
    if length_bytes:
        position = 0
        while position + length_bytes < len(data):
            size = int.from_bytes(data[position : position + length_bytes], "big")
            position += length_bytes
            yield data[position : position + size]
            position += size
        return
    whole = bytes(data)
    position = whole.find(b"\x00\x00\x01")
    while position >= 0:
        following = whole.find(b"\x00\x00\x01", position + 3)
        yield data[position + 3 : following if following >= 0 else len(whole)]
        position = following


def _mpeg12(data: memoryview) -> PictureType | None:
    whole = bytes(data)
    position = whole.find(b"\x00\x00\x01\x00")
    if position < 0 or position + 6 > len(whole):
        return None
    kinds: dict[int, PictureType] = {1: "I", 2: "P", 3: "B", 4: "I"}
    return kinds.get((whole[position + 5] >> 3) & 7)


def _mpeg4(data: memoryview) -> PictureType | None:
    whole = bytes(data)
    position = whole.find(b"\x00\x00\x01\xb6")
    if position < 0 or position + 5 > len(whole):
        return None
    kinds: tuple[PictureType, ...] = ("I", "P", "B", "P")
    return kinds[whole[position + 4] >> 6]
