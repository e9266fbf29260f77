"""Writing video: encoded segments, and joining them with everything else that the source holds.

A segment is a small Matroska file with nothing but encoded frames, numbered 0, 1, 2, ... instead of timed, because
encoders round, reorder and sometimes refuse real time stamps. The exact times stand beside it and are put back when the
segments are joined: each frame has the time stamp of its source frame, in the source's own units. Decoding times are
worked out for the whole video at once (the sorted presentation times, shifted by the reordering depth), so that no seam
is visible to a player. All other streams are copied packet for packet.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError
from av.filter import Graph
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.stream import VideoStream

from apisr.core.errors import RunError
from apisr.core.processes import leave_realtime
from apisr.image import Pixels
from apisr.video.colour import Colour, FromRgb
from apisr.video.encoders import EncoderChoice, coded_size, configure
from apisr.video.libav import exact, open_write
from apisr.video.probe import SourceInfo, codec_name, open_input
from apisr.video.streams import StreamPlan, container_of
from apisr.video.subtitles import ASS_HEADER, srt_to_tx3g, tx3g_to_srt

_COUNT_UNIT = Fraction(1, 1000)
#: Tags that describe the file they were in, not the work; they would be wrong in the output.
_FILE_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands", "creation_time"}
_VIDEO_TAGS = {"encoder", "duration", "vendor_id"}


@dataclass(frozen=True)
class Segment:
    """One encoded segment.

    Attributes:
        pts: presentation times of its frames in units of the source, increasing.
        durations: of each frame, 0 if unsaid.
        delay: reordering depth of its packets.
        size_bytes: of the file.
        damaged: how many of its frames had concealed errors.
    """

    pts: tuple[int, ...]
    durations: tuple[int, ...]
    delay: int
    size_bytes: int
    damaged: int = 0

    def to_json(self) -> str:
        """Return the segment as one JSON object."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Segment:
        """Read :meth:`to_json`'s form."""
        data = json.loads(text)
        return Segment(tuple(data["pts"]), tuple(data["durations"]), data["delay"], data["size_bytes"], data["damaged"])


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
        self._convert = FromRgb(colour, choice.pixel_format)
        self._container = open_write(path, format="matroska")
        self._stream = cast(VideoStream, self._container.add_stream(choice.name, rate=rate))
        context = self._stream.codec_context
        configure(context, choice, self._coded, rate)
        _describe_pictures(context, colour, sar)
        self._shape = None if sar is None else _shape_graph(self._coded, choice.pixel_format, sar)

    def convert(self, rgb: Pixels) -> av.VideoFrame:
        """Turn ``(height, width, 3)`` RGB into a frame of the encoder's format."""
        wide = self._coded[0] - rgb.shape[1]
        tall = self._coded[1] - rgb.shape[0]
        if wide or tall:
            rgb = np.pad(rgb, ((0, tall), (0, wide), (0, 0)), mode="edge")
        return self._convert(rgb)

    def write(self, rgb: Pixels, pts: int, duration: int, *, damaged: bool = False) -> None:
        """Encode one frame; `pts` and `duration` are in units of the source."""
        frame = self.convert(rgb)
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

    def close(self) -> Segment:
        """Finish the file.

        Raises:
            RunError: the encoder lost or invented frames.
        """
        if self.frames:
            self._mux(self._stream.encode(None))
        self._container.close()
        if sorted(self._order) != list(range(self.frames)):
            raise RunError(
                f"the encoder gave {len(self._order)} pictures for {self.frames} frames in '{self.path.name}'."
            )
        delay = max((position - number for position, number in enumerate(self._order)), default=0)
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        size = self.path.stat().st_size
        return Segment(tuple(self._pts), tuple(self._durations), delay, size, self._damaged)

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
            packet.time_base = _COUNT_UNIT
            packet.pts = number
            packet.dts = min(max(decoded_at, 0), number)  # never decreasing, never late; made anew when joining
            packet.duration = 1
            self._order.append(number)
            packet.stream = self._stream
            self._container.mux(packet)


def _shape_graph(size: tuple[int, int], pixel_format: str, sar: Fraction) -> Graph:
    """Mark every frame with the pixel aspect ratio: some encoders (FFV1) take it from there only."""
    graph = Graph()
    source = graph.add_buffer(
        width=size[0], height=size[1], format=VideoFormat(pixel_format), time_base=Fraction(1, 1000)
    )
    shape = graph.add("setsar", f"sar={sar.numerator}/{sar.denominator}")
    graph.link_nodes(source, shape, graph.add("buffersink")).configure()
    return graph


def join(
    partial: Path,
    target: Path,
    source: SourceInfo,
    plans: Sequence[StreamPlan],
    segments: Sequence[tuple[Path, Segment]],
    *,
    rate: Fraction,
    colour: Colour,
    sar: Fraction | None,
    span: tuple[Fraction, Fraction | None] | None = None,
    tags: dict[str, str] | None = None,
    on_packet: Callable[[int], None] | None = None,
) -> None:
    """Write the final file: joined segments, and the other streams of the source.

    Args:
        partial: file to write.
        target: final name (decides the format).
        source: the file that the other streams come from.
        plans: see :func:`apisr.video.streams.plan_streams`.
        segments: files and what is in them, in order.
        rate: nominal frames per second.
        colour: tags of the video.
        sar: pixel aspect ratio.
        span: (start, end) in seconds to take from the other streams; times are moved so that start becomes 0.
        tags: further tags of the file.
        on_packet: told the number of video packets written so far.

    Raises:
        RunError: a segment cannot be read or the file cannot be written.
    """
    container = container_of(target)
    unit = source.video.time_base
    offset = span[0] if span else Fraction(0)
    with (
        open_input(source.path) as origin,
        open_input(segments[0][0]) as first,
        open_write(partial, format=container.muxer, options=dict(container.options)) as out,
    ):
        streams = _add_streams(
            out, origin, first, source, plans, rate=rate, colour=colour, sar=sar, muxer=container.muxer
        )
        _add_metadata(out, origin, tags or {}, span)
        if not container.variable_rate:
            streams.video.time_base = 1 / rate
        else:
            streams.video.time_base = unit
        out.start_encoding()
        video = _video_packets(streams.video, segments, unit, rate, offset, counted=not container.variable_rate)
        others = _other_packets(origin, source, streams, span)
        written = 0
        for is_video, packet in _merged(video, others):
            out.mux_one(packet)
            if is_video:
                written += 1
                if on_packet is not None:
                    on_packet(written)
    _flushed(partial)


_Conversion = Callable[[Any], bytes | None]
"""Gives the content of a packet in another form; None where it has none (a decoder that waits for more)."""


@dataclass
class _Streams:
    video: VideoStream
    copies: dict[int, Stream]
    converts: dict[int, tuple[Stream, _Conversion]]


def _add_streams(
    out: OutputContainer,
    origin: InputContainer,
    first: InputContainer,
    source: SourceInfo,
    plans: Sequence[StreamPlan],
    *,
    rate: Fraction,
    colour: Colour,
    sar: Fraction | None,
    muxer: str,
) -> _Streams:
    streams: _Streams | None = None
    copies: dict[int, Stream] = {}
    converts: dict[int, tuple[Stream, _Conversion]] = {}
    for plan in plans:
        origin_stream = origin.streams[plan.stream.index]
        if plan.action == "upscale":
            video = out.add_stream_from_template(first.streams.video[0], opaque=True)
            _describe_video(video, source, rate=rate, colour=colour, sar=sar, muxer=muxer)
            streams = _Streams(video, copies, converts)
            made: Stream = video
        elif plan.action == "copy":
            made = out.add_stream_from_template(origin_stream, opaque=True)
            if plan.stream.codec == "dvd_subtitle":
                _say_raster(made, source)
            copies[plan.stream.index] = made
        elif plan.action == "convert":
            made, function = _converted_stream(out, origin_stream, plan.codec)
            converts[plan.stream.index] = (made, function)
        elif plan.action == "attach":
            made = _attach(out, origin, origin_stream, plan)
        else:
            continue
        made.metadata.update(
            {key: value for key, value in origin_stream.metadata.items() if key.lower() not in _skipped(plan)}
        )
        if plan.action != "attach":
            made.disposition = Disposition(int(origin_stream.disposition))
            if muxer == "mpegts":
                made.id = origin_stream.id if "mpegts" in source.container else 0
    if streams is None:
        raise RunError("the plan holds no video stream.")
    return streams


def _skipped(plan: StreamPlan) -> set[str]:
    if plan.action != "upscale":
        return {"encoder"} if plan.action == "convert" else set()
    return _VIDEO_TAGS


def _describe_pictures(context: VideoCodecContext, colour: Colour, sar: Fraction | None) -> None:
    """Say what the pictures of a stream mean: colour and pixel aspect ratio."""
    if sar is not None:
        context.sample_aspect_ratio = sar
    context.color_primaries = colour.primaries
    context.color_trc = colour.transfer
    context.colorspace = colour.matrix
    context.color_range = 2 if colour.full_range else 1


def _describe_video(
    video: VideoStream, source: SourceInfo, *, rate: Fraction, colour: Colour, sar: Fraction | None, muxer: str
) -> None:
    context = video.codec_context
    context.framerate = rate
    _describe_pictures(context, colour, sar)
    if muxer in ("mp4", "mov") and video.codec_context.codec.canonical_name == "hevc":
        context.codec_tag = "hvc1"
    if muxer == "avi" and codec_name(video) == "h264":
        context.extradata = _start_coded(context.extradata or b"")
    if source.video.display_matrix is not None:
        video.set_display_matrix(source.video.display_matrix)


def _start_coded(header: bytes) -> bytes:
    """Turn an ``avcC`` record (ISO/IEC 14496-15, 5.3.3.1) into parameter sets with start codes."""
    if header[:1] != b"\x01":
        return header
    sets = b""
    at = 5
    for mask in (0x1F, 0xFF):
        count = header[at] & mask
        at += 1
        for _ in range(count):
            length = int.from_bytes(header[at : at + 2], "big")
            sets += b"\0\0\0\1" + header[at + 2 : at + 2 + length]
            at += 2 + length
    return sets


def _attach(out: OutputContainer, origin: InputContainer, stream: Stream, plan: StreamPlan) -> Stream:
    if plan.stream.kind == "attachment":
        attachment = cast(Any, stream)
        name = plan.stream.title or f"attachment{plan.stream.index}"
        return out.add_attachment(
            attachment.name or name, attachment.mimetype or "application/octet-stream", attachment.data
        )
    with open_input(Path(str(origin.name))) as again:
        for packet in again.demux(again.streams[stream.index]):
            if packet.size:
                kind = {"png": ("cover.png", "image/png")}.get(plan.stream.codec, ("cover.jpg", "image/jpeg"))
                tags = {key.lower(): value for key, value in stream.metadata.items()}
                return out.add_attachment(tags.get("filename", kind[0]), tags.get("mimetype", kind[1]), bytes(packet))
    raise RunError(f"the cover picture {plan.stream.label} holds no data.")


def _say_raster(stream: Stream, source: SourceInfo) -> None:
    """Say the size of the screen that DVD subtitles are placed on, where their source says only the palette."""
    context = cast(Any, stream.codec_context)
    header = bytes(context.extradata or b"")
    if b"size:" not in header:
        top, bottom, left, right = source.video.crop
        size = f"size: {source.video.width + left + right}x{source.video.height + top + bottom}\n"
        context.extradata = size.encode() + header


def _converted_stream(out: OutputContainer, origin: Stream, codec: str) -> tuple[Stream, _Conversion]:
    if codec == "mov_text":
        stream = out.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.codec_context.time_base = _COUNT_UNIT
        stream.time_base = _COUNT_UNIT
        return stream, lambda packet: srt_to_tx3g(bytes(packet))
    if codec == "subrip":
        stream = out.add_mux_stream("subrip")
        stream.time_base = _COUNT_UNIT
        return stream, lambda packet: tx3g_to_srt(bytes(packet))
    spoken = cast(AudioStream, origin).codec_context
    sound = cast(AudioStream, out.add_stream(cast(Any, codec), rate=spoken.sample_rate))
    sound.codec_context.layout = spoken.layout.name
    sound.codec_context.format = spoken.format.packed
    sound.time_base = origin.time_base
    return sound, lambda packet: _plain_samples(packet.decode(), codec)


def _plain_samples(frames: Sequence[av.AudioFrame], codec: str) -> bytes | None:
    """Return decoded samples in the order of bytes of a little-endian PCM codec; None where there are none."""
    parts: list[bytes] = []
    for frame in frames:
        samples = frame.to_ndarray()
        samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
        raw = np.ascontiguousarray(samples.astype(samples.dtype.newbyteorder("<")))
        if codec == "pcm_s24le":  # the upper three of four bytes
            raw = np.ascontiguousarray(raw.view(np.uint8).reshape(-1, 4)[:, 1:])
        parts.append(raw.tobytes())
    return b"".join(parts) or None


def _add_metadata(
    out: OutputContainer, origin: InputContainer, tags: dict[str, str], span: tuple[Fraction, Fraction | None] | None
) -> None:
    kept = {key: value for key, value in origin.metadata.items() if key.lower() not in _FILE_TAGS}
    out.metadata.update(kept)
    out.metadata.update(tags)
    chapters = origin.chapters()
    if span is not None:
        moved: list[Any] = []
        for chapter in chapters:
            unit = exact(chapter["time_base"])
            low = max(chapter["start"] * unit, span[0])
            high = chapter["end"] * unit if span[1] is None else min(chapter["end"] * unit, span[1])
            if high > low:
                moved.append({**chapter, "start": round((low - span[0]) / unit), "end": round((high - span[0]) / unit)})
        chapters = moved
    if chapters:
        out.set_chapters(chapters)


def _video_packets(
    stream: VideoStream,
    segments: Sequence[tuple[Path, Segment]],
    unit: Fraction,
    rate: Fraction,
    offset: Fraction,
    *,
    counted: bool,
) -> Iterator[tuple[Fraction, Packet[Any]]]:
    """Yield (decoding time in seconds, packet) of the joined segments."""
    shift = round(offset / unit)
    times = [pts - shift for _, segment in segments for pts in segment.pts]
    durations = [duration for _, segment in segments for duration in segment.durations]
    if counted:
        start = round(times[0] * unit * rate)
        times, durations, unit = list(range(start, start + len(times))), [1] * len(times), 1 / rate
    step = max(1, round(1 / rate / unit))
    delay = max((segment.delay for _, segment in segments), default=0)
    position = base = 0
    header: bytes | None = None
    for path, segment in segments:
        with open_input(path) as container:
            source = container.streams.video[0]
            extra = source.codec_context.extradata
            header = extra if header is None else header
            if extra != header:
                raise RunError(
                    f"'{path.name}' was encoded with other settings than the segments before it. Start again."
                )
            seen = 0
            for packet in _stored_as(container.demux(source), source, start_codes=counted):
                number = base + round(cast(int, packet.pts) * exact(source.time_base) / _COUNT_UNIT)
                packet.time_base = unit
                packet.pts = times[number]
                early = delay - position
                packet.dts = times[position - delay] if early <= 0 else times[0] - early * step
                following = times[number + 1] if number + 1 < len(times) else None
                length = durations[number] or (following - times[number] if following is not None else step)
                packet.duration = length
                packet.stream = stream
                seen += 1
                position += 1
                yield packet.dts * unit, packet
            if seen != len(segment.pts):
                raise RunError(f"'{path.name}' holds {seen} frames instead of {len(segment.pts)}. Start again.")
        base += len(segment.pts)


def _stored_as(
    packets: Iterator[Packet[VideoStream]], stream: VideoStream, *, start_codes: bool
) -> Iterator[Packet[VideoStream]]:
    """Give H.264 packets the start codes that AVI wants; its muxer, unlike others, does not do it by itself."""
    if start_codes and codec_name(stream) == "h264":
        change = BitStreamFilterContext("h264_mp4toannexb", in_stream=stream)
        for packet in packets:
            if packet.size:
                yield from cast(Any, change.filter(packet))
        return
    yield from (packet for packet in packets if packet.size)


def _other_packets(
    origin: InputContainer,
    source: SourceInfo,
    streams: _Streams,
    span: tuple[Fraction, Fraction | None] | None,
) -> Iterator[tuple[Fraction, Packet[Any]]]:
    wanted = [origin.streams[index] for index in sorted({*streams.copies, *streams.converts})]
    if not wanted:
        return
    covers = {info.index for info in source.streams if info.kind == "cover"}
    last = Fraction(-(10**6))
    ends: dict[int, int] = {}
    for packet in origin.demux(wanted):
        index = packet.stream.index
        if packet.pts is None and packet.dts is None and not packet.size:
            if index not in streams.converts or index not in ends:
                continue
            packet.pts = packet.dts = ends[index]  # what the decoder still holds
        elif packet.pts is not None:
            ends[index] = packet.pts + (packet.duration or 0)
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.pts is None:
            packet.pts = packet.dts
        unit = exact(packet.time_base)
        if span is not None and index not in covers:
            begin = cast(int, packet.pts) * unit
            finish = begin + (packet.duration or 0) * unit
            subtitle = packet.stream.type == "subtitle"
            if (finish <= span[0] if subtitle else begin < span[0]) or (span[1] is not None and begin >= span[1]):
                continue
            shift = round(span[0] / unit)
            packet.pts = max(0, cast(int, packet.pts) - shift)
            packet.dts = max(0, cast(int, packet.dts) - shift) if subtitle else cast(int, packet.dts) - shift
        moment = packet.dts * unit if packet.dts is not None else last
        last = moment
        if index in streams.converts:
            stream, function = streams.converts[index]
            content = function(packet)
            if content is None:
                continue
            changed = Packet(content)
            changed.time_base = unit
            changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
            changed.is_keyframe = True
            changed.stream = stream
            yield moment, changed
        else:
            packet.stream = streams.copies[index]
            yield moment, packet


def _merged(
    video: Iterator[tuple[Fraction, Packet[Any]]], others: Iterator[tuple[Fraction, Packet[Any]]]
) -> Iterator[tuple[bool, Packet[Any]]]:
    one, two = next(video, None), next(others, None)
    while one is not None or two is not None:
        if two is None or (one is not None and one[0] <= two[0]):
            if one is not None:
                yield True, one[1]
            one = next(video, None)
        else:
            yield False, two[1]
            two = next(others, None)


def _flushed(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def pack_frames(values: Sequence[int]) -> bytes:
    """Return whole numbers as little-endian 64-bit values (for hashing time stamps)."""
    return struct.pack(f"<{len(values)}q", *values)
