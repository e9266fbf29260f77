"""What becomes of every stream of a file: kept, converted without loss, left out on request, or an error before work.

Each container can carry some codecs and not others. What libav's muxers say about it is incomplete (some accept
everything and fail at the last packet, after a night of work), so the table is written out here.

    >>> plans = plan_streams(source.info, target)  # doctest: +SKIP
    >>> [plan.action for plan in plans]  # doctest: +SKIP
    ['upscale', 'copy', 'attach']
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apisr.core.errors import InputError
from apisr.video.containers.base import Container
from apisr.video.containers.registry import container_of
from apisr.video.info import SourceInfo, StreamInfo

Action = Literal["upscale", "copy", "convert", "attach", "drop"]


#: So many streams are named in a refusal.
_MOST_NAMED = 6
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
    refused: list[StreamInfo] = []
    for stream in source.streams:
        if stream.index == source.video.index:
            plans.append(StreamPlan(stream, "upscale"))
        elif stream.index in selected:
            plans.append(StreamPlan(stream, "drop", reason="asked for"))
        else:
            plan = _plan_one(stream, container, source)
            if plan is None and container.pictures_only:
                plan = StreamPlan(stream, "drop", reason="pictures hold nothing else")
            if plan is None and "unsupported" in drop:
                plan = StreamPlan(stream, "drop", reason=f"{target.suffix} cannot carry it")
            if plan is None:
                refused.append(stream)
            else:
                plans.append(plan)
    if refused:
        raise _refusal(refused, source, target)
    return tuple(plans)


def _refusal(refused: Sequence[StreamInfo], source: SourceInfo, target: Path) -> InputError:
    """Return the error that names all streams that stand in the way, and what leaves them out."""
    labels = [stream.label for stream in refused]
    listed = ", ".join(labels[:_MOST_NAMED]) + (f" and {len(labels) - _MOST_NAMED} more" * (len(labels) > _MOST_NAMED))
    drop = f"--drop-streams {refused[0].index if len(refused) == 1 else 'unsupported'}"
    them = "it" if len(refused) == 1 else "them"
    noun = "stream" if len(refused) == 1 else "streams"
    if all(not stream.codec and stream.kind != "attachment" for stream in refused):
        text = f"{noun} {listed} of '{source.path.name}' cannot be copied here, for want of a known codec. Add"
    else:
        text = f"'{target.name}' cannot carry {noun} {listed} of '{source.path.name}'. Write to .mkv, or add"
    return InputError(f"{text} {drop} to leave {them} out.", code="stream-not-in-container")


def lost_structure(source: SourceInfo, target: Path, *, cut: bool) -> tuple[str, ...]:
    """Return notices about chapters and tags of a Matroska source that the output cannot hold as they are.

    Args:
        source: the file.
        target: name of the output.
        cut: whether only a part of the source is written.
    """
    if not source.structure.words or (container_of(target).structure and not cut and not source.before_zero):
        return ()
    why = "its times are moved" if source.before_zero else f"{target.suffix} has no place for them"
    why = "a part of the video has chapters of its own" if cut else why
    return (f"the file has {', '.join(source.structure.words)}; {why}, and the plain ones are written.",)


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
            f"{container.default_video}) or write to .mkv.",
            code="codec-not-in-container",
        )


def _plan_one(stream: StreamInfo, container: Container, source: SourceInfo) -> StreamPlan | None:
    if stream.kind == "attachment":
        return StreamPlan(stream, "attach") if container.attachments else None
    if stream.kind == "cover":
        if container.attachments:
            return StreamPlan(stream, "attach", reason="cover picture")
        return StreamPlan(stream, "copy", reason="cover picture") if container.cover else None
    if stream.kind == "video":
        return _plan_further_video(stream, container, source)
    if stream.kind == "audio" and stream.silent:
        return StreamPlan(stream, "drop", reason="no sound was found in it")
    if stream.kind == "audio":
        if container.audio is None or stream.codec in container.audio:
            return StreamPlan(stream, "copy")
        plain = _SAMPLES.get((stream.codec, stream.sample_format), "")
        reason = f"{stream.codec} becomes {plain}, samples and times unchanged"
        return StreamPlan(stream, "convert", codec=plain, reason=reason) if plain in container.audio else None
    if stream.kind == "subtitle":
        return _plan_subtitle(stream, container)
    return _plan_data(stream, container, source) if stream.kind == "data" else None


def _plan_data(stream: StreamInfo, container: Container, source: SourceInfo) -> StreamPlan | None:
    if stream.codec == "dvd_nav_packet":
        return StreamPlan(stream, "drop", reason="navigation of the DVD's menus")
    if stream.codec in container.data:
        return StreamPlan(stream, "copy")
    if "mov" in source.container:
        if container.chapters and source.chapters and stream.codec == "bin_data":
            return StreamPlan(stream, "drop", reason="chapter titles, written anew as chapters")
        if stream.codec in ("tmcd", "", "none"):
            kept = container.muxer in ("mov", "mp4", "matroska")
            where = "kept as the tag 'timecode'" if kept else "which this format has no place for"
            return StreamPlan(stream, "drop", reason=f"time code track, {where}")
    if stream.codec in ("", "none"):
        return StreamPlan(stream, "drop", reason=f"data of no kind that is known here (of {source.container})")
    return None


def _plan_further_video(stream: StreamInfo, container: Container, source: SourceInfo) -> StreamPlan | None:
    if source.animation:
        return StreamPlan(stream, "drop", reason="it is the still picture or the transparency of the animation")
    allowed = container.video is None or stream.codec in container.video
    return StreamPlan(stream, "copy", reason="a further video stream, copied as it is") if allowed else None


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
                    f"--drop-streams {word}: '{source.path.name}' has only streams 0 to {len(source.streams) - 1}.",
                    code="bad-stream-selector",
                )
            if int(word) == source.video.index:
                raise InputError(
                    f"--drop-streams {word}: that is the video to be upscaled. Name another stream.",
                    code="bad-stream-selector",
                )
            chosen.add(int(word))
        elif word in kinds:
            chosen |= {
                stream.index for stream in source.streams if stream.kind == word and stream.index != source.video.index
            }
        else:
            raise InputError(
                f"--drop-streams '{selector}': expected a number, unsupported, or one of {', '.join(sorted(kinds))}.",
                code="bad-stream-selector",
            )
    return chosen
