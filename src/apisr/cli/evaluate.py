"""``apisr evaluate``: scores of pictures, clips and models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from apisr.cli import completing
from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import DeviceOption, ModelOption, OverwriteOption, Reporting, SeedOption, TtaOption
from apisr.cli.parsers import names

if TYPE_CHECKING:
    from apisr.evaluate.options import EvaluateOptions
    from apisr.evaluate.protocols import Protocol
    from apisr.evaluate.report import Report

EXAMPLES = examples(
    "apisr evaluate upscaled --reference originals -o report",
    "apisr evaluate low --reference originals --model apisr-x2-fast --metrics psnr,ssim -o report",
    "apisr evaluate new --reference originals -o report2 --against report",
    "apisr evaluate frames --gallery lanczos,apisr-x2,peer=outputs/peer --scale 2 -o vote",
)


@dataclass(frozen=True)
class Enlarging:
    """What is done to the pictures before they are scored."""

    model: ModelOption = None
    scale: Annotated[
        int | None,
        typer.Option("--scale", help="Factor of the model; taken from --reference if given.", show_default=False),
    ] = None
    tta: TtaOption = False
    device: DeviceOption = "auto"
    gallery: Annotated[
        str | None,
        typer.Option(
            "--gallery",
            help="Write gallery.html, on which people vote, instead of a report: models with commas, LABEL=FOLDER for "
            "outputs made elsewhere.",
            show_default=False,
        ),
    ] = None
    save_outputs: Annotated[
        Path | None, typer.Option("--save-outputs", help="Keep the model's outputs in this folder.", show_default=False)
    ] = None

    def check(self) -> None:
        """Refuse options that contradict each other.

        Raises:
            InputError: an option of models without ``--model``, or ``--gallery`` with it.
        """
        from apisr.core.errors import InputError

        if self.model is None and (self.save_outputs is not None or self.tta):
            name = "--tta" if self.tta else "--save-outputs"
            raise InputError(f"{name} goes with --model. Give --model, or leave it out.", code="model-needed")
        if self.gallery is not None and self.model is not None:
            raise InputError("--gallery names its models itself. Leave out --model.", code="options-conflict")


@dataclass(frozen=True)
class Measuring:
    """What is measured on what."""

    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help="Names with commas; by default those of the protocol. Others than the built-in: pyiqa.",
            show_default=False,
            autocompletion=completing.metrics,
        ),
    ] = None
    protocol: Annotated[
        Literal["deterministic", "paper"], typer.Option("--protocol", help="What is measured on what.")
    ] = "deterministic"
    layout: Annotated[
        Literal["pictures", "clips", "avc-reallq"],
        typer.Option("--layout", help="How folders are read: each picture for itself, or each folder as a clip."),
    ] = "pictures"
    frame_step: Annotated[
        int | None,
        typer.Option("--frame-step", min=1, help="Score every N-th frame of each clip.", show_default=False),
    ] = None
    seed: SeedOption = 0
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score the pairs that there are; the rest is named in the report.")
    ] = False

    def chosen_protocol(self) -> Protocol:
        """Return the protocol with the changes of the command line."""
        from apisr.evaluate.protocols import PROTOCOLS

        changes = {"seed": self.seed} | ({} if self.frame_step is None else {"frame_step": self.frame_step})
        return PROTOCOLS[self.protocol].model_copy(update=changes)


@grouped
def command(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN", help="Outputs to score, or with --model inputs: files, folders, 'patterns/*/with.mkv'."
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for report.json and report.html.", show_default=False)
    ],
    enlarging: Enlarging,
    measuring: Measuring,
    reporting: Reporting,
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", help="Ground truth of the same names: a folder, file or pattern.", show_default=False
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against", help="Another report: differences picture by picture are printed too.", show_default=False
        ),
    ] = None,
    overwrite: OverwriteOption = False,
) -> None:
    """Score pictures, clips or a model; writes report.json and report.html.

    With --gallery it writes a page on which people vote, blind, which model is best.
    """
    from apisr.cli.output import note
    from apisr.core.memory import keep_freed_memory
    from apisr.evaluate import evaluate, read_report, write_report
    from apisr.evaluate.compare import check_protocols
    from apisr.evaluate.run import check_report_folder

    enlarging.check()
    if enlarging.gallery is not None:
        _make_gallery(pictures, output, enlarging, measuring, reporting, reference=reference, overwrite=overwrite)
        return
    check_report_folder(output, overwrite=overwrite)
    other = None if against is None else read_report(against)
    protocol = measuring.chosen_protocol()
    if other is not None:
        check_protocols(protocol, other.protocol)
    options = _options(enlarging, measuring, protocol)
    keep_freed_memory()
    with reporting.display() as display:
        evaluation = evaluate(
            pictures,
            reference=reference,
            model=enlarging.model,
            options=options,
            progress=display.show,
            cancel=display.cancel,
        )
    json_file, page_file = write_report(evaluation, output, against=other, overwrite=overwrite)
    _print_report(evaluation.report, other, as_json=reporting.as_json)
    note(f"wrote {json_file} and {page_file}")


def _options(enlarging: Enlarging, measuring: Measuring, protocol: Protocol) -> EvaluateOptions:
    from apisr.evaluate import EvaluateOptions

    return EvaluateOptions(
        scale=enlarging.scale,
        metrics=None if measuring.metrics is None else names(measuring.metrics),
        protocol=protocol,
        layout=measuring.layout,
        allow_missing=measuring.allow_missing,
        device=enlarging.device,
        tta=enlarging.tta,
        outputs=enlarging.save_outputs,
    )


def _make_gallery(
    pictures: list[Path],
    output: Path,
    enlarging: Enlarging,
    measuring: Measuring,
    reporting: Reporting,
    *,
    reference: Path | None,
    overwrite: bool,
) -> None:
    from apisr.cli.output import note, say
    from apisr.evaluate.gallery import GalleryOptions, make_gallery

    options = GalleryOptions(
        scale=enlarging.scale,
        layout=measuring.layout,
        allow_missing=measuring.allow_missing,
        device=enlarging.device,
        seed=measuring.seed,
        frame_step=measuring.frame_step or GalleryOptions.frame_step,
    )
    with reporting.display() as display:
        page = make_gallery(
            pictures,
            names(enlarging.gallery or ""),
            output,
            reference=reference,
            options=options,
            overwrite=overwrite,
            progress=display.show,
            cancel=display.cancel,
        )
    say(str(page))
    note("open it in a browser; the order does not tell who made which")


def _print_report(report: Report, other: Report | None, *, as_json: bool) -> None:
    from apisr.cli.output import note, say_for_programs, say_lines
    from apisr.evaluate.text import difference_table, summary_table

    if as_json:
        say_for_programs(report.to_json())
    else:
        say_lines(summary_table(report))
        if other is not None:
            say_lines(difference_table(report, other))
    for name, reason in report.absent.items():
        note(f"{name}: no value for {reason}" if name in report.summary else f"{name}: absent, {reason}")
    for notice in report.notices:
        note(notice)
