"""``apisr enhance``: sharpen the hand-drawn lines of pictures."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer


def command(
    given: Annotated[Path, typer.Argument(metavar="IN", help="A picture, or a folder of pictures.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to write to, or a file for one picture.", show_default=False),
    ],
    preset: Annotated[
        Literal["paper", "reference"],
        typer.Option("--preset", "-p", help="Outside the lines: keep the picture, or sharpen it once."),
    ] = "paper",
    gamma: Annotated[
        float, typer.Option("--gamma", help="Weight of the wide Gaussian of the line finder; larger finds more.")
    ] = 0.975,
    gamma_range: Annotated[
        tuple[float, float] | None,
        typer.Option("--gamma-range", help="Draw gamma for each picture, in place of --gamma.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws of --gamma-range.", min=0)] = 0,
    show: Annotated[bool, typer.Option("--show", help="Also write NAME.panel.png: input, line map, result.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace outputs that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the outcome as JSON on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False,
) -> None:
    """Sharpen hand-drawn lines and nothing else (the paper's pseudo ground truth).

    Alpha, 16 bit and metadata are kept. JPEG and AVIF inputs become PNG, other formats stay.
    """
    from apisr.cli.progress import Progress
    from apisr.enhance import enhance_files

    began = time.monotonic()
    with Progress(quiet=quiet or as_json) as progress:
        progress.start(f"enhancing {given}", unit="pictures")
        outcome = enhance_files(
            given,
            output,
            preset=preset,
            gamma=gamma,
            gamma_range=gamma_range,
            seed=seed,
            show=show,
            overwrite=overwrite,
            progressed=progress.update,
        )
    seconds = time.monotonic() - began
    for source, reason in outcome.failed.items():
        sys.stderr.write(f"apisr: error: {source}: {reason}\n")
    if as_json:
        done = [{"file": str(target), "gamma": value} for target, value in outcome.done.items()]
        failed = {str(source): reason for source, reason in outcome.failed.items()}
        typer.echo(json.dumps({"done": done, "failed": failed, "seconds": seconds}, indent=2))
    elif not quiet:
        notes = f", {len(outcome.failed)} failed" if outcome.failed else ""
        typer.echo(f"{len(outcome.done)} pictures enhanced into {output} in {seconds:.1f} s{notes}")
    raise typer.Exit(1 if outcome.failed else 0)
