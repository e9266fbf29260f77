"""Joining encoded segments with everything else that the source holds.

Each frame gets the time stamp of its source frame, in the source's own units. Decoding times are worked out for the
whole video at once (the sorted presentation times, shifted by the reordering depth), so that no seam is visible to a
player. All other streams are copied packet for packet, on the clock of the video; where their decoding times are
missing or do not increase they are made anew, for muxers refuse such packets at the end of the night.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import operator
from collections.abc import Callable, Generator, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from av.bitstream import BitStreamFilterContext
from av.container import InputContainer, OutputContainer
from av.error import FFmpegError, InvalidDataError
from av.format import Flags
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from apisr.core.errors import RunError
from apisr.core.files import flush_to_disk
from apisr.video.clock import decoding_times
from apisr.video.containers import avi, matroska_edit
from apisr.video.containers.base import Container
from apisr.video.containers.quicktime import movie_timescale
from apisr.video.containers.registry import container_of
from apisr.video.info import FileStructure
from apisr.video.libav import AnyPacket, exact, open_write, reason
from apisr.video.output_streams import (
    Conversion,
    JoinSettings,
    OutputStreams,
    add_metadata,
    add_streams,
    primes_decoder,
)
from apisr.video.probe import codec_name, open_file
from apisr.video.source import VideoSource
from apisr.video.streams import StreamPlan
from apisr.video.writer import COUNT_UNIT, EncodedSegment

#: What the system says of a disk; libav uses the other numbers of errors for whatever a muxer refuses.
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})


def join(
    partial: Path,
    target: Path,
    source: VideoSource,
    plans: Sequence[StreamPlan],
    segments: Sequence[tuple[Path, EncodedSegment]],
    settings: JoinSettings,
    *,
    on_packet: Callable[[int], None] | None = None,
) -> tuple[str, ...]:
    """Write the final file: joined segments, and the other streams of the source.

    Args:
        partial: file to write.
        target: final name (decides the format).
        source: the file that the other streams come from.
        plans: see :func:`apisr.video.streams.plan_streams`.
        segments: files and what is in them, in order.
        settings: how the output is described.
        on_packet: called with the number of video packets written so far.

    Returns:
        What went wrong while the other streams were read: the source is damaged.

    Raises:
        StreamRefused: the format does not take a stream; the file is not finished.
        RunError: a segment cannot be read, or the file cannot be written.
    """
    container = container_of(target)
    with (
        _refusals(),
        source.reopened() as origin,
        open_file(segments[0][0]) as first,
        open_write(partial, format=container.muxer, options=_muxer_options(container, origin, plans, settings)) as out,
    ):
        streams = add_streams(out, origin, first, source, plans, settings, container.muxer)
        add_metadata(out, origin, source, settings)
        streams.video.time_base = settings.unit if settings.grid is None else 1 / settings.grid
        video = _video_packets(streams.video, segments, settings)
        framed = _framed_sound(streams, plans)
        problems: list[str] = []
        others = _other_packets(origin, source, plans, streams, settings, problems)
        counts, damaged = _mux_all(out, video, others, on_packet)
        numbers = {made.index: number for number, made in streams.copies.items()}
        problems += [
            f"{count} packets of {_label(plans, numbers[made])} are damaged and left out"
            for made, count in damaged.items()
        ]
    if container.muxer == "avi":
        avi.correct_sound_headers(partial, {number: count for number, count in counts.items() if number in framed})
    _keep_what_libav_cannot_write(partial, container, source.info.structure, streams, settings)
    flush_to_disk(partial)
    return tuple(problems)


def _muxer_options(
    container: Container, origin: InputContainer, plans: Sequence[StreamPlan], settings: JoinSettings
) -> dict[str, str]:
    """Return the options of the muxer; MP4 and QuickTime get a clock that is fine enough for where streams begin."""
    options = dict(container.options)
    if container.muxer not in ("mp4", "mov"):
        return options
    units: list[Fraction] = []
    starts: list[Fraction] = []
    for plan in plans:
        stream = origin.streams[plan.stream.index]
        if plan.action in ("upscale", "copy", "convert") and stream.time_base:
            unit = settings.unit if plan.action == "upscale" else exact(stream.time_base)
            units.append(unit)
            starts.append(round((stream.start_time or 0) * exact(stream.time_base) / unit) * unit - settings.shift)
    length_s = Fraction(origin.duration or 0, 1_000_000)
    return options | {"movie_timescale": str(movie_timescale(units, starts, length_s))}


def _label(plans: Sequence[StreamPlan], number: int) -> str:
    return next(plan.stream.label for plan in plans if plan.stream.index == number)


def _framed_sound(streams: OutputStreams, plans: Sequence[StreamPlan]) -> set[int]:
    """Return the numbers of copied sound tracks whose packets are frames of their own in AVI."""
    return {
        streams.copies[plan.stream.index].index
        for plan in plans
        if plan.action == "copy" and plan.stream.codec in avi.FRAMED_AUDIO
    }


def _keep_what_libav_cannot_write(
    partial: Path, container: Container, structure: FileStructure, streams: OutputStreams, settings: JoinSettings
) -> None:
    """Put display size, languages, flags, nested chapters and levels of tags into a finished Matroska file."""
    if container.muxer in ("matroska", "webm"):
        matroska_edit.describe_tracks(partial, streams.video_place, settings.sar, streams.details)
    if container.structure and structure.words and settings.span is None and not settings.origin:
        matroska_edit.keep_structure(partial, structure, {*settings.tags, "ENCODER"})


class StreamRefused(RunError):  # noqa: N818 - what happened, and to which part of the work
    """A format does not take one of the streams; the message is what its muxer said."""

    default_code = "join-failed"


def _mux_all(
    out: OutputContainer,
    video: Iterator[tuple[Fraction, AnyPacket]],
    others: Iterator[tuple[Fraction, AnyPacket]],
    on_packet: Callable[[int], None] | None,
) -> tuple[dict[int, int], dict[int, int]]:
    """Write the header and all packets in the order of their times.

    Returns:
        How many packets each stream of the output got, and how many were refused, where it is the packets that are
        damaged: others of the same stream were taken.
    """
    written = 0
    counts: dict[int, int] = {}
    damaged: dict[int, int] = {}
    out.start_encoding()
    for is_video, packet in _merged(video, others):
        number = packet.stream.index
        try:
            out.mux_one(packet)
        except InvalidDataError:
            damaged[number] = damaged.get(number, 0) + 1
            if is_video or damaged[number] > counts.get(number, 0):
                raise
            continue
        counts[number] = counts.get(number, 0) + (1 if packet.size else 0)
        if is_video:
            written += 1
            if on_packet is not None:
                on_packet(written)
    return counts, damaged


@contextlib.contextmanager
def _refusals() -> Generator[None]:
    """Turn what the muxer refuses into one error; what the system refuses stays as it is."""
    try:
        yield
    except FFmpegError as error:
        if error.errno in _DISK_ERRORS:
            raise
        raise StreamRefused(reason(error)) from error


def _video_packets(
    stream: VideoStream,
    segments: Sequence[tuple[Path, EncodedSegment]],
    settings: JoinSettings,
) -> Iterator[tuple[Fraction, AnyPacket]]:
    """Yield (decoding time in seconds, packet) of the joined segments.

    Args:
        stream: where they go.
        segments: files and what is in them.
        settings: unit, rate, grid and start.
    """
    unit, grid = settings.unit, settings.grid
    shift = round(settings.shift / unit)
    times = [pts - shift for _, segment in segments for pts in segment.pts]
    durations = [duration for _, segment in segments for duration in segment.durations]
    if grid is not None:
        times = _on_grid([round(moment * unit * grid) for moment in times])
        durations, unit = [1] * len(times), 1 / grid
    step = max(1, round(1 / settings.rate / unit))
    delay = max((segment.delay for _, segment in segments), default=0)
    position = base = 0
    header: bytes | None = None
    for path, segment in segments:
        with open_file(path) as container:
            encoded = container.streams.video[0]
            extra = encoded.codec_context.extradata
            header = extra if header is None else header
            if extra != header:
                raise _bad_segment(path, "was encoded with other settings than the segments before it")
            count = 0
            for packet in _stored_as(container.demux(encoded), encoded, start_codes=grid is not None):
                number = base + round(cast(int, packet.pts) * exact(encoded.time_base) / COUNT_UNIT)
                if number >= base + len(segment.pts):
                    raise _bad_segment(path, f"holds more than {len(segment.pts)} frames")
                packet.time_base = unit
                packet.pts = times[number]
                early = delay - position
                packet.dts = times[position - delay] if early <= 0 else times[0] - early * step
                following = times[number + 1] if number + 1 < len(times) else None
                length = durations[number] or (following - times[number] if following is not None else step)
                packet.duration = length
                packet.stream = stream
                count += 1
                position += 1
                yield packet.dts * unit, packet
            if count != len(segment.pts):
                raise _bad_segment(path, f"holds {count} frames instead of {len(segment.pts)}")
        base += len(segment.pts)


def _bad_segment(path: Path, problem: str) -> RunError:
    return RunError(f"'{path.name}' {problem}. Start again with --restart.", code="bad-segment")


def _on_grid(places: Sequence[int]) -> list[int]:
    """Return increasing places; two frames that fall on one place take the next free ones."""
    result: list[int] = []
    for place in places:
        result.append(place if not result or place > result[-1] else result[-1] + 1)
    return result


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


class PacketOrder:
    """Gives the packets of one stream decoding times that every muxer takes: known, in order, not after showing.

    Packets can be shorter than the unit of the times of the source (those of TrueHD last 0.8 ms, Matroska counts whole
    ms). Moving each of them behind the one before would make the stream longer, so times are counted in the unit of
    the output where that is finer, and equal ones stay where the muxer takes them.

    Args:
        output: where the packets go.
        dts: the decoding times to give, where they were made anew.
    """

    def __init__(self, output: Stream, dts: Sequence[int] | None = None) -> None:
        self._dts = iter(dts) if dts is not None else None
        self._last: int | None = None
        self._unit = exact(output.time_base) if output.time_base else None
        self._least = 0 if output.container.format.flags & Flags.ts_nonstrict.value else 1

    def set(self, packet: AnyPacket) -> None:
        """Change the times of the next packet."""
        if self._dts is not None and packet.size:
            packet.dts = next(self._dts, packet.dts)
        if packet.dts is None:
            packet.dts = packet.pts
        if packet.pts is None:
            packet.pts = packet.dts
        self._refine(packet)
        if packet.dts is None or packet.pts is None:
            packet.pts = packet.dts = 0 if self._last is None else self._last + 1
        if self._last is not None and packet.dts < self._last + self._least:
            packet.dts = self._last + self._least
        packet.pts = max(packet.pts, packet.dts)
        self._last = packet.dts

    def _refine(self, packet: AnyPacket) -> None:
        unit = exact(packet.time_base)
        if self._unit is None or self._unit >= unit:
            return
        packet.pts = None if packet.pts is None else round(packet.pts * unit / self._unit)
        packet.dts = None if packet.dts is None else round(packet.dts * unit / self._unit)
        packet.duration = round((packet.duration or 0) * unit / self._unit)
        packet.time_base = self._unit


def _other_packets(
    origin: InputContainer,
    source: VideoSource,
    plans: Sequence[StreamPlan],
    streams: OutputStreams,
    settings: JoinSettings,
    problems: list[str],
) -> Iterator[tuple[Fraction, AnyPacket]]:
    numbers = sorted({*streams.copies, *streams.converts})
    if not numbers:
        return
    kinds = {plan.stream.index: plan.stream.kind for plan in plans}
    outputs = {**streams.copies, **{number: stream for number, (stream, _) in streams.converts.items()}}
    orders = {
        number: PacketOrder(outputs[number], _reordered(source, number) if kinds[number] == "video" else None)
        for number in numbers
    }
    span = settings.span or (None, None)
    ends: dict[int, int] = {}
    for packet in source.packets_from(origin, numbers, problems):
        index = packet.stream.index
        if packet.pts is None and packet.dts is None and not packet.size:
            if index not in streams.converts or index not in ends:
                continue
            packet.pts = packet.dts = ends[index]  # what the decoder still holds
        elif packet.pts is not None:
            ends[index] = packet.pts + (packet.duration or 0)
        if packet.is_discard and kinds[index] == "audio" and index in streams.copies and not primes_decoder(packet):
            continue
        if packet.size:
            orders[index].set(packet)
        unit = exact(packet.time_base)
        if kinds[index] != "cover":
            if not _inside(packet, unit, span, subtitle=kinds[index] == "subtitle"):
                continue
            _move(packet, round(settings.shift / unit))
            if span[0] is not None:
                _not_before_zero(packet, subtitle=kinds[index] == "subtitle")
        moment = cast(int, packet.dts) * unit
        if index in streams.converts:
            packet = _converted(packet, unit, *streams.converts[index], problems)
            if packet is None:
                continue
        else:
            packet.stream = streams.copies[index]
        yield moment, packet


def _reordered(source: VideoSource, number: int) -> list[int] | None:
    """Return decoding times of a further video stream, None where its own can be used."""
    pts: list[int | None] = []
    dts: list[int | None] = []
    step = 0
    for packet in source.packets({number}):
        if packet.size:
            pts.append(packet.pts)
            dts.append(packet.dts)
            step = step or max(1, packet.duration or 0)
    usable = None not in dts and all(itertools.starmap(operator.lt, itertools.pairwise(cast("list[int]", dts))))
    if usable or None in pts or source.index.parts:
        return None
    return decoding_times(cast("list[int]", pts), step=step)


def _move(packet: AnyPacket, back: int) -> None:
    if back and packet.pts is not None and packet.dts is not None:
        packet.pts -= back
        packet.dts -= back


def _inside(
    packet: AnyPacket, unit: Fraction, span: tuple[Fraction | None, Fraction | None], *, subtitle: bool = False
) -> bool:
    """Whether a packet falls into a span (a subtitle with its end)."""
    start, end = span
    begin = cast(int, packet.pts) * unit
    if start is not None and ((begin + (packet.duration or 0) * unit <= start) if subtitle else (begin < start)):
        return False
    return end is None or begin < end


def _not_before_zero(packet: AnyPacket, *, subtitle: bool) -> None:
    """Let a packet begin at 0 that began before the start of a part."""
    packet.pts = max(0, cast(int, packet.pts))
    if subtitle:
        packet.dts = max(0, cast(int, packet.dts))


def _converted(
    packet: AnyPacket, unit: Fraction, stream: Stream, function: Conversion, problems: list[str]
) -> AnyPacket | None:
    try:
        content = function(packet)
    except FFmpegError as error:
        problems.append(f"a packet of stream {packet.stream.index} cannot be decoded: {reason(error)}")
        return None
    if content is None:
        return None
    changed: AnyPacket = Packet(content)
    changed.time_base = unit
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    changed.is_keyframe = True
    changed.stream = stream
    return changed


def _merged(
    video: Iterator[tuple[Fraction, AnyPacket]], others: Iterator[tuple[Fraction, AnyPacket]]
) -> Iterator[tuple[bool, AnyPacket]]:
    one, two = next(video, None), next(others, None)
    while one is not None or two is not None:
        if two is None or (one is not None and one[0] <= two[0]):
            if one is not None:
                yield True, one[1]
            one = next(video, None)
        else:
            yield False, two[1]
            two = next(others, None)
