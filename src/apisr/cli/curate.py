"""``apisr curate``: from a shelf of videos to a training set."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apisr.cli import completing
from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import ClusterOption, Reporting

if TYPE_CHECKING:
    from apisr.curate.run import CurateResult

EXAMPLES = examples(
    "apisr curate season -o dataset                         the best frames of each video",
    "apisr curate season film.mkv -o dataset --count 100 --height 720",
    "apisr curate -o dataset --report --license CC-BY-4.0   the report and the card again",
)


@dataclass(frozen=True)
class Choosing:
    """How frames are chosen; what is not given is as the preset or the configuration says."""

    count: Annotated[
        int | None, typer.Option("--count", help="Frames kept of each video.", min=1, show_default=False)
    ] = None
    reserve: Annotated[
        int | None,
        typer.Option("--reserve", help="Extra frames, in place of duplicates across videos.", show_default=False),
    ] = None
    parts: Annotated[
        int | None,
        typer.Option("--parts", help="Parts of a video that give their best frames each.", show_default=False),
    ] = None
    distance_s: Annotated[
        float | None, typer.Option("--distance", help="Least seconds between kept frames.", show_default=False)
    ] = None
    score: Annotated[
        str | None, typer.Option("--score", help="auto, classical, icnet or a metric (niqe, ...).", show_default=False)
    ] = None
    frames: Annotated[
        str | None,
        typer.Option("--frames", help="intra (all intra pictures) or key (random access points).", show_default=False),
    ] = None
    height: Annotated[
        str | None, typer.Option("--height", help="Production height: lines, native or keep.", show_default=False)
    ] = None
    multiple_of: Annotated[
        int | None, typer.Option("--multiple-of", help="Cut sides to multiples of this.", show_default=False)
    ] = None
    format: Annotated[
        str | None, typer.Option("--format", help="png, webp or avif (all lossless).", show_default=False)
    ] = None
    screen: Annotated[
        list[str] | None,
        typer.Option(
            "--screen", metavar="MODEL", help="Screening model: nudity or anime. May be repeated.", show_default=False
        ),
    ] = None
    enhance: Annotated[bool, typer.Option("--enhance", help="Also write pictures with enhanced lines.")] = False

    def overrides(self) -> dict[str, object]:
        """Return the values by the names of the settings; None where the preset decides."""
        values: dict[str, object] = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.height is not None and self.height.isdecimal():
            values["height"] = int(self.height)
        values["screen"] = tuple(self.screen) if self.screen else None
        values["enhance"] = self.enhance or None
        return values


@dataclass(frozen=True)
class Finishing:
    """What is made of a dataset that exists."""

    report: Annotated[bool, typer.Option("--report", help="Write the report and the card again.")] = False
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="Folder of pictures to compare scores with, in the report.", show_default=False),
    ] = None
    license: Annotated[
        str | None, typer.Option("--license", help="License named in the dataset card.", show_default=False)
    ] = None
    export: Annotated[
        str | None,
        typer.Option(
            "--export",
            metavar="KIND=FOLDER",
            help="Copy accepted pictures (imagefolder or plain).",
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True)
class Working:
    """Where the rules come from, and where the work is done."""

    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            help="paper or reference (the released code's way).",
            autocompletion=completing.presets("apisr.curate"),
        ),
    ] = "paper"
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file with options (see docs/curate.md).", show_default=False)
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            "-w",
            min=1,
            help="Processes, a video each; by default one for each core.",
            show_default=False,
        ),
    ] = None
    cluster: ClusterOption = None


@grouped
def command(
    choosing: Choosing,
    finishing: Finishing,
    working: Working,
    reporting: Reporting,
    videos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="IN", help="Videos, folders that are searched for videos, and patterns."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The dataset: a folder to make or to continue.")
    ] = Path("dataset"),
) -> None:
    """Choose the best intra frames of videos and make a training set of them.

    An existing dataset is continued: finished videos are not done again. Without videos, --report and --export work on
    the dataset as it is. Look at the result with: apisr review DATASET
    """
    from apisr.cli.output import note
    from apisr.cli.parsers import expand
    from apisr.core.errors import InputError

    again = finishing.report or finishing.compare is not None or finishing.license is not None
    if not videos and not again and finishing.export is None:
        raise InputError(
            "no videos given. Give videos or folders, or --report or --export for a dataset that exists.",
            code="no-videos",
        )
    failed = _curate(expand(videos), output, choosing, working, reporting) if videos else False
    if again:
        from apisr.curate.run import write_report_again

        with reporting.display() as display:
            write_report_again(output, compare=finishing.compare, licence=finishing.license, progress=display.show)
        note(f"wrote {output / 'report.html'}")
    if finishing.export is not None:
        note(_export(output, finishing.export))
    raise typer.Exit(1 if failed else 0)


def _curate(videos: list[Path], output: Path, choosing: Choosing, working: Working, reporting: Reporting) -> bool:
    """Work on videos, say what became of them, and return whether one failed."""
    from apisr.curate.run import curate
    from apisr.curate.settings import load_settings

    settings = load_settings(preset=working.preset, config=working.config, overrides=choosing.overrides())
    with reporting.display(resumes=True) as display:
        result = curate(
            videos,
            output,
            settings=settings,
            workers=working.workers,
            cluster=working.cluster,
            progress=display.show,
            cancel=display.cancel,
        )
    _print_result(result, output, reporting)
    return bool(result.failed)


def _print_result(result: CurateResult, output: Path, reporting: Reporting) -> None:
    from apisr.cli.output import say, say_json
    from apisr.core.text import counted

    if reporting.as_json:
        say_json(result)
        return
    decisions = ", ".join(f"{number} {name}" for name, number in result.decisions.items()) or "none"
    say(f"{counted(result.videos, 'video')}, {counted(result.pictures, 'picture')} ({decisions}) in '{output}'")
    if result.flags:
        say("flags: " + ", ".join(f"{number} {name}" for name, number in result.flags.items()))
    for video in result.failed:
        say(f"failed: {video.source}: {video.reason}")
    say(f"look at them with: apisr review '{output}'")


def _export(dataset: Path, request: str) -> str:
    from apisr.core.errors import InputError
    from apisr.core.text import counted
    from apisr.curate.export import export_dataset

    kind, _, folder = request.partition("=")
    if kind not in ("imagefolder", "plain") or not folder:
        raise InputError(f"cannot export to '{request}'. Give imagefolder=FOLDER or plain=FOLDER.", code="bad-export")
    number = export_dataset(dataset, Path(folder), kind=kind)
    return f"{counted(number, 'picture')} in '{folder}'"
