"""Reads what is in an open video file: its streams, which of them is the video, and what its pictures are like.

The main video is one rule for the whole package (:func:`main_stream`): the largest picture area times duration among
the streams that are not covers or thumbnails. `stream` chooses another.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast, get_args

import av
from av import logging as av_logging
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream

from apisr.core.errors import InputError
from apisr.core.files import not_a_file
from apisr.video.colour import ChromaPosition, describe
from apisr.video.containers import matroska, mpegps, mpegts, quicktime
from apisr.video.early import early_times, timed
from apisr.video.info import (
    RAW_CONTAINERS,
    WITHOUT_TIMES,
    FileStructure,
    MasteringDisplay,
    SourceInfo,
    StreamInfo,
    StreamKind,
    VideoInfo,
)
from apisr.video.integrity import check_joined, chroma_of_y4m, truncation
from apisr.video.libav import AnyPacket, crop_exactly, open_read, rational, reason, reports, side_data
from apisr.video.sequence import check_sequence, is_sequence
from apisr.video.titles import track_tags

_PROBE_PACKETS = 400
_CHROMA_FIELD = re.compile(r"chroma_sample_(?:loc_type_top_field|position)\s+[01]+ = (\d)")
#: libav's flag of formats whose clock may break (AVFMT_TS_DISCONT).
_CLOCK_MAY_JUMP = 0x0200
_PICTURE_BRANDS = {"avif", "avis", "heic", "heix", "heis", "hevc", "mif1", "msf1"}
_STILL_CODECS = {"mjpeg", "png", "bmp", "webp", "tiff", "gif", "jpegxl"}
#: Formats in which a file, whatever it is called, names others that libav would open in its place.
_LISTS = {"concat", "hls", "dash", "imf", "sdp", "webm_dash_manifest"}
#: The bit of a packet's first byte that only headers have.
_HEADER_MARKS = {"theora": 0x80, "vorbis": 0x01}
#: Formats of packets without a gap: what finds the bytes between and behind them, and how the packets are called.
_PACKETS = {"mpegts": (mpegts.stray_bytes, "transport packets"), "mpeg": (mpegps.stray_bytes, "packets")}
#: Rows of JPEG pictures: short ones look like a single picture.
_MJPEG = (".mjpeg", ".mjpg")
_THUMBNAIL = Disposition.timed_thumbnails | Disposition.still_image


def open_file(path: Path) -> InputContainer:
    """Open a file for reading.

    Raises:
        InputError: missing, a folder, a pipe or a device, empty, or nothing that libav knows.
    """
    if is_sequence(path):
        first = check_sequence(path)[0]
        return open_read(path, format="image2", options={"start_number": str(first)})
    try:
        size, folder = path.stat().st_size, path.is_dir()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        why = "no such file" if missing else reason(error)
        raise InputError(f"cannot read '{path}': {why}.", code="no-such-file" if missing else "cannot-read") from error
    if folder:
        raise InputError(f"cannot read '{path}': it is a folder. Give a video file.", code="is-folder")
    if not path.is_file():
        raise not_a_file(path)
    if size == 0:
        raise InputError(f"cannot read '{path}': the file is empty.", code="empty-file")
    try:
        container = open_read(path, format="mjpeg" if path.suffix.lower() in _MJPEG else None)
    except PermissionError as error:
        raise InputError(f"cannot read '{path}': permission denied.", code="cannot-read") from error
    except MemoryError as error:
        raise InputError(f"cannot read '{path}': it asks for more memory than there is.", code="too-large") from error
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"cannot read '{path}': not a video that can be opened ({reason(error)}). "
            "Check that the file is complete and is a video.",
            code="not-a-video",
        ) from error
    if container.format.name in _LISTS:
        container.close()
        raise InputError(
            f"cannot read '{path}': it is a list of other files ({container.format.name}). "
            "Give these files themselves.",
            code="not-a-video",
        )
    return container


@dataclass(frozen=True)
class Probed:
    """What is known of a file after its first frame was decoded.

    Attributes:
        info: the description.
        packets: all packets of the video in the order of the file, from the first on (those that were read already
            come again).
    """

    info: SourceInfo
    packets: Iterator[av.Packet[VideoStream]]


def probe_container(
    container: InputContainer, path: Path, *, stream: int | None = None, rate: Fraction | None = None
) -> Probed:
    """Describe an open file; decodes its first frame.

    Args:
        container: the open file, nothing read from it.
        path: its name.
        stream: number of the video stream, None for the main one.
        rate: frames per second where the file has no times of its own.

    Raises:
        InputError: no video stream, a video stream whose frames cannot be decoded, or several files in one.
    """
    check_joined(path, container.format.name)
    if container.format.name.endswith("_pipe"):
        raise InputError(
            f"cannot read '{path}': it is a picture ({container.format.name.removesuffix('_pipe')}) of a kind that is "
            "not read. Convert it to PNG.",
            code="not-a-picture",
        )
    streams = stream_infos(container)
    chosen = main_stream(streams, path, stream)
    video = cast(VideoStream, container.streams[chosen.index])
    if getattr(video, "codec_context", None) is None:
        raise InputError(
            f"cannot decode the video of '{path}': its codec ({chosen.codec or 'not stated'}) is unknown here. "
            "The header is damaged, or the codec is not supported.",
            code="unknown-codec",
        )
    crop_exactly(video)
    packets = packets_of(container, chosen.index)
    first, held = _first_frame(path, packets, video)
    y4m = container.format.name == "yuv4mpegpipe"
    chroma = chroma_of_y4m(path) if y4m else _chroma_position(video, held, chosen.codec)
    info = _video_info(path, container, video, first, chroma, rate)
    duration = None if container.duration is None else Fraction(container.duration, 1_000_000)
    name = container.format.name
    source = SourceInfo(
        path=path,
        container=name,
        streams=streams,
        video=info,
        chapters=len(container.chapters()),
        duration=duration,
        start=Fraction(container.start_time or 0, 1_000_000),
        truncated=truncation(path, name),
        notices=_notices(path, name, streams, chosen, info, rate),
        structure=matroska.structure(path) if "matroska" in name else FileStructure(),
        clock_may_jump=bool(int(container.format.flags) & _CLOCK_MAY_JUMP),
        tags=dict(container.metadata),
        animation=container.metadata.get("major_brand", "") in _PICTURE_BRANDS,
        before_zero=min(early_times(container).values(), default=0) * info.time_base,
    )
    return Probed(source, itertools.chain(held, packets))


def main_stream(streams: Sequence[StreamInfo], path: Path, number: int | None = None) -> StreamInfo:
    """Choose the video stream: `number`, or the one with the largest picture area times duration.

    Covers, thumbnails and single pictures beside a longer video are not chosen by themselves. Of equals, the one that
    players choose by default comes first, then the first of the file.

    Raises:
        InputError: there is no video stream, or `number` is not one.
    """
    videos = [stream for stream in streams if stream.kind == "video"]
    if number is not None:
        chosen = next((stream for stream in streams if stream.index == number), None)
        if chosen is None or chosen.kind not in ("video", "cover"):
            labels = ", ".join(stream.label for stream in streams if stream.kind in ("video", "cover")) or "none"
            raise InputError(
                f"stream {number} of '{path}' is not a video stream (video streams: {labels}).", code="no-such-stream"
            )
        return chosen
    if not videos:
        kinds = ", ".join(sorted({stream.kind for stream in streams})) or "no streams at all"
        raise InputError(
            f"cannot read '{path}': no video stream (found: {kinds}). Give a file with a video stream.",
            code="no-video-stream",
        )
    longest = max((stream.duration_s or 0.0 for stream in videos), default=0.0)

    def weight(stream: StreamInfo) -> tuple[bool, float, bool, int]:
        single = stream.frames == 1 or (stream.codec in _STILL_CODECS and stream.frames == 0)
        moving = not stream.thumbnail and not (single and len(videos) > 1)
        duration = stream.duration_s if stream.duration_s is not None else longest
        return moving, stream.width * stream.height * max(duration, 1e-3), stream.default, -stream.index

    return max(videos, key=weight)


def packets_of(container: InputContainer, index: int) -> Iterator[av.Packet[VideoStream]]:
    """Yield the packets of one stream that hold a picture; the other streams are not read."""
    stream = cast(VideoStream, container.streams[index])
    codec = codec_name(stream)
    for other in container.streams:
        if other.index != index:
            other.discard = Discard.all
    packets = timed(container.demux(stream), early_times(container))
    return (packet for packet in packets if packet.size and not is_header(packet, codec))


def is_header(packet: AnyPacket, codec: str) -> bool:
    """Whether a packet is a header of its codec: where Ogg files are joined, those of the next one come as packets."""
    return codec in _HEADER_MARKS and bool(bytes(packet)[0] & _HEADER_MARKS[codec])


def codec_name(stream: Stream) -> str:
    """Return the codec's canonical name (``"av1"``, whatever library decodes it); empty if unknown.

    PyAV does not name codecs that it has no decoder for (teletext, ARIB captions).
    """
    context: Any = getattr(stream, "codec_context", None)
    if context is None:
        return "" if stream.type == "attachment" else (getattr(stream, "name", "") or "")
    try:
        return str(context.codec.canonical_name)
    except (AttributeError, ValueError):
        return str(stream.name or "")


def stream_infos(container: InputContainer) -> tuple[StreamInfo, ...]:
    """Describe the streams of an open file."""
    shared = "matroska" in container.format.name and len(container.streams) > 1
    return tuple(_stream_info(entry, shared_duration=shared) for entry in container.streams)


def _stream_info(stream: Stream, *, shared_duration: bool) -> StreamInfo:
    """Describe one stream; `shared_duration`: libav gives it the duration of the whole file."""
    kind: StreamKind = stream.type if stream.type in ("video", "audio", "subtitle", "attachment", "data") else "unknown"
    disposition = int(stream.disposition)
    if kind == "video" and disposition & Disposition.attached_pic:
        kind = "cover"
    tags = {key.lower(): value for key, value in track_tags(stream).items()}
    context: Any = getattr(stream, "codec_context", None)
    shown: Any = context if kind in ("video", "cover") else None
    return StreamInfo(
        index=stream.index,
        kind=kind,
        codec=codec_name(stream),
        language="" if tags.get("language") == "und" else tags.get("language", ""),
        title=tags.get("title") or tags.get("filename", ""),
        default=bool(disposition & Disposition.default),
        mimetype=tags.get("mimetype", ""),
        size_bytes=len(cast(Any, stream).data) if kind == "attachment" else 0,
        sample_format=_sample_format(context) if kind == "audio" else "",
        width=int(getattr(shown, "width", 0) or 0),
        height=int(getattr(shown, "height", 0) or 0),
        frames=int(stream.frames or 0),
        duration_s=_declared_seconds(stream, tags, shared=shared_duration),
        thumbnail=bool(disposition & _THUMBNAIL),
        silent=kind == "audio" and context is not None and not context.sample_rate,
    )


def _declared_seconds(stream: Stream, tags: dict[str, str], *, shared: bool) -> float | None:
    unit = rational(stream.time_base)
    if not shared and stream.duration is not None and stream.duration > 0 and unit is not None:
        return float(stream.duration * unit)
    clock = re.match(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", tags.get("duration", ""))
    if clock is None:
        return None
    return int(clock.group(1)) * 3600 + int(clock.group(2)) * 60 + float(clock.group(3))


def _sample_format(context: Any) -> str:
    sound = getattr(context, "format", None)
    return "" if sound is None else str(sound.name)


def _video_info(
    path: Path,
    container: InputContainer,
    stream: VideoStream,
    frame: av.VideoFrame,
    chroma: ChromaPosition | None,
    rate: Fraction | None,
) -> VideoInfo:
    format_name, codec = container.format.name, codec_name(stream)
    declared = rational(stream.guessed_rate) or rational(stream.average_rate)
    synthetic = format_name in WITHOUT_TIMES
    time_base = rational(stream.time_base) or Fraction(1, 90_000)
    if format_name in RAW_CONTAINERS:
        declared = rate or declared or Fraction(24)
        time_base = 1 / declared
    elif rate is not None:
        raise InputError(
            "--rate is for numbered pictures and raw streams; the frames of a video keep their own times.",
            code="rate-not-applicable",
        )
    side = {kind: bytes(data) for kind, data in side_data(frame)}
    top, bottom, left, right = _crop(path, format_name, frame)
    metadata = track_tags(stream)
    return VideoInfo(
        index=stream.index,
        codec=codec,
        width=frame.width - left - right,
        height=frame.height - top - bottom,
        pixel_format=frame.format.name,
        time_base=time_base,
        declared_rate=declared,
        sar=rational(stream.sample_aspect_ratio),
        display_matrix=_display_matrix(side.get("DISPLAYMATRIX")),
        rotation=frame.rotation,
        colour=describe(
            matrix=frame.colorspace,
            primaries=frame.color_primaries,
            transfer=frame.color_trc,
            colour_range=frame.color_range,
            height=frame.height,
            pixel_format=frame.format.name,
            codec=codec,
            chroma=chroma,
        ),
        interlaced=frame.interlaced_frame or stream.codec_context.field_order in (2, 3, 4, 5),
        mastering=_mastering(side.get("MASTERING_DISPLAY_METADATA")),
        light_level=_light_level(side.get("CONTENT_LIGHT_LEVEL")),
        dynamic_metadata=tuple(
            words for key, words in (("DOVI_RPU_BUFFER", "Dolby Vision"), ("DYNAMIC_HDR_PLUS", "HDR10+")) if key in side
        ),
        synthetic_timestamps=synthetic,
        declared_frames=int(stream.frames or 0),
        metadata=metadata,
        disposition=int(stream.disposition),
        crop=(top, bottom, left, right),
        separate_alpha={key.lower(): value for key, value in metadata.items()}.get("alpha_mode") == "1",
    )


def _crop(path: Path, container: str, frame: av.VideoFrame) -> tuple[int, int, int, int]:
    top = bottom = left = right = 0
    if "matroska" in container:
        top, bottom, left, right = matroska.video_crop(path)
    elif "mp4" in container:
        top, bottom, left, right = quicktime.clean_aperture(path)
    if top + bottom >= frame.height or left + right >= frame.width:
        return 0, 0, 0, 0
    return top, bottom, left, right


def _first_frame(
    path: Path, packets: Iterator[av.Packet[VideoStream]], stream: VideoStream
) -> tuple[av.VideoFrame, list[av.Packet[VideoStream]]]:
    """Decode until there is a frame; return it and the packets that were read."""
    problem, codec = "no frame in its first packets", codec_name(stream)  # not asked again: a failed decoder has none
    held: list[av.Packet[VideoStream]] = []
    try:
        for packet in packets:
            held.append(packet)
            try:
                frames = packet.decode()
            except FFmpegError as error:
                problem, frames = reason(error), []
            if frames:
                return frames[0], held
            if len(held) > _PROBE_PACKETS:
                break
        else:
            frames = stream.decode(None)
            if frames:
                return frames[0], held
    except (FFmpegError, ValueError) as error:  # reading failed, or the decoder could not be opened
        problem = reason(error)
    raise InputError(
        f"cannot decode the video of '{path}' ({codec or 'unknown codec'}: {problem}). "
        "The file is damaged or its codec is not supported.",
        code="cannot-decode",
    )


def _chroma_position(
    stream: VideoStream, packets: Sequence[av.Packet[VideoStream]], codec: str
) -> ChromaPosition | None:
    """Read the chroma position from the headers of the bitstream; None if it is not stated.

    PyAV does not pass this tag on, but libav's filter ``trace_headers`` spells out every field of the headers.
    """
    if codec not in ("h264", "hevc", "av1") or not packets:
        return None
    names = {1: "left", 2: "topleft"} if codec == "av1" else dict(enumerate(get_args(ChromaPosition)))
    copy = av.Packet(bytes(packets[0]))
    try:
        with reports(av_logging.INFO) as lines:
            BitStreamFilterContext("trace_headers", in_stream=stream).filter(copy)
    except (FFmpegError, ValueError):
        return None
    for line in lines:
        found = _CHROMA_FIELD.search(line.text)
        if found:
            return cast(ChromaPosition | None, names.get(int(found.group(1))))
    return None


def _display_matrix(data: bytes | None) -> tuple[int, ...] | None:
    if data is None or len(data) < 36:
        return None
    matrix = struct.unpack("=9i", data[:36])
    return None if matrix == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30) else matrix


def _mastering(data: bytes | None) -> MasteringDisplay | None:
    if data is None or len(data) < 88:
        return None
    numbers = struct.unpack("=22i", data[:88])
    if not (numbers[20] and numbers[21]) or 0 in numbers[1:20:2]:
        return None
    values = [Fraction(numbers[2 * index], numbers[2 * index + 1]) for index in range(10)]
    points = tuple((values[2 * index], values[2 * index + 1]) for index in range(3))
    return MasteringDisplay(points, (values[6], values[7]), (values[8], values[9]))


def _light_level(data: bytes | None) -> tuple[int, int] | None:
    if data is None or len(data) < 8:
        return None
    return struct.unpack("=2I", data[:8])


def _notices(
    path: Path,
    container: str,
    streams: Sequence[StreamInfo],
    chosen: StreamInfo,
    video: VideoInfo,
    rate: Fraction | None,
) -> tuple[str, ...]:
    notices: list[str] = []
    others = [stream for stream in streams if stream.kind == "video" and stream.index != chosen.index]
    if others and chosen.index > min(stream.index for stream in others):
        notices.append(
            f"stream {chosen.label} is the main video ({chosen.width}x{chosen.height}), not {others[0].label} "
            f"({others[0].width}x{others[0].height}); --video-stream chooses another."
        )
    if container in RAW_CONTAINERS and not is_sequence(path) and rate is None and container != "yuv4mpegpipe":
        notices.append(
            f"the stream has no times; it is taken as {float(video.declared_rate or 0):.3f} frames per second "
            "(--rate sets another)."
        )
    if container in _PACKETS:
        stray_bytes, packets = _PACKETS[container]
        strays, cut = stray_bytes(path)
        if strays:
            notices.append(f"{strays} bytes of the file are not whole {packets} and are passed over.")
        if cut:
            notices.append("the file ends in the middle of a packet; what is complete of it is used.")
    if video.separate_alpha:
        notices.append("the transparency of the video is stored apart from its pictures and is not kept.")
    oversized = matroska.oversized_attachments(path) if "matroska" in container else 0
    if oversized:
        notices.append(f"{oversized} attachments of more than 256 MB cannot be read and are left out.")
    return tuple(notices)
