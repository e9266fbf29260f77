"""``apisr curate``: from a shelf of videos to a training set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from apisr.core.errors import InputError
from apisr.core.text import printable


def command(
    videos: Annotated[
        list[Path] | None, typer.Argument(help="Videos, and folders that are searched for videos.")
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The dataset: a folder to make or to continue.")
    ] = Path("dataset"),
    preset: Annotated[str, typer.Option(help="paper or reference (the released code's way).")] = "paper",
    config: Annotated[Path | None, typer.Option(help="TOML file with options (see docs/curate.md).")] = None,
    count: Annotated[int | None, typer.Option(help="Frames kept of each video.")] = None,
    reserve: Annotated[int | None, typer.Option(help="Extra frames, in place of duplicates across videos.")] = None,
    parts: Annotated[int | None, typer.Option(help="Parts of a video that give their best frames each.")] = None,
    distance: Annotated[float | None, typer.Option(help="Least seconds between kept frames.")] = None,
    score: Annotated[str | None, typer.Option(help="auto, classical, icnet or a metric's name (niqe, ...).")] = None,
    frames: Annotated[
        str | None, typer.Option(help="intra (all intra pictures) or key (random access points).")
    ] = None,
    height: Annotated[str | None, typer.Option(help="Production height: lines, native or keep.")] = None,
    multiple_of: Annotated[int | None, typer.Option(help="Cut sides to multiples of this.")] = None,
    file_format: Annotated[str | None, typer.Option("--format", help="png, webp or avif (all lossless).")] = None,
    screen: Annotated[
        list[str] | None, typer.Option(help="Screening model: nudity or anime (may be repeated).")
    ] = None,
    enhance: Annotated[bool, typer.Option("--enhance", help="Also write pictures with enhanced lines.")] = False,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-j", min=1, help="Processes, a video each; by default one for each core."),
    ] = None,
    cluster: Annotated[str | None, typer.Option(help="Address of a Ray cluster to work on.")] = None,
    report: Annotated[bool, typer.Option("--report", help="Write the report and the card again.")] = False,
    compare: Annotated[
        Path | None, typer.Option(help="Folder of pictures to compare scores with, in the report.")
    ] = None,
    licence: Annotated[str | None, typer.Option("--license", help="License named in the dataset card.")] = None,
    export: Annotated[
        str | None, typer.Option(help="KIND=FOLDER: copy accepted pictures (imagefolder or plain).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Choose the best intra frames of videos and make a training set of them.

    An existing dataset is continued: finished videos are not done again. Without videos, --report and --export work on
    the dataset as it is. Look at the result with: apisr review DATASET
    """
    given = {
        "count": count,
        "reserve": reserve,
        "parts": parts,
        "distance_s": distance,
        "score": score,
        "frames": frames,
        "height": int(height) if height is not None and height.isdecimal() else height,
        "multiple_of": multiple_of,
        "format": file_format,
        "screen": tuple(screen) if screen else None,
        "enhance": True if enhance else None,
    }
    if not videos and not (report or compare or licence or export):
        raise InputError("no videos given. Give videos or folders, or --report or --export for a dataset that exists.")
    code = _curate(videos, output, preset, config, given, workers, cluster, as_json, quiet) if videos else 0
    if report or compare or licence:
        _report(output, compare, licence)
        typer.echo(str(output / "report.html"), err=as_json)
    if export:
        from apisr.curate.export import export_dataset

        kind, _, folder = export.partition("=")
        if kind not in ("imagefolder", "plain") or not folder:
            raise InputError(f"cannot export to '{export}'. Give imagefolder=FOLDER or plain=FOLDER.")
        number = export_dataset(output, Path(folder), kind=kind)
        typer.echo(f"{number} pictures in '{folder}'", err=as_json)
    return code


def _curate(
    videos: list[Path],
    output: Path,
    preset: str,
    config: Path | None,
    given: dict[str, Any],
    workers: int | None,
    cluster: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    from apisr.cli.progress import Progress
    from apisr.core.progress import Progress as Event
    from apisr.curate.run import curate
    from apisr.curate.settings import load_settings

    settings = load_settings(preset=preset, config=config, overrides=given)
    with Progress(quiet=quiet) as bar:
        bar.start("curating", unit="videos")

        def progress(event: Event) -> None:
            bar.line(event.message)
            if event.total is not None:
                bar.update(event.done, event.total)

        result = curate(videos, output, settings=settings, workers=workers, cluster=cluster, progress=progress)
    if as_json:
        typer.echo(result.model_dump_json())
    else:
        decisions = ", ".join(f"{number} {name}" for name, number in result.decisions.items()) or "none"
        typer.echo(f"{result.videos} videos, {result.pictures} pictures ({decisions}) in '{printable(output)}'")
        if result.flags:
            typer.echo("flags: " + ", ".join(f"{number} {name}" for name, number in result.flags.items()))
        for video in result.failed:
            typer.echo(f"failed: {video.source}: {video.reason}")
        typer.echo(f"look at them with: apisr review '{printable(output)}'")
    return 1 if result.failed else 0


def _report(dataset: Path, compare: Path | None, licence: str | None) -> None:
    from apisr.curate.run import write_report_again

    write_report_again(dataset, compare=compare, licence=licence)
