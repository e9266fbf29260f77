"""``apisr degrade``: low-resolution pictures for training and testing."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer


def command(
    given: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder of pictures.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.", show_default=False)],
    preset: Annotated[
        str,
        typer.Option(
            "--preset",
            "-p",
            help="apisr, prediction, real-esrgan, bsrgan, bicubic, video, tv, or the path of a recipe (.toml).",
        ),
    ] = "apisr",
    scale: Annotated[int, typer.Option("--scale", "-s", help="How much smaller: 1, 2 or 4.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all draws.", min=0)] = 0,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Pictures degraded at the same time.", min=1)] = 1,
    replay: Annotated[
        Path | None,
        typer.Option("--replay", help="Repeat a recorded parameters.jsonl instead of drawing.", show_default=False),
    ] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Make a contact sheet to look at.")] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run wrote.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Degrade pictures as real anime is: blur, noise, resize, codecs.

    Writes the low-resolution pictures (PNG), parameters.jsonl with everything that was drawn, and contact_sheet.png.
    An interrupted run goes on where it stopped.
    """
    from apisr.cli.progress import Progress
    from apisr.degrade import load_recipe
    from apisr.degrade.folder import DegradeOptions, degrade_folder

    recipe = load_recipe(preset, scale=scale)
    options = DegradeOptions(seed=seed, workers=workers, overwrite=overwrite, sheet=sheet, replay=replay)
    began = time.monotonic()
    with Progress(quiet=quiet or as_json) as progress:
        progress.start(f"degrading {given}", unit="pictures")
        result = degrade_folder(
            given, output, recipe, options, progress=lambda event: progress.update(event.done, event.total)
        )
    seconds = time.monotonic() - began
    for name, reason in result.failed.items():
        sys.stderr.write(f"apisr: error: {name}: {reason}\n")
    if as_json:
        typer.echo(result.model_dump_json(indent=2))
    elif not quiet:
        notes = f", {len(result.skipped)} were there" if result.skipped else ""
        notes += f", {len(result.failed)} failed" if result.failed else ""
        where = f"; look at {result.sheet}" if result.sheet else ""
        typer.echo(f"{len(result.done)} pictures degraded into {output} in {seconds:.1f} s{notes}{where}")
    raise typer.Exit(1 if result.failed else 0)
