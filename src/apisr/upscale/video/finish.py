"""The end of a video: segments are joined, the result is checked, and only then it gets its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from apisr.core.errors import RunError
from apisr.core.files import atomic_path, partial_path
from apisr.upscale.results import VideoResult
from apisr.upscale.video.pictures import write_pictures
from apisr.upscale.video.plan import VideoPlan
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.animation import write_animation
from apisr.video.containers.registry import container_of
from apisr.video.join import StreamRefused, join
from apisr.video.output_streams import JoinSettings
from apisr.video.sequence import is_sequence
from apisr.video.source import VideoSource
from apisr.video.verify import OutputCheck, check_output, source_problems
from apisr.video.writer import EncodedSegment

Piece = tuple[Path, EncodedSegment]


def finish_video(
    source: VideoSource, plan: VideoPlan, folder: WorkFolder, *, accept_damage: bool, on_packet: Callable[[int], None]
) -> VideoResult:
    """Join the segments, check the result, rename it.

    Args:
        source: the video.
        plan: what was decided.
        folder: with all segments.
        accept_damage: finish although parts of the source cannot be decoded.
        on_packet: called with the number of video packets that are joined.

    Raises:
        RunError: the source was damaged or replaced, the streams cannot be joined, or the result is not what went in.
            The segments are kept, and what could be joined has a partial name.
    """
    pieces = [(folder.video_path(part.number), folder.segment(part.number)) for part in plan.segments]
    times = [pts for _, segment in pieces for pts in segment.pts]
    if not times:
        raise RunError(f"no frame of '{source.path}' could be decoded. The file is damaged.", code="nothing-decoded")
    problems = source_problems(
        source.info,
        source.index,
        times,
        damaged=sum(segment.damaged for _, segment in pieces),
        fields_merged=plan.fields == "detelecine",
        span=(plan.segments[0].start, plan.segments[-1].end),
    )
    pieces = [piece for piece in pieces if piece[1].pts]
    if is_sequence(plan.target):
        found = write_pictures(plan, folder, pieces)
        if problems and not accept_damage:
            raise _damage(source.path, problems, f"{found.frames} pictures were written.")
    elif container_of(plan.target).pictures_only:
        if problems and not accept_damage:
            advice = "Nothing was written; add --accept-damage to make an animation of the rest."
            raise _damage(source.path, problems, advice)
        found = write_animation(
            plan.target,
            pieces,
            plan.unit,
            rate=plan.rate,
            matrix=plan.format.display_matrix,
            overwrite=plan.output.overwrite,
            provenance=dict(plan.output.tags),
        )
    else:
        found = _write_file(source, plan, pieces, problems, accept_damage=accept_damage, on_packet=on_packet)
    damage = (f"the source is damaged: {'; '.join(problems)}.",) if problems else ()
    return VideoResult(
        source=source.path,
        target=plan.target,
        size=(source.info.video.width, source.info.video.height),
        output_size=plan.format.size,
        frames_in=len(times),
        frames_out=found.frames,
        duration_s=found.duration_s,
        size_bytes=found.size_bytes,
        notices=(*plan.notices, *damage),
    )


def _write_file(
    source: VideoSource,
    plan: VideoPlan,
    pieces: Sequence[Piece],
    problems: list[str],
    *,
    accept_damage: bool,
    on_packet: Callable[[int], None],
) -> OutputCheck:
    """Join and check; problems of the other streams are added to `problems`."""
    partial = partial_path(plan.target)
    times = [pts for _, segment in pieces for pts in segment.pts]
    start = None if plan.start is None else times[0] * plan.unit
    own_clock = container_of(plan.target).muxer == "mpegts"
    settings = JoinSettings(
        unit=plan.unit,
        rate=plan.rate,
        colour=plan.format.colour,
        sar=plan.format.sar,
        grid=plan.grid,
        span=None if start is None and plan.end is None else (start, plan.end),
        tags=dict(plan.output.tags),
        origin=min(Fraction(0), source.origin) if own_clock else source.origin,
    )
    playable = False
    try:
        with atomic_path(plan.target, overwrite=plan.output.overwrite, keep_partial=True):
            refused, late = _join_what_fits(source, plan, partial, pieces, settings, on_packet)
            problems += late
            found = check_output(
                partial,
                times,
                plan.unit,
                rate=plan.rate,
                variable_rate=container_of(plan.target).variable_rate,
            )
            playable = bool(refused) or (bool(problems) and not accept_damage)
            if refused:
                raise _refusal(plan, refused, partial)
            if playable:
                raise _damage(
                    source.path,
                    problems,
                    f"What could be decoded, {found.frames} frames, is in '{partial}'. "
                    "Repair the source, or add --accept-damage to keep the result as it is.",
                )
            return found
    finally:
        if not playable:
            partial.unlink(missing_ok=True)


def _join_what_fits(
    source: VideoSource,
    plan: VideoPlan,
    partial: Path,
    pieces: Sequence[Piece],
    settings: JoinSettings,
    on_packet: Callable[[int], None],
) -> tuple[list[int], tuple[str, ...]]:
    """Join everything; where the format refuses that, all but one of the other streams, else the video alone.

    Which stream it is that is refused does not show: muxers hold packets back until those of all streams are there.

    Returns:
        The numbers of the streams that were left out, and what went wrong while the others were read.

    Raises:
        RunError: the video itself cannot be written.
    """
    others = [one.stream.index for one in plan.streams if one.action in ("copy", "convert", "attach")]
    refusal: StreamRefused | None = None
    for refused in ([], *([number] for number in others), others):
        streams = tuple(replace(one, action="drop") if one.stream.index in refused else one for one in plan.streams)
        try:
            return refused, join(partial, plan.target, source, streams, pieces, settings, on_packet=on_packet)
        except StreamRefused as error:
            refusal = error
    raise RunError(
        f"cannot finish '{plan.target}': its format refuses the video ({refusal}). All finished segments are kept. "
        "Write to .mkv, or choose another --codec.",
        code="join-failed",
    ) from refusal


def _refusal(plan: VideoPlan, refused: Sequence[int], partial: Path) -> RunError:
    named = ", ".join(one.stream.label for one in plan.streams if one.stream.index in refused)
    drop = " ".join(f"--drop-streams {number}" for number in refused)
    return RunError(
        f"cannot finish '{plan.target}': its format refuses {named}. The video and everything else is in "
        f"'{partial}', and all finished segments are kept: add {drop}, or write to .mkv.",
        code="join-failed",
    )


def _damage(source: Path, problems: Sequence[str], result: str) -> RunError:
    return RunError(f"'{source}' is damaged ({'; '.join(problems)}). {result}", code="source-damaged")
