"""Options that several commands share, each with one name, one help text and one meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from apisr.cli import completing, parsers
from apisr.cli.display import Display, ProgressMode
from apisr.cli.settings import apply_settings

RUNNING = "Running"
PICTURES = "Pictures"
VIDEOS = "Videos"

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything that is drawn.", min=0)]
ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="Name of a model (see 'apisr models') or a model file.",
        show_default=False,
        autocompletion=completing.models,
    ),
]
TtaOption = Annotated[
    bool,
    typer.Option("--tta", help="Mean over eight flips and turns of each piece: a little truer, eight times the work."),
]
ScaleOption = Annotated[
    float | None,
    typer.Option(
        "--scale",
        "-s",
        metavar="FACTOR",
        parser=parsers.factor,
        help="2, x4, 1.5, ...; 2 and 4 are the models' own, others are resampled. By default the model's, else 2.",
        show_default=False,
    ),
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda, ... (see 'apisr doctor').", rich_help_panel=RUNNING)
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads", help="Processor threads; by default all.", min=1, show_default=False, rich_help_panel=RUNNING
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Work on a Ray cluster: host:port, auto, or local.",
        show_default=False,
        rich_help_panel=RUNNING,
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="NAME",
        help="Options of a purpose: dvd, web, tv, archive, phone, or one of your own (see 'apisr config').",
        show_default=False,
        is_eager=True,
        callback=apply_settings,
        autocompletion=completing.profiles,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as JSON on standard output.", rich_help_panel=RUNNING)
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.", rich_help_panel=RUNNING)]
VerboseOption = Annotated[
    bool,
    typer.Option(
        "--verbose",
        "-v",
        help="Also print internals: engines, stages, what was held and what was computed.",
        rich_help_panel=RUNNING,
    ),
]
ProgressOption = Annotated[
    Literal["auto", "bar", "lines", "json", "none"],
    typer.Option(
        "--progress",
        help="How progress is shown on standard error; auto is a bar on a terminal, json is for programs.",
        rich_help_panel=RUNNING,
    ),
]


@dataclass(frozen=True)
class Reporting:
    """What a command prints.

    Attributes:
        as_json: the result as JSON instead of a sentence.
        quiet: errors only.
        progress: how progress is shown.
    """

    as_json: JsonOption = False
    quiet: QuietOption = False
    progress: ProgressOption = "auto"

    def display(self, *, resumes: bool = False, cancels: bool = True) -> Display:
        """Return the display of these options; see :class:`apisr.cli.display.Display`."""
        mode: ProgressMode = self.progress
        return Display(mode, quiet=self.quiet or self.as_json, resumes=resumes, cancels=cancels)


@dataclass(frozen=True)
class WorkReporting(Reporting):
    """What a command prints that upscales.

    Attributes:
        verbose: internals too.
    """

    verbose: VerboseOption = False


def is_typed(context: typer.Context, name: str) -> bool:
    """Return whether an option, by the name of its parameter, stands on the command line itself."""
    return getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
