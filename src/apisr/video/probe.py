"""What is in a video file: streams, times, colour, shape; read before any work is done.

Nothing here trusts a header where the packets can be asked: the number of frames, their times and the places where the
video can be cut come from a pass over the packets (no decoding), because Matroska has no frame count, transport streams
have no duration, and the declared frame rate of variable-rate files is fiction.

    >>> import pathlib
    >>> info = probe(pathlib.Path("episode.mkv"))  # doctest: +SKIP
    >>> info.video.width, info.video.rate  # doctest: +SKIP
    (640, Fraction(24000, 1001))
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, cast

import av
import numpy as np
from av import logging as av_logging
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Discard, Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.video.colour import ChromaPosition, Colour, describe
from apisr.video.libav import open_read, rational, reason, reports, side_data
from apisr.video.matroska import declared_end, video_crop
from apisr.video.quicktime import clean_aperture
from apisr.video.sequence import check_sequence, is_sequence

Kind = Literal["video", "audio", "subtitle", "attachment", "data", "cover", "unknown"]

#: Frame rates that exist in the world; a measured rate within one part in a thousand of one of them is that one.
COMMON_RATES = tuple(
    Fraction(numerator, denominator)
    for numerator, denominator in (
        (24000, 1001),
        (24, 1),
        (25, 1),
        (30000, 1001),
        (30, 1),
        (48000, 1001),
        (48, 1),
        (50, 1),
        (60000, 1001),
        (60, 1),
        (12, 1),
        (12000, 1001),
        (15, 1),
        (15000, 1001),
        (10, 1),
        (120, 1),
        (120000, 1001),
    )
)
_PROBE_PACKETS = 400
_CHROMA_FIELD = re.compile(r"chroma_sample_(?:loc_type_top_field|position)\s+[01]+ = (\d)")
#: Containers whose packets carry no trustworthy presentation times; their frames are counted at a constant rate.
_COUNTED_CONTAINERS = {"avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "image2", "rawvideo", "yuv4mpegpipe"}


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a file.

    Attributes:
        index: its number in the file.
        kind: what it holds; ``cover`` is a picture attached to the file.
        codec: name of the codec (``"ass"``, ``"opus"``); empty if unknown.
        language: language tag, empty if there is none.
        title: title tag or file name of an attachment.
        default: whether players choose it by default.
        mimetype: of attachments.
        size_bytes: of attachments.
        sample_format: libav's name of what audio is decoded to (``"s16"``), empty if unknown.
    """

    index: int
    kind: Kind
    codec: str
    language: str = ""
    title: str = ""
    default: bool = False
    mimetype: str = ""
    size_bytes: int = 0
    sample_format: str = ""

    @property
    def label(self) -> str:
        """For people: ``#2 audio (opus, eng, 'Commentary')``."""
        said = [self.codec or "unknown codec", *([self.language] if self.language else [])]
        if self.title:
            said.append(f"'{self.title}'")
        return f"#{self.index} {self.kind} ({', '.join(said)})"


@dataclass(frozen=True)
class MasteringDisplay:
    """The display that a high dynamic range picture was graded on (SMPTE ST 2086).

    Attributes:
        primaries: chromaticities (x, y) of red, green, blue.
        white: chromaticity of white.
        luminance: (lowest, highest) in candela per square metre.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...]
    white: tuple[Fraction, Fraction]
    luminance: tuple[Fraction, Fraction]


@dataclass(frozen=True)
class VideoInfo:
    """The video stream that is upscaled.

    Attributes:
        index: its number in the file.
        codec: name of the codec.
        width: pixels of a frame as shown.
        height: lines of a frame as shown.
        pixel_format: libav's name.
        time_base: unit of its time stamps, in seconds.
        declared_rate: frames per second as the file says (only used where the packets say nothing).
        sar: width over height of one pixel, None if unsaid.
        display_matrix: rotation and mirroring for display (libav's nine numbers), None if unsaid.
        rotation: the same in degrees counter-clockwise.
        colour: what its numbers mean.
        interlaced: whether the first frames or the header say that it is interlaced.
        mastering: see :class:`MasteringDisplay`.
        light_level: (maximum, average) content light level in candela per square metre (CTA-861.3).
        dynamic_metadata: names of per-frame metadata that cannot be kept (Dolby Vision, HDR10+).
        counted: whether its frames are timed by counting (containers without presentation times).
        declared_frames: frame count of the header, 0 if unsaid.
        metadata: tags.
        disposition: flags.
        crop: pixels of the decoded frame that are not shown (top, bottom, left, right); `width` and `height` do not
            count them.
    """

    index: int
    codec: str
    width: int
    height: int
    pixel_format: str
    time_base: Fraction
    declared_rate: Fraction | None
    sar: Fraction | None
    display_matrix: tuple[int, ...] | None
    rotation: int
    colour: Colour
    interlaced: bool
    mastering: MasteringDisplay | None
    light_level: tuple[int, int] | None
    dynamic_metadata: tuple[str, ...]
    counted: bool
    declared_frames: int
    metadata: dict[str, str]
    disposition: int
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True)
class SourceInfo:
    """A video file.

    Attributes:
        path: where it is.
        container: libav's name of the format.
        streams: all streams.
        video: the one to upscale.
        chapters: number of chapters.
        duration: declared length in seconds, None if unsaid.
        start: declared time of the first packet in seconds.
        truncated: says how it is seen that the file is cut off, None if it is not.
    """

    path: Path
    container: str
    streams: tuple[StreamInfo, ...]
    video: VideoInfo
    chapters: int
    duration: Fraction | None
    start: Fraction
    truncated: str | None


@dataclass(frozen=True)
class PacketIndex:
    """Times of the packets of a video stream, in presentation order, from a pass without decoding.

    Attributes:
        pts: presentation times in time base units, sorted; synthetic (0, 1, ...) for counted containers.
        duration: of each, 0 if unsaid.
        keyframes: the pts of packets where decoding can start, sorted.
        rate: frames per second: the most common distance, snapped to the usual rates.
        variable: whether distances differ by more than the rounding of the time base.
        dated: whether every packet had its own presentation time.
        problems: what the demuxer complained about: parts of the file are damaged.
        hidden: packets that an edit list hides.
    """

    pts: NDArray[np.int64]
    duration: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    rate: Fraction
    variable: bool
    dated: bool
    problems: tuple[str, ...] = ()
    hidden: int = 0

    @property
    def frames(self) -> int:
        """How many packets there are: the number of frames, unless some cannot be decoded."""
        return int(self.pts.size)


def open_input(path: Path) -> InputContainer:
    """Open a file for reading; tags that are not UTF-8 survive as they are.

    Raises:
        InputError: missing, empty, or nothing that libav knows.
    """
    if is_sequence(path):
        first = check_sequence(path)[0]
        return open_read(path, format="image2", options={"start_number": str(first)})
    if not path.exists():
        raise InputError(f"cannot read '{path}': no such file.")
    if path.is_dir():
        raise InputError(f"cannot read '{path}': it is a folder. Give a video file.")
    if path.stat().st_size == 0:
        raise InputError(f"cannot read '{path}': the file is empty.")
    try:
        return open_read(path)
    except PermissionError as error:
        raise InputError(f"cannot read '{path}': permission denied.") from error
    except (FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"cannot read '{path}': not a video that can be opened ({reason(error)}). "
            "Check that the file is complete and is a video."
        ) from error


def probe(path: Path) -> SourceInfo:
    """Read what a video file holds (decodes its first frame).

    Raises:
        InputError: not readable, no video stream, or a video stream whose frames cannot be decoded.
    """
    with open_input(path) as container:
        streams = tuple(_stream_info(stream) for stream in container.streams)
        chosen = next((info for info in streams if info.kind == "video"), None)
        if chosen is None:
            found = ", ".join(sorted({info.kind for info in streams})) or "no streams at all"
            raise InputError(
                f"cannot read '{path}': no video stream (found: {found}). Give a file with a video stream."
            )
        video = cast(VideoStream, container.streams[chosen.index])
        counted = container.format.name in _COUNTED_CONTAINERS
        chapters = len(container.chapters())
        duration = None if container.duration is None else Fraction(container.duration, 1_000_000)
        start = Fraction(container.start_time or 0, 1_000_000)
        name = container.format.name
        info = _video_info(path, container, video, counted=counted)
    return SourceInfo(path, name, streams, info, chapters, duration, start, _truncation(path, name))


def scan(path: Path, video: VideoInfo) -> PacketIndex:
    """Read the times of all packets of the video stream.

    Raises:
        InputError: the stream has no packets.
    """
    times: list[int] = []
    durations: list[int] = []
    keys: list[int] = []
    dated = not video.counted
    failure: str | None = None
    hidden = 0
    with open_input(path) as container, reports() as problems:
        try:
            for packet in packets_of(container, video.index):
                if packet.is_discard:
                    hidden += 1
                    continue
                moment = packet.pts
                if moment is None:
                    dated = False
                    moment = packet.dts if packet.dts is not None else (times[-1] + 1 if times else 0)
                times.append(moment)
                durations.append(packet.duration or 0)
                if packet.is_keyframe:
                    keys.append(moment)
        except FFmpegError as error:
            failure = reason(error)
    if not times:
        raise InputError(f"cannot read '{path}': its video stream holds no frames.")
    order = np.argsort(np.array(times, np.int64), kind="stable")
    pts = np.array(times, np.int64)[order]
    rate, variable = _rate(pts, video)
    if video.counted:  # frames are counted from the start, wherever reading begins: any of them may begin a part
        pts, dated = np.arange(pts.size, dtype=np.int64), True
        keys = list(range(pts.size))
    elif not dated:
        pts, keys = np.arange(pts.size, dtype=np.int64), [0]
    if failure is not None:
        problems.append(failure)
    lengths = np.array(durations, np.int64)[order]
    return PacketIndex(pts, lengths, np.array(sorted(keys), np.int64), rate, variable, dated, tuple(problems), hidden)


def packets_of(container: InputContainer, index: int) -> Iterator[av.Packet[VideoStream]]:
    """Yield the packets of one stream; the other streams are not read. A damaged end stops the iteration.

    Raises:
        InputError: reading fails in the middle of the file.
    """
    stream = cast(VideoStream, container.streams[index])
    for other in container.streams:
        if other.index != index:
            other.discard = Discard.all
    for packet in container.demux(stream):
        if packet.size:
            yield packet


def nominal_rate(times_s: NDArray[np.float64]) -> tuple[Fraction | None, bool]:
    """Find the frame rate behind a list of times.

    Args:
        times_s: sorted presentation times in seconds.

    Returns:
        The rate of the most common distance (None with less than two frames) and whether distances vary.

    >>> rate, variable = nominal_rate(np.round(np.arange(50) * 1001 / 24000, 3))
    >>> rate, variable
    (Fraction(24000, 1001), False)
    """
    steps = np.diff(times_s)
    steps = steps[steps > 0]
    if steps.size == 0:
        return None, False
    median = float(np.sort(steps)[(steps.size - 1) // 2])
    usual = steps[np.abs(steps - median) <= 0.0011]
    measured = 1.0 / float(usual.mean())
    variable = usual.size < steps.size
    tolerance = 2e-3
    if not variable:  # all of it counts: the rounding of single times averages out
        measured = steps.size / float(times_s[-1] - times_s[0])
        tolerance = 1e-4 + 0.0011 / float(times_s[-1] - times_s[0])
    best = min(COMMON_RATES, key=lambda rate: abs(float(rate) / measured - 1))
    if abs(float(best) / measured - 1) <= tolerance:
        return best, variable
    return Fraction(measured).limit_denominator(1001), variable


def _rate(pts: NDArray[np.int64], video: VideoInfo) -> tuple[Fraction, bool]:
    measured, variable = nominal_rate(pts.astype(np.float64) * float(video.time_base))
    declared = video.declared_rate
    if video.counted or measured is None:
        return (declared if declared and declared > 0 else measured) or Fraction(24), False
    if declared and declared > 0 and abs(float(declared / measured) - 1) < 1e-3:
        return declared.limit_denominator(100_000), variable
    return measured, variable


def _stream_info(stream: Stream) -> StreamInfo:
    kind: Kind = stream.type if stream.type in ("video", "audio", "subtitle", "attachment", "data") else "unknown"
    if kind == "video" and stream.disposition & Disposition.attached_pic:
        kind = "cover"
    tags = {key.lower(): value for key, value in stream.metadata.items()}
    size = len(cast(Any, stream).data) if kind == "attachment" else 0
    return StreamInfo(
        index=stream.index,
        kind=kind,
        codec=codec_name(stream),
        language="" if tags.get("language") == "und" else tags.get("language", ""),
        title=tags.get("title") or tags.get("filename", ""),
        default=bool(stream.disposition & Disposition.default),
        mimetype=tags.get("mimetype", ""),
        size_bytes=size,
        sample_format=_sample_format(stream) if kind == "audio" else "",
    )


def _sample_format(stream: Stream) -> str:
    sound = getattr(stream.codec_context, "format", None)
    return "" if sound is None else str(sound.name)


def codec_name(stream: Stream) -> str:
    """Return the codec's canonical name (``"av1"``, whatever library decodes it); empty if unknown.

    PyAV says nothing of codecs that it has no decoder for (teletext, ARIB captions).
    """
    context: Any = getattr(stream, "codec_context", None)
    if context is None:
        return "" if stream.type == "attachment" else (getattr(stream, "name", "") or "")
    try:
        return str(context.codec.canonical_name)
    except (AttributeError, ValueError):
        return str(stream.name or "")


def _video_info(path: Path, container: InputContainer, stream: VideoStream, *, counted: bool) -> VideoInfo:
    rate = rational(stream.guessed_rate) or rational(stream.average_rate)
    codec = codec_name(stream)
    time_base = rational(stream.time_base) or Fraction(1, 90_000)
    metadata, disposition, declared = dict(stream.metadata), int(stream.disposition), stream.frames
    sar = rational(stream.sample_aspect_ratio)
    field_order = stream.codec_context.field_order
    frame = _first_frame(path, container, stream)
    side = {kind: bytes(data) for kind, data in side_data(frame)}
    colour = describe(
        matrix=frame.colorspace,
        primaries=frame.color_primaries,
        transfer=frame.color_trc,
        colour_range=frame.color_range,
        height=frame.height,
        pixel_format=frame.format.name,
        codec=codec,
        chroma=_chroma_position(path, stream.index, codec),
    )
    if counted:
        time_base = 1 / (rate or Fraction(24))
    top = bottom = left = right = 0
    if "matroska" in container.format.name:
        top, bottom, left, right = video_crop(path)
    elif "mp4" in container.format.name:
        top, bottom, left, right = clean_aperture(path)
    if top + bottom >= frame.height or left + right >= frame.width:
        top = bottom = left = right = 0
    return VideoInfo(
        index=stream.index,
        codec=codec,
        width=frame.width - left - right,
        height=frame.height - top - bottom,
        pixel_format=frame.format.name,
        time_base=time_base,
        declared_rate=rate,
        sar=sar,
        display_matrix=_display_matrix(side.get("DISPLAYMATRIX")),
        rotation=frame.rotation,
        colour=colour,
        interlaced=frame.interlaced_frame or field_order in (2, 3, 4, 5),
        mastering=_mastering(side.get("MASTERING_DISPLAY_METADATA")),
        light_level=_light_level(side.get("CONTENT_LIGHT_LEVEL")),
        dynamic_metadata=tuple(
            words for key, words in (("DOVI_RPU_BUFFER", "Dolby Vision"), ("DYNAMIC_HDR_PLUS", "HDR10+")) if key in side
        ),
        counted=counted,
        declared_frames=declared,
        metadata=metadata,
        disposition=disposition,
        crop=(top, bottom, left, right),
    )


def _first_frame(path: Path, container: InputContainer, stream: VideoStream) -> av.VideoFrame:
    problem = "no frame in its first packets"
    try:
        for number, packet in enumerate(container.demux(stream)):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                problem, frames = reason(error), []
            if frames:
                return frames[0]
            if number > _PROBE_PACKETS:
                break
    except FFmpegError as error:
        problem = reason(error)
    raise InputError(
        f"cannot decode the video of '{path}' ({codec_name(stream) or 'unknown codec'}: {problem}). "
        "The file is damaged or its codec is not supported."
    )


def _chroma_position(path: Path, index: int, codec: str) -> ChromaPosition | None:
    """Read the chroma position from the headers of the bitstream; None if it is not said.

    PyAV does not pass this tag on, but libav's filter ``trace_headers`` spells out every field of the headers.
    """
    if codec not in ("h264", "hevc", "av1"):
        return None
    names = {1: "left", 2: "topleft"} if codec == "av1" else {0: "left", 1: "center", 2: "topleft"}
    before = av_logging.get_level()
    av_logging.set_level(av_logging.INFO)
    try:
        with open_input(path) as container, av_logging.Capture() as messages:
            stream = container.streams[index]
            headers = BitStreamFilterContext("trace_headers", in_stream=stream)
            for packet in container.demux(stream):
                headers.filter(packet)
                break
            said = [text for _, _, text in messages]
    except (FFmpegError, ValueError):
        return None
    finally:
        av_logging.set_level(before)
    for text in said:
        found = _CHROMA_FIELD.search(text)
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


def _truncation(path: Path, container: str) -> str | None:
    """Compare the sizes that a container declares with the size of the file."""
    if is_sequence(path):
        return None
    size = path.stat().st_size
    with path.open("rb") as file:
        if "matroska" in container:
            declared = declared_end(path)
        elif "mov" in container:
            declared = None
            at = 0
            while at + 8 <= size:
                file.seek(at)
                head = file.read(16)
                length = int.from_bytes(head[:4], "big")
                if length == 1:
                    length = int.from_bytes(head[8:16], "big")
                if length == 0:
                    break
                if length < 8:
                    break
                at += length
                declared = at
        elif container == "avi":
            head = file.read(8)
            declared = int.from_bytes(head[4:8], "little") + 8
            if declared <= 8:
                declared = None
        else:
            return None
    if declared is not None and declared > size:
        return f"it declares {declared} bytes and has {size}"
    return None
