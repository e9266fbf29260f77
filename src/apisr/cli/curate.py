"""``apisr curate``: from a shelf of videos to a training set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apisr.core.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


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
    workers: Annotated[int, typer.Option("--workers", "-j", min=1, help="Processes, a video each.")] = 1,
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
    workers: int,
    cluster: str | None,
    as_json: bool,
    quiet: bool,
) -> int:
    from apisr.cli.progress import Progress
    from apisr.curate.pipeline import curate
    from apisr.curate.settings import load_settings

    settings = load_settings(preset=preset, config=config, overrides=given)
    with Progress(quiet=quiet) as bar:
        bar.start("curating", unit="videos")

        def progress(done: int, total: int, line: str) -> None:
            bar.line(line)
            bar.update(done, total)

        outcome = curate(
            videos,
            output,
            settings=settings,
            workers=workers,
            isolate=True,
            cluster=cluster,
            enhance=enhanced if settings.enhance else None,
            progress=progress,
        )
    if as_json:
        import dataclasses
        import json

        typer.echo(json.dumps(dataclasses.asdict(outcome), default=str, ensure_ascii=False))
    else:
        decisions = ", ".join(f"{number} {name}" for name, number in outcome.decisions.items()) or "none"
        typer.echo(f"{outcome.videos} videos, {outcome.pictures} pictures ({decisions}) in '{output}'")
        if outcome.flags:
            typer.echo("flags: " + ", ".join(f"{number} {name}" for name, number in outcome.flags.items()))
        for path, reason in outcome.failed:
            typer.echo(f"failed: {path}: {reason}")
        typer.echo(f"look at them with: apisr review '{output}'")
    return 1 if outcome.failed else 0


def enhanced(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Enhance the lines of an RGB picture (paper 3.3); a function with a name, so that worker processes find it."""
    from apisr.enhance import enhance as enhance_lines

    return enhance_lines(picture)


def _report(dataset: Path, compare: Path | None, licence: str | None) -> None:
    from apisr.curate.manifest import read_manifest
    from apisr.curate.pipeline import dataset_settings, read_records
    from apisr.curate.report import folder_scores, write_card, write_report

    rows, _ = read_manifest(dataset)
    settings = dataset_settings(dataset)
    if settings is None:
        raise InputError(f"no dataset in '{dataset}': no settings.json.")
    records = list(read_records(dataset).values())
    compared = (compare.name, folder_scores(compare, settings.score)) if compare else None
    write_report(dataset, rows, records, settings, compared=compared)
    write_card(dataset, rows, records, settings, licence=licence or "unknown", compared=compared)
