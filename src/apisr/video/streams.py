"""What becomes of every stream of a file: kept, converted without loss, left out on request, or an error before work.

Each container can carry some codecs and not others. What libav's muxers say about it is incomplete (some accept
everything and fail at the last packet, after a night of work), so the table is written out here.

    >>> sorted(CONTAINERS[".webm"].video)
    ['av1', 'vp8', 'vp9']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apisr.core.errors import InputError
from apisr.video.probe import SourceInfo, StreamInfo
from apisr.video.sequence import is_sequence

Action = Literal["upscale", "copy", "convert", "attach", "drop"]


@dataclass(frozen=True)
class Container:
    """What a file format can carry.

    Attributes:
        muxer: libav's name.
        video: codecs, None for any.
        audio: codecs, None for any.
        subtitle: codecs.
        data: codecs of data streams.
        attachments: whether it carries files (fonts).
        cover: whether it carries a cover picture.
        chapters: whether it carries chapters.
        variable_rate: whether frames may have any time.
        default_video: encoder that is used when none is named.
        options: options for the muxer.
    """

    muxer: str
    video: frozenset[str] | None
    audio: frozenset[str] | None
    subtitle: frozenset[str]
    data: frozenset[str] = frozenset()
    attachments: bool = False
    cover: bool = False
    chapters: bool = False
    variable_rate: bool = True
    default_video: str = "libx264"
    options: tuple[tuple[str, str], ...] = ()


_PCM = frozenset(
    f"pcm_{kind}"
    for kind in (
        *("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "u8", "s8"),
        *("f32le", "f32be", "f64le", "f64be", "alaw", "mulaw"),
    )
)
_MATROSKA_SUBTITLES = frozenset(
    [
        "subrip",
        "ass",
        "text",
        "webvtt",
        "hdmv_pgs_subtitle",
        "dvd_subtitle",
        "dvb_subtitle",
    ]
)
_MP4_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "dts", "opus", "alac", "flac", "vorbis", "truehd"})
_MOV_AUDIO = _PCM | {
    "aac",
    "mp3",
    "mp2",
    "ac3",
    "eac3",
    "alac",
    "amr_nb",
    "amr_wb",
    "adpcm_ima_qt",
    "gsm",
    "mace3",
    "mace6",
}
_TS_AUDIO = frozenset({"aac", "aac_latm", "mp2", "mp3", "mp1", "ac3", "eac3", "dts", "truehd", "opus", "s302m"})
_AVI_AUDIO = frozenset(
    [
        "mp3",
        "mp2",
        "ac3",
        "dts",
        "aac",
        "wmav1",
        "wmav2",
        "wmapro",
        "adpcm_ms",
        "adpcm_ima_wav",
        "gsm_ms",
        "flac",
        "pcm_s16le",
        "pcm_s24le",
        "pcm_s32le",
        "pcm_u8",
        "pcm_f32le",
        "pcm_alaw",
        "pcm_mulaw",
    ]
)

_MATROSKA = Container(
    "matroska",
    video=frozenset(
        {
            *("h264", "hevc", "av1", "vp8", "vp9", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3"),
            *("ffv1", "prores", "mjpeg", "theora", "dirac", "rv10", "rv20", "rv30", "rv40", "rawvideo"),
        }
    ),
    audio=(_PCM - {"pcm_s8", "pcm_f32be", "pcm_f64be", "pcm_alaw", "pcm_mulaw"})
    | {
        *("aac", "mp3", "mp2", "mp1", "ac3", "eac3", "dts", "truehd", "mlp", "opus", "vorbis", "flac", "alac", "tta"),
        *("wavpack", "cook", "sipr", "ra_144", "ra_288", "atrac3"),
    },
    subtitle=_MATROSKA_SUBTITLES,
    attachments=True,
    cover=True,
    chapters=True,
)
_MP4 = Container(
    "mp4",
    video=frozenset({"h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video", "vvc", "mjpeg", "ffv1"}),
    audio=_MP4_AUDIO,
    subtitle=frozenset({"mov_text", "dvd_subtitle"}),
    cover=True,
    chapters=True,
    options=(("movflags", "+faststart"),),
)

#: Numbered pictures carry nothing but pictures.
_PICTURES = Container("image2", frozenset({"ffv1"}), frozenset(), frozenset(), default_video="ffv1")

#: File ending -> what the format can carry.
CONTAINERS: dict[str, Container] = {
    ".mkv": _MATROSKA,
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container(
        "mov",
        video=frozenset(
            {
                "h264",
                "hevc",
                "prores",
                "mpeg4",
                "mpeg2video",
                "mjpeg",
                "dnxhd",
                "png",
                "qtrle",
                "rawvideo",
                "av1",
                "vp9",
            }
        ),
        audio=_MOV_AUDIO,
        subtitle=frozenset({"mov_text"}),
        cover=True,
        chapters=True,
        options=(("movflags", "+faststart"),),
    ),
    ".webm": Container(
        "webm",
        video=frozenset({"vp8", "vp9", "av1"}),
        audio=frozenset({"vorbis", "opus"}),
        subtitle=frozenset({"webvtt"}),
        chapters=True,
        default_video="libvpx-vp9",
    ),
    ".ts": Container(
        "mpegts",
        video=frozenset({"h264", "hevc", "mpeg2video", "mpeg1video", "mpeg4", "vvc"}),
        audio=_TS_AUDIO,
        subtitle=frozenset({"dvb_subtitle"}),
        data=frozenset({"timed_id3", "klv", "scte_35"}),
        options=(("mpegts_copyts", "1"),),
    ),
    # What Blu-ray numbers its streams by; anything else would be written as private data that no one can read back.
    ".m2ts": Container(
        "mpegts",
        video=frozenset({"h264", "hevc", "mpeg2video"}),
        audio=frozenset({"pcm_bluray", "ac3", "eac3", "dts", "truehd"}),
        subtitle=frozenset({"hdmv_pgs_subtitle"}),
        options=(("mpegts_copyts", "1"), ("mpegts_m2ts_mode", "1")),
    ),
    ".avi": Container(
        "avi",
        video=frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "mjpeg", "ffv1", "huffyuv", "ffvhuff"}),
        audio=_AVI_AUDIO,
        subtitle=frozenset(),
        variable_rate=False,
    ),
    ".nut": Container("nut", video=None, audio=None, subtitle=frozenset(), chapters=True),
}
CONTAINERS[".mts"] = CONTAINERS[".m2ts"]

#: Text subtitles that can be turned into another without loss: (from, to).
_CONVERSIONS = {
    ("subrip", "mov_text"),
    ("text", "mov_text"),
    ("mov_text", "subrip"),
}

#: Sound whose samples can be written plainly without loss: (codec, decoded samples) -> codec. The second half are
#: codecs that libav copies to AVI, but not to Matroska.
_SAMPLES = {
    ("pcm_bluray", "s16"): "pcm_s16le",
    ("pcm_bluray", "s32"): "pcm_s24le",
    ("pcm_dvd", "s16"): "pcm_s16le",
    ("pcm_dvd", "s32"): "pcm_s24le",
    ("pcm_s16be", "s16"): "pcm_s16le",
    ("pcm_s24be", "s32"): "pcm_s24le",
    ("pcm_s32be", "s32"): "pcm_s32le",
    ("pcm_s8", "u8"): "pcm_u8",
    ("pcm_f32be", "flt"): "pcm_f32le",
    ("pcm_f64be", "dbl"): "pcm_f64le",
    ("pcm_alaw", "s16"): "pcm_s16le",
    ("pcm_mulaw", "s16"): "pcm_s16le",
    ("adpcm_ms", "s16"): "pcm_s16le",
    ("adpcm_ms", "s16p"): "pcm_s16le",
    ("adpcm_ima_wav", "s16p"): "pcm_s16le",
    ("wmav1", "fltp"): "pcm_f32le",
    ("wmav2", "fltp"): "pcm_f32le",
    ("wmapro", "fltp"): "pcm_f32le",
    ("wmalossless", "s16p"): "pcm_s16le",
}


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream.

    Attributes:
        stream: what it is.
        action: ``upscale``, ``copy`` (packets untouched), ``convert`` (without loss), ``attach``, ``drop`` (asked for).
        codec: what it will be in the output, for ``convert``.
        reason: why, for people; empty for plain copies.
    """

    stream: StreamInfo
    action: Action
    codec: str = ""
    reason: str = ""


def container_of(target: Path) -> Container:
    """Return what the format of a file name can carry.

    Raises:
        InputError: the ending is not one of :data:`CONTAINERS`.
    """
    suffix = target.suffix.lower()
    if is_sequence(target):
        return _PICTURES
    if suffix not in CONTAINERS:
        raise InputError(
            f"cannot write '{target.name}': the ending '{suffix}' is no video format known here "
            f"(known: {', '.join(CONTAINERS)}). Choose one with -o."
        )
    return CONTAINERS[suffix]


def default_suffix(source: SourceInfo) -> str:
    """Return the file ending for the result of a source: its own where that carries everything, else ``.mkv``."""
    own = source.path.suffix.lower()
    return own if own in CONTAINERS and own not in (".webm", ".avi", ".nut") else ".mkv"


def plan_streams(source: SourceInfo, target: Path, drop: Sequence[str] = ()) -> tuple[StreamPlan, ...]:
    """Decide what becomes of each stream, before any work.

    Args:
        source: the file.
        target: name of the output; its ending decides what can be carried.
        drop: streams to leave out: numbers (``"3"``), kinds (``"subtitle"``, ``"attachment"``, ``"data"``, ``"audio"``,
            ``"cover"``) or ``"unsupported"`` (all that the output cannot carry).

    Raises:
        InputError: a stream cannot be carried and was not dropped; a selector names nothing known.
    """
    container = container_of(target)
    selected = _selected(source, drop)
    plans: list[StreamPlan] = []
    for stream in source.streams:
        if stream.index == source.video.index:
            plans.append(StreamPlan(stream, "upscale"))
        elif stream.index in selected:
            plans.append(StreamPlan(stream, "drop", reason="asked for"))
        else:
            plan = _plan_one(stream, container, source)
            if plan is None and container is _PICTURES:
                plan = StreamPlan(stream, "drop", reason="numbered pictures carry nothing else")
            if plan is None and "unsupported" in drop:
                plan = StreamPlan(stream, "drop", reason=f"{target.suffix} cannot carry it")
            if plan is None and not stream.codec:
                raise InputError(
                    f"stream {stream.label} of '{source.path.name}' has a codec that cannot be copied here. "
                    f"Add --drop-streams {stream.index} to leave it out."
                )
            if plan is None:
                raise InputError(
                    f"'{target.name}' cannot carry stream {stream.label} of '{source.path.name}'. Write to .mkv, "
                    f"or add --drop-streams {stream.index} to leave it out."
                )
            plans.append(plan)
    return tuple(plans)


def check_video_codec(target: Path, codec: str, encoder: str) -> None:
    """Check that the container carries what the encoder writes.

    Raises:
        InputError: it does not.
    """
    container = container_of(target)
    if container.video is not None and codec not in container.video:
        raise InputError(
            f"'{target.suffix}' cannot carry {codec} video (from {encoder}); it carries "
            f"{', '.join(sorted(container.video))}. Choose another --codec (default here: "
            f"{container.default_video}) or write to .mkv."
        )


def _plan_one(stream: StreamInfo, container: Container, source: SourceInfo) -> StreamPlan | None:
    if stream.kind == "attachment":
        return StreamPlan(stream, "attach") if container.attachments else None
    if stream.kind == "cover":
        if container.attachments:
            return StreamPlan(stream, "attach", reason="cover picture")
        return StreamPlan(stream, "copy", reason="cover picture") if container.cover else None
    if stream.kind == "video":
        allowed = container.video is None or stream.codec in container.video
        return StreamPlan(stream, "copy", reason="a further video stream, copied as it is") if allowed else None
    if stream.kind == "audio":
        if container.audio is None or stream.codec in container.audio:
            return StreamPlan(stream, "copy")
        plain = _SAMPLES.get((stream.codec, stream.sample_format), "")
        said = f"{stream.codec} becomes {plain}, samples and times unchanged"
        return StreamPlan(stream, "convert", codec=plain, reason=said) if plain in container.audio else None
    if stream.kind == "subtitle":
        return _plan_subtitle(stream, container)
    if stream.kind == "data":
        if stream.codec in container.data:
            return StreamPlan(stream, "copy")
        if "mov" in source.container and stream.codec in ("tmcd", "", "none", "bin_data"):
            if container.chapters and source.chapters and stream.codec == "bin_data":
                return StreamPlan(stream, "drop", reason="chapter titles, written anew as chapters")
            if stream.codec in ("tmcd", "", "none"):
                return StreamPlan(stream, "drop", reason="time code track, kept as the tag 'timecode'")
    return None


def _plan_subtitle(stream: StreamInfo, container: Container) -> StreamPlan | None:
    if stream.codec in container.subtitle:
        return StreamPlan(stream, "copy")
    for origin, result in sorted(_CONVERSIONS):
        if stream.codec == origin and result in container.subtitle:
            return StreamPlan(
                stream, "convert", codec=result, reason=f"{origin} becomes {result}, text and times unchanged"
            )
    return None


def _selected(source: SourceInfo, drop: Sequence[str]) -> set[int]:
    kinds = {"audio", "subtitle", "attachment", "data", "cover", "video"}
    chosen: set[int] = set()
    for selector in drop:
        word = selector.strip().lower().removesuffix("s") if not selector.strip().isdigit() else selector.strip()
        if word == "unsupported":
            continue
        if word.isdigit():
            if int(word) >= len(source.streams):
                raise InputError(
                    f"--drop-streams {word}: '{source.path.name}' has only streams 0 to {len(source.streams) - 1}."
                )
            if int(word) == source.video.index:
                raise InputError(f"--drop-streams {word}: that is the video to be upscaled. Name another stream.")
            chosen.add(int(word))
        elif word in kinds:
            chosen |= {
                stream.index for stream in source.streams if stream.kind == word and stream.index != source.video.index
            }
        else:
            raise InputError(
                f"--drop-streams '{selector}': expected a number, unsupported, or one of {', '.join(sorted(kinds))}."
            )
    return chosen
