"""Everything about a video that is decided before any work.

The plan is plain data: it names the source by its hash and does not hold it. Whoever makes the video takes both.

>>> with VideoSource.open("ep.mkv") as source:                                          # doctest: +SKIP
...     plan = plan_video(source, OutputRequest(Path("out.mkv")), scale=2, options=VideoOptions())
>>> plan.frames, plan.notices                                                           # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from apisr.core.errors import InputError
from apisr.image import check_format
from apisr.upscale.options import VideoOptions
from apisr.upscale.video.cuts import Segment, plan_segments
from apisr.upscale.video.output import OutputFormat, OutputRequest, plan_format
from apisr.video.fields import FieldFilter
from apisr.video.index import PacketIndex, grid_rate
from apisr.video.losses import losses
from apisr.video.rehearsal import lost_ends, refused_streams, undecodable_streams
from apisr.video.sequence import is_sequence, numbers_of, picture_at
from apisr.video.source import VideoSource
from apisr.video.streams import StreamPlan, container_of, lost_structure, plan_streams

_COMBED_ENOUGH = 0.3
_COMBED_IF_FLAGGED = 0.05
_PROGRESSIVE_CODECS = {"vp8", "vp9", "av1", "gif", "png", "webp", "mjpeg"}
_INTERLACED_LINES_AT_MOST = 1088
#: Frames out of frames in when 3:2 material is restored.
_DETELECINE_SHARE = Fraction(4, 5)


@dataclass(frozen=True)
class VideoPlan:
    """What will be done, decided before any work.

    Attributes:
        sha256: of the source.
        unit: seconds of one unit of the times in `segments`, which are the source's own.
        output: what file is asked for.
        format: how it is coded.
        streams: what becomes of each stream.
        segments: the parts that are made one by one.
        frames: how many frames go in (packets counted; a few may turn out undecodable).
        duration_s: length of the source's video in seconds.
        rate: nominal frames per second of the output.
        grid: constant rate on whose grid the frames lie, None where the container keeps exact times.
        fields: how interlacing is treated.
        start: seconds of the first frame in the source, None for the beginning.
        end: seconds to stop before in the source, None for the end.
        notices: everything worth saying, one sentence each.
    """

    sha256: str
    unit: Fraction
    output: OutputRequest
    format: OutputFormat
    streams: tuple[StreamPlan, ...]
    segments: tuple[Segment, ...]
    frames: int
    duration_s: float
    rate: Fraction
    grid: Fraction | None
    fields: FieldFilter
    start: Fraction | None
    end: Fraction | None
    notices: tuple[str, ...]

    @property
    def target(self) -> Path:
        """The output."""
        return self.output.target

    @property
    def video_stream(self) -> int:
        """Number of the source's video stream."""
        return next(plan.stream.index for plan in self.streams if plan.action == "upscale")


def plan_video(source: VideoSource, output: OutputRequest, *, scale: int, options: VideoOptions) -> VideoPlan:
    """Decide everything about a video before any work.

    Args:
        source: the video.
        output: what file is asked for.
        scale: of the network.
        options: of videos.

    Raises:
        InputError: streams that the output cannot hold, unknown or impossible settings, no frame between start and end.
    """
    _check_files(source, output)
    index, unit = source.index, source.info.video.time_base
    fields, field_notices = _plan_fields(source, options)
    origin = int(index.pts[0]) * unit
    start, end = (None if moment is None else moment + origin for moment in (options.start, options.end))
    end = None if end is None or _is_behind(source, end) else end
    bounds = (None if start is None else round(start / unit), None if end is None else round(end / unit))
    segments = plan_segments(index, bounds, options.segment_frames)
    frames = sum(segment.frames for segment in segments)
    if frames == 0:
        raise _no_frames(source)
    rate = index.rate * _DETELECINE_SHARE if fields == "detelecine" else index.rate
    container = container_of(output.target)
    grid = None if container.variable_rate else grid_rate(index, source.info.video)
    if grid is None and not container.variable_rate:
        raise InputError(
            f"'{output.target.suffix}' cannot hold a variable frame rate, which '{source.path.name}' has. "
            "Write to .mkv.",
            code="variable-rate",
        )
    streams = _rehearsed(source, output, plan_streams(source.info, output.target, options.drop_streams), options)
    output_format = plan_format(source.info.video, rate, output, container, scale, options)
    return VideoPlan(
        sha256=source.sha256(),
        unit=unit,
        output=output,
        format=output_format,
        streams=streams,
        segments=segments,
        frames=frames,
        duration_s=float((index.pts[-1] - index.pts[0]) * unit) + float(1 / index.rate),
        rate=rate,
        grid=grid,
        fields=fields,
        start=start,
        end=end,
        notices=(
            *field_notices,
            *_source_notices(source),
            *lost_structure(source.info, output.target, cut=start is not None or end is not None),
            *losses(source.info, output.target, streams),
            *_other_pictures(output.target, frames),
            *output_format.notices,
            *_stream_notices(streams),
            *undecodable_streams(source, streams),
            *(lost_ends(source, output.target, streams) if end is None else ()),
        ),
    )


def _is_behind(source: VideoSource, moment: Fraction) -> bool:
    """Whether a moment lies behind everything in the file, so that nothing is cut there."""
    index, info = source.index, source.info
    last = int(index.pts[0]) * info.video.time_base + index.duration_s(info.video.time_base)
    return info.duration is not None and moment >= max(last, info.start + info.duration)


def _rehearsed(
    source: VideoSource, output: OutputRequest, streams: tuple[StreamPlan, ...], options: VideoOptions
) -> tuple[StreamPlan, ...]:
    """Try the copied streams in the format of the output; leave out what it refuses, where that was asked for.

    Raises:
        InputError: it refuses a stream.
    """
    refused = refused_streams(source, output.target, streams)
    kept: list[StreamPlan] = []
    for plan in streams:
        why = refused.get(plan.stream.index)
        if why is not None and "unsupported" not in options.drop_streams:
            raise InputError(
                f"'{output.target.name}' refuses stream {plan.stream.label} of '{source.path.name}' as it is stored "
                f"({why}). Write to .mkv, or add --drop-streams {plan.stream.index} to leave it out.",
                code="stream-not-in-container",
            )
        left_out = replace(plan, action="drop", reason=f"{output.target.suffix} cannot carry it")
        kept.append(plan if why is None else left_out)
    return tuple(kept)


def _check_files(source: VideoSource, output: OutputRequest) -> None:
    target = output.target
    if target.exists() and source.path.exists() and target.samefile(source.path):
        raise InputError(f"'{target}' is the source itself. Give another name with -o.", code="output-is-input")
    if not is_sequence(target):
        return
    check_format(target, 1, 1)
    if (numbers := numbers_of(target)) and not output.overwrite:
        raise InputError(
            f"'{picture_at(target, numbers[0])}' exists. Give another name or add --overwrite.", code="output-exists"
        )


def _other_pictures(target: Path, frames: int) -> list[str]:
    """Name the pictures of an earlier, longer video that stay where those of this one are written over them."""
    others = [number for number in numbers_of(target) if not 1 <= number <= frames] if is_sequence(target) else []
    if not others:
        return []
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return [f"'{picture_at(target, others[0])}'{more} of another video stays beside the {frames} pictures of this one."]


def _plan_fields(source: VideoSource, options: VideoOptions) -> tuple[FieldFilter, list[str]]:
    """Decide how interlacing is treated, and say why."""
    if options.detelecine:
        return "detelecine", ["3:2 pulldown is undone: four frames are kept of five."]
    if options.deinterlace == "off":
        return "none", []
    if options.deinterlace == "on":
        return "bwdif", ["the video is deinterlaced (bwdif)."]
    video = source.info.video
    if video.codec in _PROGRESSIVE_CODECS or video.height > _INTERLACED_LINES_AT_MOST:
        return "none", []
    share = source.combed_share()
    if share >= _COMBED_ENOUGH or (video.interlaced and share > _COMBED_IF_FLAGGED):
        flag = "flagged as interlaced" if video.interlaced else "not flagged as interlaced"
        return "bwdif", [
            f"the video is deinterlaced (bwdif): it is {flag} and {share:.0%} of its moving frames show combs. "
            "--deinterlace off keeps it, --detelecine restores film."
        ]
    if video.interlaced:
        return "none", ["the video is flagged as interlaced but shows no combs; it is treated as progressive."]
    return "none", []


def _source_notices(source: VideoSource) -> list[str]:
    video = source.info.video
    notices = list(source.info.notices)
    if source.index.parts:
        places = ", ".join(_time(moment) for moment in source.index.breaks_s(video.time_base))
        notices.append(
            f"the clock of the file restarts or jumps at {places}; what follows goes on there without a gap, "
            "and the other streams move with it."
        )
    if any(video.crop):
        top, bottom, left, right = video.crop
        notices.append(
            f"the file says that {top}, {bottom}, {left}, {right} pixels at the top, bottom, left and right are not "
            "shown; they are cut off."
        )
    if video.colour.guessed:
        taken = replace(video.colour, guessed=())
        notices.append(f"colour: the source does not say its {', '.join(video.colour.guessed)}; taken as {taken}.")
    notices += [
        f"{name} metadata describes the small picture frame by frame and is not kept."
        for name in video.dynamic_metadata
    ]
    return notices


def _stream_notices(streams: Sequence[StreamPlan]) -> list[str]:
    verbs = {"copy": "kept", "convert": "converted", "attach": "kept", "drop": "left out"}
    return [
        f"stream {plan.stream.label} is {verbs[plan.action]}: {plan.reason}."
        for plan in streams
        if plan.reason and plan.action != "upscale"
    ]


def _no_frames(source: VideoSource) -> InputError:
    length = _clock(source.index, source.info.video.time_base)
    return InputError(
        f"--start and --end leave no frame of '{source.path}' (it lasts {length}). Give times inside of it, the end "
        "behind the start.",
        code="no-frames",
    )


def _clock(index: PacketIndex, unit: Fraction) -> str:
    return _time(float((int(index.pts[-1]) - int(index.pts[0])) * unit))


def _time(seconds: float) -> str:
    return f"{int(seconds // 3600)}:{int(seconds // 60 % 60):02d}:{seconds % 60:05.2f}"
