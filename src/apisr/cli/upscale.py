"""``apisr upscale``: pictures and videos, files and folders."""

from __future__ import annotations

import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import RUNNING, Reporting, WorkReporting, is_typed
from apisr.cli.upscale_options import Choice, OutputOption
from apisr.core.processes import loading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apisr.upscale.job import JobPlan
    from apisr.upscale.models import Networks
    from apisr.upscale.options import UpscaleOptions
    from apisr.upscale.results import JobResult, RunReport

EXAMPLES = examples(
    "apisr upscale picture.png                              picture_x2.png beside it",
    "apisr upscale season -o season-2160p --height 2160     a folder with its tree",
    "apisr upscale episode.mkv --preview 5s@10:00           five seconds for a look",
)


@grouped
def command(
    context: typer.Context,
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN", help="Pictures, videos, folders, and patterns like '*.png'.")
    ],
    choice: Choice,
    reporting: WorkReporting,
    output: OutputOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and stop.", rich_help_panel=RUNNING)
    ] = False,
) -> None:
    """Upscale pictures and videos, x2 and x4, keeping everything of the source."""
    with loading():
        from apisr.cli.parsers import expand
        from apisr.cli.pipe import is_pipe, upscale_pipe
        from apisr.upscale.jobs import run_jobs
        from apisr.upscale.models import Networks

    if is_pipe(inputs, output) and output is not None:
        with reporting.display() as display:
            upscale_pipe(context, inputs[0], output, choice.options(), display)
        return
    plan, options = planned(context, expand(inputs), output, choice)
    networks = Networks(options)
    if dry_run:
        raise typer.Exit(_print_plan(plan, options, networks, as_json=reporting.as_json))
    began = time.monotonic()
    with reporting.display(resumes=any(job.kind == "video" for job in plan.jobs)) as display:
        results = run_jobs(plan.jobs, options, progress=display.show_or_stop, cancel=display.cancel, networks=networks)
    report = run_report(plan, results, networks, time.monotonic() - began)
    print_report(report, reporting, stopped=display.stopped_line())
    print_details(report, networks, reporting)
    raise typer.Exit(report.exit_code)


def planned(
    context: typer.Context, inputs: Sequence[Path], output: Path | None, choice: Choice
) -> tuple[JobPlan, UpscaleOptions]:
    """Plan a run; options that come from settings files, and apply to none of the inputs, are left out.

    Raises:
        InputError: the request makes no sense.
    """
    from apisr.core.errors import InputError
    from apisr.upscale.jobs import plan_jobs

    refused: InputError | None = None
    for groups in ((), ("pictures",), ("encoding", "frames", "part"), ("pictures", "encoding", "frames", "part")):
        options = choice.without_settings(context, *groups).options()
        try:
            plan = plan_jobs(inputs, output, options)
            check_given(context, plan, options)
            return plan, options
        except InputError as error:
            if error.code != "option-does-not-apply":
                raise
            refused = error
    assert refused is not None
    raise refused


def check_given(context: typer.Context, plan: JobPlan, options: UpscaleOptions) -> None:
    """Refuse what stands on the command line and can do nothing for this plan; settings files may say more than that.

    Raises:
        InputError: ``--quality`` without a lossy picture, ``--workers`` without a video, or ``--source`` for a model
            that has one set of weights.
    """
    from dataclasses import replace

    from apisr.core.errors import InputError
    from apisr.image import has_quality
    from apisr.upscale.models import Networks
    from apisr.weights.model import SOFT_TWIN

    reason = ""
    if is_typed(context, "quality") and not any(has_quality(job.target) for job in plan.jobs):
        reason = "--quality is for JPEG, WebP and AVIF, and no output is one of them. Leave --quality out."
    elif is_typed(context, "workers") and options.cluster is None and all(job.kind == "picture" for job in plan.jobs):
        reason = "--workers is for videos, and there is no video among the inputs. Leave --workers out."
    elif options.source != "auto" and is_typed(context, "source"):
        model = Networks(replace(options, source="auto")).model_for()
        if not model.card.get(SOFT_TWIN):
            reason = f"{model.name} has one set of weights for crisp and soft sources. Leave --source out."
    if reason:
        raise InputError(reason, code="cannot-apply")


def run_report(plan: JobPlan, results: Sequence[JobResult], networks: Networks, seconds: float) -> RunReport:
    """Return what became of a run."""
    from apisr.upscale.results import ModelSummary, RunReport

    made_with = {result.result.model for result in results if result.result is not None}
    return RunReport(
        models=tuple(ModelSummary.of(model) for model in networks.named(made_with)),
        seconds=round(seconds, 3),
        files=tuple(results),
        left_out=plan.left_out,
    )


def print_report(report: RunReport, reporting: Reporting, *, stopped: str = "stopped") -> None:
    """Print what became of a run; errors go to standard error, one line each.

    Args:
        report: what became of it.
        reporting: how it is printed.
        stopped: the line for a run that the user stopped.
    """
    from apisr.cli.output import note, say_json, say_lines

    if reporting.as_json:
        say_json(report)
    elif not reporting.quiet:
        say_lines(summary(report))
    for result in report.files:
        if result.status == "failed":
            if "--debug" in sys.argv and result.error is not None:
                traceback.print_exception(result.error)
            note(f"apisr: error: {result.message}")
    cancelled = [result for result in report.files if result.status == "cancelled"]
    if cancelled:
        note(f"apisr: {cancelled[0].message if cancelled[0].kind == 'video' else stopped}")


def print_details(report: RunReport, networks: Networks, reporting: WorkReporting) -> None:
    """Print the internals of a run on standard error, where they are asked for."""
    from apisr.cli.details import run_details
    from apisr.cli.output import note

    for line in run_details(report, networks) if reporting.verbose else ():
        note(line)


def summary(report: RunReport) -> str:
    """Return a run in one or two lines."""
    from apisr.cli.output import duration
    from apisr.core.media import left_out_lines
    from apisr.core.text import counted

    done = [result.result for result in report.files if result.result is not None]
    videos = [result for result in done if result.kind == "video"]
    pictures = len(done) - len(videos)
    parts = [counted(number, noun) for number, noun in ((pictures, "picture"), (len(videos), "video")) if number]
    names = " and ".join(model.name for model in report.models)
    text = f"{' and '.join(parts) or 'nothing'} upscaled"
    text += f" with {names} in {duration(report.seconds)}" if parts else ""
    frames = sum(result.frames_out for result in videos)
    if frames:
        total = sum(result.reuse.total_px for result in videos)
        computed = sum(result.reuse.computed_px for result in videos)
        spent = sum(result.seconds.total for result in videos)
        text += f"; {counted(frames, 'frame')}, {frames / max(spent, 1e-6):.2f} frames/s"
        text += f", {100 * computed / total:.1f} % of the picture area computed" if computed < total else ""
    for status, remark in (
        ("skipped", " (made before; --overwrite makes them again)"),
        ("failed", ""),
        ("cancelled", ""),
    ):
        number = sum(result.status == status for result in report.files)
        text += f"; {number} {status}{remark}" if number else ""
    return "\n".join([text, *left_out_lines(report.left_out, ("picture", "video"))])


def _print_plan(plan: JobPlan, options: UpscaleOptions, networks: Networks, *, as_json: bool) -> int:
    """Describe every job without doing it, and return the exit code; a bad input that is alone raises as in the run."""
    from apisr.cli.output import note, say, say_json
    from apisr.core.media import left_out_lines
    from apisr.upscale.dry_run import DryRun

    described = DryRun(options, networks).describe_all(plan)
    if as_json:
        say_json(described)
    else:
        for file in described.files:
            for line in file.lines():
                say(line)
        for line in left_out_lines(plan.left_out, ("picture", "video")):
            say(line)
        if described.estimate is not None and len(described.files) > 1:
            say(f"together {described.estimate.text}")
    for result in described.failed:
        note(f"apisr: error: {result.message}")
    return 1 if described.failed else 0
