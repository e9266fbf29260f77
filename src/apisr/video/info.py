"""What a video file says about itself: plain, picklable data, read by :mod:`apisr.video.probe`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from apisr.video.colour import Colour

#: Containers whose packets carry no presentation times; their frames take the times of the index in turn.
WITHOUT_TIMES = frozenset(
    {"avi", "h264", "hevc", "vvc", "m4v", "mpegvideo", "obu", "image2", "rawvideo", "yuv4mpegpipe"}
)
#: Of these, the ones whose packets have no place in time either: the frame rate is all there is.
RAW_CONTAINERS = WITHOUT_TIMES - {"avi"}

StreamKind = Literal["video", "audio", "subtitle", "attachment", "data", "cover", "unknown"]


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
        width: of video, 0 if unknown.
        height: of video, 0 if unknown.
        frames: number of frames of video that the header declares, 0 if it does not.
        duration_s: declared length in seconds, None if it is not declared.
        silent: whether it is an audio stream in which no sound was found (its format is unknown).
        thumbnail: whether the file marks it as a still or a row of thumbnails.
    """

    index: int
    kind: StreamKind
    codec: str
    language: str = ""
    title: str = ""
    default: bool = False
    mimetype: str = ""
    size_bytes: int = 0
    sample_format: str = ""
    width: int = 0
    height: int = 0
    frames: int = 0
    duration_s: float | None = None
    thumbnail: bool = False
    silent: bool = False

    @property
    def label(self) -> str:
        """For people: ``#2 audio (opus, eng, 'Commentary')``."""
        nameless = [] if self.kind == "attachment" else ["unknown codec"]
        parts = [*([self.codec] if self.codec else nameless), *([self.language] if self.language else [])]
        if self.title:
            parts.append(f"'{self.title}'")
        return f"#{self.index} {self.kind}" + (f" ({', '.join(parts)})" if parts else "")


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
        sar: width over height of one pixel, None if unknown.
        display_matrix: rotation and mirroring for display (libav's nine numbers), None if there is none.
        rotation: the same in degrees counter-clockwise.
        colour: what its numbers mean.
        interlaced: whether the first frames or the header say that it is interlaced.
        mastering: see :class:`MasteringDisplay`.
        light_level: (maximum, average) content light level in candela per square metre (CTA-861.3).
        dynamic_metadata: names of per-frame metadata that cannot be kept (Dolby Vision, HDR10+).
        synthetic_timestamps: whether its frames take the times of the index in turn, because the container has no
            presentation times.
        declared_frames: frame count of the header, 0 if there is none.
        metadata: tags.
        disposition: flags.
        crop: pixels of the decoded frame that are not shown (top, bottom, left, right); `width` and `height` do not
            count them.
        separate_alpha: whether transparency is stored beside the picture, where the decoder does not read it (VP8,
            VP9).
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
    synthetic_timestamps: bool
    declared_frames: int
    metadata: dict[str, str]
    disposition: int
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    separate_alpha: bool = False

    @property
    def coded_size(self) -> tuple[int, int]:
        """Width and height of a decoded frame, with the pixels that are not shown."""
        top, bottom, left, right = self.crop
        return self.width + left + right, self.height + top + bottom


@dataclass(frozen=True)
class TrackDetails:
    """What a Matroska track says of itself that libav leaves out.

    Attributes:
        language: as a tag of BCP 47 (``pt-BR``), empty if it has none.
        enabled: False for a track that is switched off.
    """

    language: str = ""
    enabled: bool = True


@dataclass(frozen=True)
class FileStructure:
    """What a Matroska file has that libav flattens or leaves out; empty for other files.

    Attributes:
        words: what is flattened, for people: nested or ordered chapters, levels of tags.
        title: of the file, None if it has none.
        chapters: the element of all chapters, byte for byte (as `tags` and `identity`, only where `words` says so).
        tags: the elements of the tags that belong to the file, not to a track or an attachment.
        identity: by what other files refer to this one.
        tracks: what libav leaves out of the tracks, by number of the stream; only those that have any.
    """

    words: tuple[str, ...] = ()
    title: str | None = None
    chapters: bytes = b""
    tags: tuple[bytes, ...] = ()
    identity: bytes = b""
    tracks: Mapping[int, TrackDetails] = field(default_factory=dict[int, TrackDetails])


@dataclass(frozen=True)
class SourceInfo:
    """A video file.

    Attributes:
        path: where it is.
        container: libav's name of the format.
        streams: all streams.
        video: the one to upscale.
        chapters: number of chapters.
        duration: declared length in seconds, None if it is not declared.
        start: declared time of the first packet in seconds.
        truncated: how it shows that the file is cut off, None if it is not.
        problems: what the demuxer reported while the file was opened: parts of it are damaged.
        notices: what is worth knowing about the file, one sentence each.
        structure: what the file has that libav flattens.
        clock_may_jump: whether the clock of this kind of file may restart or jump (transport and program streams); it
            begins anywhere, too.
        tags: of the file.
        before_zero: time in seconds of the first packet where it lies before zero and libav does not say so (Matroska).
        animation: whether the file is an animated picture (AVIF), whose other streams are parts of that picture.
    """

    path: Path
    container: str
    streams: tuple[StreamInfo, ...]
    video: VideoInfo
    chapters: int
    duration: Fraction | None
    start: Fraction
    truncated: str | None
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    structure: FileStructure = FileStructure()
    clock_may_jump: bool = False
    tags: dict[str, str] = field(default_factory=dict[str, str])
    animation: bool = False
    before_zero: Fraction = Fraction(0)

    @property
    def origin(self) -> Fraction:
        """What a clock that begins anywhere shows at the beginning of the file, in seconds; 0 for other clocks."""
        if self.before_zero:
            return self.before_zero
        return self.start if self.clock_may_jump and not self.chapters else Fraction(0)
