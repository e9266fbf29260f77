"""``apisr degrade``: low-resolution pictures for training and testing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apisr.cli import completing
from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import OverwriteOption, Reporting, SeedOption
from apisr.cli.parsers import expand, factor

if TYPE_CHECKING:
    from apisr.degrade.folder import DegradeResult

EXAMPLES = examples(
    "apisr degrade drawings -o low                          a quarter of the size, as real anime is damaged",
    "apisr degrade drawings -o low2 --scale 2 --seed 7",
    "apisr degrade drawings -o again --replay low/parameters.jsonl",
)


@grouped
def command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN", help="Pictures, folders of them, and patterns like '*.png'.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.", show_default=False)],
    reporting: Reporting,
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            "-p",
            help="apisr, prediction, real-esrgan, bsrgan, bicubic, video, tv, or the path of a recipe (.toml).",
            autocompletion=completing.presets("apisr.degrade"),
        ),
    ] = "apisr",
    scale: Annotated[
        float, typer.Option("--scale", "-s", metavar="FACTOR", parser=factor, help="How much smaller: 1, 2 or 4.")
    ] = 4.0,
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Pictures degraded at the same time.", min=1)] = 1,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", help="Repeat a recorded parameters.jsonl instead of drawing.", show_default=False),
    ] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Make a contact sheet to look at.")] = True,
    overwrite: OverwriteOption = False,
) -> None:
    """Degrade pictures as real anime is: blur, noise, resize, codecs.

    Writes the low-resolution pictures (PNG), parameters.jsonl with everything that was drawn, and
    _look/contact_sheet.png.
    An interrupted run goes on where it stopped.
    """
    from apisr.cli.output import note, say, say_json
    from apisr.core.errors import InputError
    from apisr.degrade import load_recipe
    from apisr.degrade.folder import DegradeOptions, degrade_folder

    if not scale.is_integer():
        raise InputError(f"expected a whole --scale (1, 2 or 4), got {scale:g}.", code="bad-scale")
    recipe = load_recipe(preset, scale=int(scale))
    options = DegradeOptions(seed=seed, workers=workers, overwrite=overwrite, sheet=sheet, replay=replay)
    began = time.monotonic()
    with reporting.display(resumes=True) as display:
        result = degrade_folder(expand(inputs), output, recipe, options, progress=display.show, cancel=display.cancel)
    for name, reason in result.failed.items():
        note(f"apisr: error: {name}: {reason}")
    if reporting.as_json:
        say_json(result)
    elif not reporting.quiet:
        for line in _summary(result, output, seconds=time.monotonic() - began):
            say(line)
    raise typer.Exit(1 if result.failed else 0)


def _summary(result: DegradeResult, output: Path, *, seconds: float) -> list[str]:
    """Return what was done, and a line for each reason for which files were left out."""
    from apisr.cli.output import duration
    from apisr.core.media import left_out_lines
    from apisr.core.text import counted

    notes = f", {len(result.skipped)} were there" if result.skipped else ""
    notes += f", {len(result.failed)} failed" if result.failed else ""
    where = f"; look at {result.sheet}" if result.sheet else ""
    line = f"{counted(len(result.done), 'picture')} degraded into {output} in {duration(seconds)}{notes}{where}"
    return [line, *left_out_lines(result.left_out, ("picture",))]
