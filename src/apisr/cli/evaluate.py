"""`apisr evaluate`: scores of pictures, clips and models."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Annotated, Literal

import typer

from apisr.core.progress import Progress as Event
from apisr.core.progress import ProgressFn, no_progress
from apisr.core.text import printable


def command(
    pictures: Annotated[
        list[Path],
        typer.Argument(help="Outputs to score, or with --model inputs: files, folders, 'patterns/*/with.mkv'."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.json and report.html.")],
    reference: Annotated[
        Path | None, typer.Option(help="Ground truth of the same names: a folder, file or pattern.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Enlarge the pictures first: a model's name or file, or lanczos, bicubic.")
    ] = None,
    scale: Annotated[int | None, typer.Option(help="Factor of the model; taken from --reference if given.")] = None,
    metrics: Annotated[
        str | None,
        typer.Option(help="Names with commas; by default those of the protocol. Others than the built-in: pyiqa."),
    ] = None,
    protocol: Annotated[
        Literal["deterministic", "paper"], typer.Option(help="What is measured on what.")
    ] = "deterministic",
    layout: Annotated[
        Literal["pictures", "clips", "avc-reallq"],
        typer.Option(help="How folders are read: each picture for itself, or each folder as a clip."),
    ] = "pictures",
    frame_step: Annotated[int | None, typer.Option(min=1, help="Of clips, score every N-th frame.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of crops, bootstrap and metrics that draw.")] = 0,
    against: Annotated[
        Path | None, typer.Option(help="Another report: differences picture by picture are printed too.")
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the pairs that there are; the rest is named in the report.")
    ] = False,
    save_outputs: Annotated[Path | None, typer.Option(help="Keep the model's outputs in this folder.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, ...")] = "auto",
    tta: Annotated[bool, typer.Option("--tta", help="Of --model, the mean over eight flips and turns.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a report that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON instead of tables.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Score pictures, clips or a model; writes report.json and report.html."""
    from apisr.core.errors import InputError
    from apisr.evaluate import EvaluateOptions, evaluate, read_report, write_report
    from apisr.evaluate.compare import check_protocols
    from apisr.evaluate.protocols import PROTOCOLS
    from apisr.evaluate.run import check_report_folder
    from apisr.evaluate.text import difference_table, summary_table

    check_report_folder(output, overwrite=overwrite)
    if save_outputs is not None and model is None:
        raise InputError("--save-outputs keeps what a model makes. Give --model, or leave it out.")
    if tta and model is None:
        raise InputError("--tta turns what a model is given. Give --model, or leave it out.")
    other = None if against is None else read_report(against)
    changes = {"seed": seed} | ({} if frame_step is None else {"frame_step": frame_step})
    chosen = PROTOCOLS[protocol].model_copy(update=changes)
    if other is not None:
        check_protocols(chosen, other.protocol)
    with _progress(quiet=quiet or as_json) as advance:
        options = EvaluateOptions(
            scale=scale,
            metrics=None if metrics is None else [name.strip() for name in metrics.split(",") if name.strip()],
            protocol=chosen,
            layout=layout,
            allow_missing=allow_missing,
            device=device,
            tta=tta,
            outputs=save_outputs,
        )
        evaluation = evaluate(pictures, reference=reference, model=model, options=options, progress=advance)
    json_file, page_file = write_report(evaluation, output, against=other, overwrite=overwrite)
    report = evaluation.report
    if as_json:
        typer.echo(report.to_json(), nl=False)
    else:
        typer.echo(summary_table(report))
        if other is not None:
            typer.echo(difference_table(report, other))
    for name, reason in report.absent.items():
        typer.echo(
            f"{name}: no value for {reason}" if name in report.summary else f"{name}: absent, {reason}", err=True
        )
    for notice in report.notices:
        typer.echo(notice, err=True)
    typer.echo(f"wrote {json_file} and {page_file}", err=True)


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Generator[ProgressFn]:
    """Progress on standard error: a bar on a terminal, a line every tenth of the way elsewhere."""
    if quiet:
        yield no_progress
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("scoring", total=None)
            yield lambda event: bar.update(
                task, completed=event.done, total=event.total, description=printable(event.item)
            )
    else:

        def line(event: Event) -> None:
            done, total = event.index, event.count
            if done == total or done * 10 // total > (done - 1) * 10 // total:
                typer.echo(f"{done}/{total} {printable(event.item)}", err=True)

        yield line
