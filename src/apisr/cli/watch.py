"""``apisr watch``: a folder is watched, new files are upscaled when they are complete."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import WorkReporting
from apisr.cli.upscale_options import Choice

if TYPE_CHECKING:
    from apisr.core.progress import Cancel

EXAMPLES = examples(
    "apisr watch downloads -o upscaled                      until Ctrl-C",
    "apisr watch recordings -o upscaled --profile web",
    "apisr watch incoming -o out --once                     what is there now, then stop",
)
#: What is known of a file: its size and the time of its last change.
FileState = tuple[int, int]


@grouped
def command(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder; its subfolders are watched too.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the outputs.", show_default=False)],
    choice: Choice,
    reporting: WorkReporting,
    every: Annotated[
        float, typer.Option("--every", metavar="SECONDS", help="Time between two looks at the folder.", min=0.1)
    ] = 5.0,
    once: Annotated[bool, typer.Option("--once", help="Upscale what is there and complete, and stop.")] = False,
) -> None:
    """Upscale new pictures and videos of a folder as soon as they are complete.

    A file is complete when its size and time did not change between two looks. What is in the output folder already is
    not done again. Ctrl-C ends the watch; a video that was begun is continued by the next one.
    """
    from apisr.cli.output import note
    from apisr.cli.upscale import planned, print_details, print_report, run_report
    from apisr.core.errors import InputError
    from apisr.upscale.jobs import run_jobs
    from apisr.upscale.models import Networks

    if not folder.is_dir():
        raise InputError(f"'{folder}' is not a folder. Give the folder to watch.", code="no-such-folder")
    networks: Networks | None = None
    codes: list[int] = []
    with reporting.display(resumes=True) as display:
        for path in complete_files(folder, output, every_s=every, once=once, cancel=display.cancel):
            began = time.monotonic()
            target = output / path.parent.relative_to(folder)
            try:
                plan, options = planned(context, [path], target / "", choice)
            except InputError as error:
                note(f"apisr: error: {error}")
                codes.append(error.exit_code)
                continue
            networks = networks or Networks(options, many=True)
            if any(job.target.exists() for job in plan.jobs) and not options.overwrite:
                continue
            target.mkdir(parents=True, exist_ok=True)
            results = run_jobs(
                plan.jobs, options, progress=display.show_or_stop, cancel=display.cancel, networks=networks
            )
            report = run_report(plan, results, networks, time.monotonic() - began)
            print_report(report, reporting, stopped=display.stopped_line())
            print_details(report, networks, reporting)
            codes.append(report.exit_code)
    raise typer.Exit(max(codes, default=0) if once else 0)


def complete_files(folder: Path, output: Path, *, every_s: float, once: bool, cancel: Cancel) -> Iterator[Path]:
    """Give every picture and video of a folder once, when two looks at it find it unchanged.

    Args:
        folder: where to look.
        output: where outputs go; if that is inside the folder it is passed over.
        every_s: time between two looks.
        once: end when all files that are there were given.
        cancel: ends the search.
    """
    from apisr.core.files import real_path
    from apisr.core.media import find_media

    processed: dict[Path, FileState] = {}
    observed: dict[Path, FileState] = {}
    real = real_path(output)
    while not cancel.requested:
        found = find_media(folder, skip=lambda path: real_path(path) == real).found
        now = {path: state for path in found if (state := _state(path)) is not None}
        for path, state in now.items():
            if observed.get(path) == state and processed.get(path) != state:
                processed[path] = state
                yield path
        if once and now and all(processed.get(path) == state for path, state in now.items()):
            return
        if once and not now:
            return
        observed = now
        cancel.wait(every_s)


def _state(path: Path) -> FileState | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_size, found.st_mtime_ns) if found.st_size else None
