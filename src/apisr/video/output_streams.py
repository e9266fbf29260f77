"""The streams of an output: what each is made from and how it is described, before the first packet is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from apisr.core.errors import RunError
from apisr.video.colour import Colour
from apisr.video.containers.matroska_edit import name_padding
from apisr.video.info import TrackDetails
from apisr.video.libav import AnyPacket, exact, open_read
from apisr.video.probe import codec_name
from apisr.video.source import VideoSource
from apisr.video.streams import StreamPlan
from apisr.video.subtitles import ASS_HEADER, srt_to_tx3g, tx3g_to_srt
from apisr.video.titles import track_tags
from apisr.video.writer import COUNT_UNIT, describe_pictures

#: Tags that describe the file they were in, not the work; they would be wrong in the output.
_FILE_TAGS = {"encoder", "major_brand", "minor_version", "compatible_brands"}
_VIDEO_TAGS = {"encoder", "duration", "vendor_id", "alpha_mode", "bps", "number_of_frames", "number_of_bytes"}
_STATISTICS = ("_statistics",)
#: Codes of languages, and how libav calls the one of QuickTime's numbers that means the same.
_QUICKTIME_LANGUAGES = {
    "sqi": "alb",
    "hye": "arm",
    "eus": "baq",
    "mya": "bur",
    "zho": "chi",
    "nld": "dut",
    "kat": "geo",
    "deu": "ger",
    "ell": "gre",
    "isl": "ice",
    "mkd": "mac",
    "msa": "may",
    "bod": "tib",
    "cym": "wel",
    "cze": "ces",
    "fre": "fra",
    "rum": "ron",
    "slo": "slk",
    "swe": "sve",
}

Conversion = Callable[[Any], bytes | None]
"""Gives the content of a packet in another form; None where it has none (a decoder that waits for more)."""


@dataclass(frozen=True)
class JoinSettings:
    """How the output is described.

    Attributes:
        unit: seconds of one unit of the times of the segments.
        rate: nominal frames per second.
        colour: tags of the video.
        sar: pixel aspect ratio, None if unknown.
        grid: constant rate on whose grid the frames lie (for containers without times), None for exact times.
        span: (start, end) in seconds to take from the other streams, each None where nothing is cut; None for all.
            Times are moved so that a start becomes 0.
        origin: seconds that are taken from all times where there is no start.
        tags: further tags of the file, such as the program, its version, the model and the settings.
    """

    unit: Fraction
    rate: Fraction
    colour: Colour
    sar: Fraction | None
    grid: Fraction | None = None
    span: tuple[Fraction | None, Fraction | None] | None = None
    tags: dict[str, str] = field(default_factory=dict[str, str])
    origin: Fraction = Fraction(0)

    @property
    def shift(self) -> Fraction:
        """Seconds that are taken from all times."""
        start = None if self.span is None else self.span[0]
        return self.origin if start is None else start


@dataclass
class OutputStreams:
    """The streams of the output, by the number that they have in the source.

    Attributes:
        video: the upscaled video.
        copies: streams whose packets are copied.
        converts: streams that take another form, and what gives it to a packet.
        video_place: place of the upscaled video among the tracks (attachments do not count).
        details: what is written into finished tracks of Matroska, by their place.
    """

    video: VideoStream
    copies: dict[int, Stream]
    converts: dict[int, tuple[Stream, Conversion]]
    video_place: int
    details: dict[int, TrackDetails]


def add_streams(
    out: OutputContainer,
    origin: InputContainer,
    first: InputContainer,
    source: VideoSource,
    plans: Sequence[StreamPlan],
    settings: JoinSettings,
    muxer: str,
) -> OutputStreams:
    """Add all streams that a plan keeps, in the order of the source.

    Args:
        out: the output.
        origin: the source, open.
        first: the first segment, open.
        source: the source.
        plans: what becomes of each stream.
        settings: how the output is described.
        muxer: of the output.

    Raises:
        RunError: the plan holds no video stream.
    """
    streams: OutputStreams | None = None
    copies: dict[int, Stream] = {}
    converts: dict[int, tuple[Stream, Conversion]] = {}
    details: dict[int, TrackDetails] = {}
    for plan in plans:
        origin_stream = origin.streams[plan.stream.index]
        if plan.action == "upscale":
            video = out.add_stream_from_template(first.streams.video[0], opaque=True)
            _describe_video(video, settings, muxer)
            if source.info.video.display_matrix is not None:
                video.set_display_matrix(source.info.video.display_matrix)
            streams = OutputStreams(video, copies, converts, len(copies) + len(converts), details)
            made: Stream = video
        elif plan.action == "copy":
            made = copied_stream(out, origin_stream, source, muxer)
            copies[plan.stream.index] = made
        elif plan.action == "convert":
            made, function = _converted_stream(out, origin_stream, plan.codec)
            converts[plan.stream.index] = (made, function)
        elif plan.action == "attach":
            made = _attach(out, source, origin_stream, plan)
        else:
            continue
        _describe_stream(made, origin_stream, plan, muxer)
        if plan.action == "attach":
            continue
        if muxer == "mpegts":
            made.id = origin_stream.id if "mpegts" in source.info.container else 0
        more = source.info.structure.tracks.get(plan.stream.index) if muxer == "matroska" else None
        if more is not None:
            details[len(copies) + len(converts) + (streams is not None) - 1] = more
        if muxer in ("matroska", "webm") and (more is not None or plan.action == "upscale"):
            made.metadata["title"] = made.metadata.pop("title", "") + name_padding(more or TrackDetails())
    if streams is None:
        raise RunError("the plan holds no video stream.", code="no-video-stream")
    return streams


def _describe_stream(made: Stream, origin: Stream, plan: StreamPlan, muxer: str) -> None:
    """Give a stream the tags and flags of the one that it is made from."""
    if plan.action == "upscale":
        made.metadata.clear()
    made.metadata.update(_kept_tags(track_tags(origin), plan))
    if "language" in made.metadata:
        made.metadata["language"] = language_for(muxer, made.metadata["language"])
    if plan.action != "attach":
        made.disposition = Disposition(int(origin.disposition))


def _kept_tags(tags: dict[str, str], plan: StreamPlan) -> dict[str, str]:
    """Leave out what describes the stream as it was: encoder and, of the video, its size and statistics."""
    if plan.action != "upscale":
        skipped = {"encoder"} if plan.action == "convert" else set[str]()
        return {key: value for key, value in tags.items() if key.lower() not in skipped}
    return kept_tags(tags)


def kept_file_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags of a file that describe the work, not the file they were in."""
    return {key: value for key, value in tags.items() if key.lower() not in _FILE_TAGS}


def language_for(muxer: str, language: str) -> str:
    """Return a language as the muxer wants it: that of QuickTime knows one of two codes (``"ger"``, not ``"deu"``)."""
    return _QUICKTIME_LANGUAGES.get(language, language) if muxer == "mov" else language


def kept_tags(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags of a video stream without what describes its size and coding."""
    kept: dict[str, str] = {}
    for key, value in tags.items():
        plain = key.lower().split("-")[0]
        if plain not in _VIDEO_TAGS and not plain.startswith(_STATISTICS):
            kept[key] = value
    return kept


def _describe_video(video: VideoStream, settings: JoinSettings, muxer: str) -> None:
    context = video.codec_context
    context.framerate = settings.rate
    describe_pictures(context, settings.colour, settings.sar)
    if muxer in ("mp4", "mov") and video.codec_context.codec.canonical_name == "hevc":
        context.codec_tag = "hvc1"
    if muxer == "avi" and codec_name(video) == "h264":
        context.extradata = _start_coded(context.extradata or b"")


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


def _attach(out: OutputContainer, source: VideoSource, stream: Stream, plan: StreamPlan) -> Stream:
    if plan.stream.kind == "attachment":
        attachment = cast(Any, stream)
        name = plan.stream.title or f"attachment{plan.stream.index}"
        return out.add_attachment(
            attachment.name or name, attachment.mimetype or "application/octet-stream", attachment.data
        )
    packet = next(_filled_packets(source, stream), None)
    if packet is None:
        raise RunError(f"the cover picture {plan.stream.label} holds no data.", code="empty-cover")
    kind = {"png": ("cover.png", "image/png")}.get(plan.stream.codec, ("cover.jpg", "image/jpeg"))
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    return out.add_attachment(tags.get("filename", kind[0]), tags.get("mimetype", kind[1]), bytes(packet))


def _filled_packets(source: VideoSource, stream: Stream) -> Iterator[AnyPacket]:
    """Read the packets of a stream that hold something."""
    return (packet for packet in source.packets({stream.index}) if packet.size)


def copied_stream(out: OutputContainer, origin: Stream, source: VideoSource, muxer: str) -> Stream:
    """Add a stream whose packets are copied, with what the muxer has to know of it."""
    made, codec = _as_stored(out, origin, source), codec_name(origin)
    if codec == "dvd_subtitle":
        _set_raster(made, source)
    if muxer == "avi" and codec.startswith("adpcm_"):
        _set_block_rate(made, origin, source)
    return made


def _as_stored(out: OutputContainer, origin: Stream, source: VideoSource) -> Stream:
    """Add a stream as the source has it.

    Newer libav states all that an edit list hides of a sound as a delay of its codec. Of those packets only the last
    are copied, so the stream is described as it is without the edit list.
    """
    if origin.type == "audio" and "mov" in source.info.container:
        first = next(_filled_packets(source, origin), None)
        if first is not None and first.is_discard and not primes_decoder(first):
            with open_read(source.info.path, options={"ignore_editlist": "1"}) as plain:
                return out.add_stream_from_template(plain.streams[origin.index], opaque=True)
    return out.add_stream_from_template(origin, opaque=True)


def primes_decoder(packet: AnyPacket) -> bool:
    """Whether a packet that an edit list hides is the one before the first that is heard, whose decoder needs it."""
    return packet.pts is not None and packet.pts < 0 < packet.pts + 2 * (packet.duration or 0)


def _set_block_rate(stream: Stream, origin: Stream, source: VideoSource) -> None:
    """Write the true bit rate: AVI counts the time of blocks by it, and what the source states can be anything."""
    for packet in _filled_packets(source, origin):
        if packet.duration:
            context = cast(AudioStream, stream).codec_context
            context.bit_rate = round(8 * packet.size / (packet.duration * exact(origin.time_base)))
            return


def _set_raster(stream: Stream, source: VideoSource) -> None:
    """Write the size of the screen that DVD subtitles are placed on, where their source has only the palette."""
    context = cast(Any, stream.codec_context)
    header = bytes(context.extradata or b"")
    if b"size:" not in header:
        context.extradata = "size: {}x{}\n".format(*source.info.video.coded_size).encode() + header


def _converted_stream(out: OutputContainer, origin: Stream, codec: str) -> tuple[Stream, Conversion]:
    if codec == "mov_text":
        stream = out.add_stream("mov_text")
        stream.codec_context.subtitle_header = ASS_HEADER
        stream.codec_context.time_base = COUNT_UNIT
        stream.time_base = COUNT_UNIT
        return stream, lambda packet: srt_to_tx3g(bytes(packet))
    if codec == "subrip":
        stream = out.add_mux_stream("subrip")
        stream.time_base = COUNT_UNIT
        return stream, lambda packet: tx3g_to_srt(bytes(packet))
    spoken = cast(AudioStream, origin).codec_context
    sound = cast(AudioStream, out.add_stream(cast(Any, codec), rate=spoken.sample_rate))
    sound.codec_context.layout = spoken.layout.name
    sound.codec_context.format = spoken.format.packed
    sound.time_base = exact(origin.time_base)
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


def add_metadata(out: OutputContainer, origin: InputContainer, source: VideoSource, settings: JoinSettings) -> None:
    """Copy tags and chapters of the file, on the clock of the output.

    Args:
        out: the output.
        origin: the source, open.
        source: the source; libav replaces the title of a Matroska file by a tag of that name where there is one.
        settings: how the output is described.
    """
    out.metadata.update(kept_file_tags(origin.metadata))
    if source.info.structure.title:
        out.metadata["title"] = source.info.structure.title
    out.metadata.update(settings.tags)
    chapters = origin.chapters()
    start, end = settings.shift, None if settings.span is None else settings.span[1]
    if start or end is not None:
        moved: list[Any] = []
        for chapter in chapters:
            unit = exact(chapter["time_base"])
            low = max(chapter["start"] * unit, start)
            high = chapter["end"] * unit if end is None else min(chapter["end"] * unit, end)
            if high > low:
                moved.append({**chapter, "start": round((low - start) / unit), "end": round((high - start) / unit)})
        chapters = moved
    if chapters:
        out.set_chapters(chapters)
