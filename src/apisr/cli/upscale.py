"""``apisr upscale``: pictures and videos, files and folders."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from fractions import Fraction

    from apisr.cli.progress import Progress
    from apisr.core.progress import Progress as Event
    from apisr.upscale.job import JobPlan
    from apisr.upscale.models import Networks
    from apisr.upscale.options import UpscaleOptions
    from apisr.upscale.results import RunReport

_PICTURES = "Pictures"
_VIDEOS = "Videos"
_RUNNING = "Running"


def command(
    inputs: Annotated[list[Path], typer.Argument(metavar="IN...", help="Pictures, videos, and folders of them.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Folder or file to write; by default name_x2.ext beside the input.",
            show_default=False,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            "--scale",
            "-s",
            help="Factor: 2 and 4 are the models' own, others are resampled. By default the model's, else 2.",
            show_default=False,
        ),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(
            "--height", help="Rows of the output, in place of --scale (1080, 2160).", min=1, show_default=False
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help="Name of a model (see 'apisr models') or a model file.", show_default=False),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(
            "--strength",
            help="0 keeps to the source, 1 is vivid, for models that have a NAME-vivid beside NAME.",
            min=0,
            max=1,
            show_default=False,
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    image_format: Annotated[
        Literal["png", "jpg", "webp", "avif", "tif", "bmp", "gif"] | None,
        typer.Option(
            "--format",
            help="Format of picture outputs; by default that of the input.",
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            "--quality",
            help="Quality of JPEG, WebP and AVIF.",
            min=1,
            max=100,
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            "--tile",
            help="Side of the pieces that go through the network at once, in pixels; by default what fits the memory, "
            "512 at most.",
            min=16,
            show_default=False,
            rich_help_panel=_PICTURES,
        ),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option(
            "--tta", help="Mean over eight flips and turns of each piece: a little truer, eight times the work."
        ),
    ] = False,
    purpose: Annotated[
        Literal["archive", "share", "edit"] | None,
        typer.Option(
            "--purpose",
            help="archive (FFV1 in mkv), share (H.264 in mp4), edit (ProRes in mov).",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(
            "--codec",
            help="Video encoder: libx264, libx265, libsvtav1, h264_nvenc, ...; by default that of the container.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    crf: Annotated[
        float | None,
        typer.Option(
            "--crf",
            help="Constant quality, lower is better; by default what suits the encoder.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option("--preset", help="Speed preset of the encoder.", show_default=False, rich_help_panel=_VIDEOS),
    ] = None,
    pixel_format: Annotated[
        str | None,
        typer.Option(
            "--pix-fmt",
            help="Pixel format; by default depth and subsampling of the source.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    encoder_options: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder-option",
            metavar="KEY=VALUE",
            help="Any option of the encoder; may be repeated.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    container: Annotated[
        Literal["mkv", "mp4", "mov", "webm", "ts", "avi"] | None,
        typer.Option(
            "--container",
            help="Container of video outputs; by default that of the input.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    drop_streams: Annotated[
        list[str] | None,
        typer.Option(
            "--drop-streams",
            metavar="STREAM",
            help="Leave out streams: a number, subtitle, attachment, data, audio, cover, or unsupported. Repeatable.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    deinterlace: Annotated[
        Literal["auto", "on", "off"],
        typer.Option("--deinterlace", help="auto asks the flags and looks at the pictures.", rich_help_panel=_VIDEOS),
    ] = "auto",
    detelecine: Annotated[
        bool, typer.Option("--detelecine", help="Restore 24 frames from 3:2 film material.", rich_help_panel=_VIDEOS)
    ] = False,
    start: Annotated[
        str | None,
        typer.Option("--start", help="Begin at: 90, 1:30 or 0:01:30.5.", show_default=False, rich_help_panel=_VIDEOS),
    ] = None,
    end: Annotated[
        str | None, typer.Option("--end", help="Stop before.", show_default=False, rich_help_panel=_VIDEOS)
    ] = None,
    preview: Annotated[
        str | None,
        typer.Option(
            "--preview",
            metavar="LENGTH@TIME",
            help="Only a part, for a look: 5s@00:10:00.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            "--rate",
            help="Frames per second of numbered pictures (frames/%05d.png): 24, 24000/1001.",
            show_default=False,
            rich_help_panel=_VIDEOS,
        ),
    ] = None,
    compare: Annotated[
        Literal["side", "wipe"] | None,
        typer.Option("--compare", help="Source and result in one clip.", show_default=False, rich_help_panel=_VIDEOS),
    ] = None,
    accept_damage: Annotated[
        bool,
        typer.Option(
            "--accept-damage", help="Finish although parts of the source cannot be decoded.", rich_help_panel=_VIDEOS
        ),
    ] = False,
    restart: Annotated[
        bool,
        typer.Option(
            "--restart", help="Throw away an interrupted run instead of continuing it.", rich_help_panel=_VIDEOS
        ),
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            help="Segments upscaled at the same time (1); with --cluster its workers (one a card, else one a machine).",
            min=1,
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    reuse: Annotated[
        Literal["exact", "off"],
        typer.Option(
            "--reuse",
            help="Compute only what changed between frames (same result, bit for bit), or every frame whole.",
            rich_help_panel=_VIDEOS,
        ),
    ] = "exact",
    hold: Annotated[
        Literal["off", "auto", "strong"],
        typer.Option(
            "--hold",
            help="Hold drawings that a codec changes a little in every frame; saves work, stops shimmer.",
            rich_help_panel=_VIDEOS,
        ),
    ] = "auto",
    native: Annotated[
        str,
        typer.Option(
            "--native",
            metavar="off|auto|LINES",
            help="Shrink to the size the video was drawn at before the network; auto estimates it.",
            rich_help_panel=_VIDEOS,
        ),
    ] = "off",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Make pictures and the segments of videos on a Ray cluster (host:port, auto, local).",
            show_default=False,
            rich_help_panel=_RUNNING,
        ),
    ] = None,
    engine: Annotated[
        Literal["auto", "onnx", "torch"],
        typer.Option("--engine", help="What runs the network.", rich_help_panel=_RUNNING),
    ] = "auto",
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda, ... (see 'apisr doctor').", rich_help_panel=_RUNNING)
    ] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads", help="Processor threads; by default all.", min=1, show_default=False, rich_help_panel=_RUNNING
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and stop.", rich_help_panel=_RUNNING)
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON on standard output.", rich_help_panel=_RUNNING)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=_RUNNING)] = False,
) -> None:
    """Upscale pictures and videos, x2 and x4, keeping everything of the source."""
    from apisr.upscale.options import PictureOptions, UpscaleOptions, VideoOptions

    options = UpscaleOptions(
        model=model,
        strength=strength,
        scale=scale,
        height=height,
        engine=engine,
        device=device,
        threads=threads,
        tta=tta,
        overwrite=overwrite,
        cluster=cluster,
        workers=workers,
        picture=PictureOptions(tile_px=tile, quality=quality, format=image_format),
        video=VideoOptions(
            codec=codec,
            crf=crf,
            preset=preset,
            pix_fmt=pixel_format,
            encoder_options=tuple(_key_value(option) for option in encoder_options or ()),
            purpose=purpose,
            container=container,
            reuse=reuse,
            hold=hold,
            native=_native(native),
            drop_streams=tuple(drop_streams or ()),
            deinterlace=deinterlace,
            detelecine=detelecine,
            **_range(start, end, preview),
            compare=compare,
            rate=None if rate is None else _rate(rate),
            accept_damage=accept_damage,
            restart=restart,
        ),
    )
    _run(inputs, output, options, dry_run=dry_run, as_json=as_json, quiet=quiet)


def _run(
    inputs: list[Path], output: Path | None, options: UpscaleOptions, *, dry_run: bool, as_json: bool, quiet: bool
) -> None:
    """Plan, run, and say what became of it."""
    from apisr.cli.progress import Progress
    from apisr.upscale.jobs import plan_jobs, run_jobs
    from apisr.upscale.models import Networks
    from apisr.upscale.results import ModelSummary, RunReport

    networks = Networks(options)
    plan = plan_jobs(inputs, output, options, networks=networks)
    if dry_run:
        _print_plan(plan, options, networks, as_json=as_json)
        return
    began = time.monotonic()
    with Progress(quiet=quiet or as_json) as progress:
        results = run_jobs(plan.jobs, options, progress=lambda event: _show(event, progress), networks=networks)
    report = RunReport(
        models=tuple(ModelSummary.of(model) for model in networks.used),
        seconds=round(time.monotonic() - began, 3),
        files=tuple(results),
        left_out=plan.left_out,
    )
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    elif not quiet:
        typer.echo(_summary(report))
    for result in results:
        if result.status in ("failed", "cancelled"):
            if "--debug" in sys.argv and result.error is not None:
                traceback.print_exception(result.error)
            sys.stderr.write(f"apisr: error: {result.message}\n")
    raise typer.Exit(report.exit_code)


def _show(event: Event, progress: Progress) -> None:
    """Show one progress event."""
    pixels = event.unit == "pixels"
    if event.kind == "started":
        name = Path(event.item).name
        title = name if event.count == 1 else f"[{event.index}/{event.count}] {name}"
        progress.start(title, unit="MP" if pixels else "frames")
    elif event.kind == "advanced":
        unit = 1e6 if pixels else 1
        progress.update(event.done / unit, None if event.total is None else event.total / unit)
    elif event.kind == "notice":
        progress.line(f"        {event.message}")
    else:
        progress.line(event.message)


def _key_value(text: str) -> tuple[str, str]:
    from apisr.core.errors import InputError

    key, separator, value = text.partition("=")
    if not key or not separator:
        raise InputError(
            f"expected --encoder-option KEY=VALUE, got '{text}'. For example: --encoder-option tune=animation."
        )
    return key, value


def _range(start: str | None, end: str | None, preview: str | None) -> dict[str, Any]:
    """Turn --start, --end and --preview into seconds."""
    from apisr.core.errors import InputError

    if preview is None:
        begin, stop = (None if text is None else _seconds(text) for text in (start, end))
    else:
        if start is not None or end is not None:
            raise InputError("--preview was given with --start or --end. Give one or the other.")
        length, separator, at = preview.partition("@")
        begin = _seconds(at) if separator else _seconds("0")
        stop = begin + _seconds(length.removesuffix("s"))
    if begin is not None and stop is not None and stop <= begin:
        raise InputError(f"expected an end after the start, got {float(begin):g} s to {float(stop):g} s.")
    return {"start": begin, "end": stop}


def _rate(text: str) -> Fraction:
    from fractions import Fraction

    from apisr.core.errors import InputError

    try:
        rate = Fraction(text)
    except (ValueError, ZeroDivisionError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise InputError(f"expected --rate as frames per second like 24 or 24000/1001, got '{text}'.")
    return rate


def _native(text: str) -> Literal["off", "auto"] | int:
    from apisr.core.errors import InputError

    if text in ("off", "auto"):
        return "auto" if text == "auto" else "off"
    if not text.isdecimal() or int(text) < 16:
        raise InputError(f"expected --native off, auto or a number of lines from 16, got '{text}'.")
    return int(text)


def _seconds(text: str) -> Fraction:
    """Read 90, 1:30 or 0:01:30.5 exactly."""
    from fractions import Fraction

    from apisr.core.errors import InputError

    try:
        seconds = Fraction(0)
        for part in text.removesuffix("s").split(":"):
            seconds = seconds * 60 + Fraction(part)
    except (ValueError, ZeroDivisionError):
        raise InputError(f"expected a time like 90, 1:30 or 0:01:30.5, got '{text}'.") from None
    if seconds < 0:
        raise InputError(f"expected a time from 0, got '{text}'.")
    return seconds


def _summary(report: RunReport) -> str:
    done = [result.result for result in report.files if result.result is not None]
    videos = [result for result in done if result.kind == "video"]
    pictures = len(done) - len(videos)
    parts: list[str] = []
    if pictures:
        parts.append(f"{pictures} picture{'s' * (pictures != 1)}")
    if videos:
        parts.append(f"{len(videos)} video{'s' * (len(videos) != 1)}")
    names = " and ".join(model.name for model in report.models)
    text = f"{' and '.join(parts) or 'nothing'} upscaled with {names} in {report.seconds:.1f} s"
    frames = sum(result.frames_out for result in videos)
    if frames:
        total = sum(result.reuse.total_px for result in videos)
        computed = sum(result.reuse.computed_px for result in videos)
        spent = sum(result.seconds.total for result in videos)
        text += f"; {frames} frames, {frames / max(spent, 1e-6):.2f} frames/s"
        text += f", {100 * computed / total:.1f} % of the picture area computed" if total else ""
    skipped = sum(result.status == "skipped" for result in report.files)
    failed = sum(result.status == "failed" for result in report.files)
    if skipped:
        text += f"; {skipped} skipped (output exists; --overwrite replaces)"
    if failed:
        text += f"; {failed} failed"
    if report.left_out:
        names = ", ".join(path.name for path in report.left_out[:5])
        more = f" and {len(report.left_out) - 5} more" if len(report.left_out) > 5 else ""
        text += f"\n{len(report.left_out)} file{'s' * (len(report.left_out) != 1)} left out: {names}{more}"
    return text


def _print_plan(plan: JobPlan, options: UpscaleOptions, networks: Networks, *, as_json: bool) -> None:
    """Describe every job without doing it; bad inputs raise as they would in the run."""
    from apisr.upscale.dry_run import describe

    rows = [describe(job, options, networks) for job in plan.jobs]
    if as_json:
        typer.echo(json.dumps({"files": rows, "left_out": [str(path) for path in plan.left_out]}, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['source']} -> {row['target']}")
        for key, value in row.items():
            if key in ("source", "target") or value in (None, [], ""):
                continue
            for item in value if isinstance(value, list) else [value]:
                typer.echo(f"    {key.replace('_', ' ')}: {item}")
