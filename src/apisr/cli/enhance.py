"""``apisr enhance``: sharpen the hand-drawn lines of pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import OverwriteOption, Reporting, SeedOption

EXAMPLES = examples(
    "apisr enhance drawing.png -o sharp.png",
    "apisr enhance drawings -o sharp                        a folder with its tree",
    "apisr enhance drawings -o sharp --show --seed 1 --gamma-range 0.97 0.98",
)


GammaRangeOption = Annotated[
    tuple[float, float] | None,
    typer.Option(
        "--gamma-range",
        metavar="LOW HIGH",
        help="Draw gamma for each picture, in place of --gamma.",
        show_default=False,
    ),
]


@grouped
def command(
    inputs: Annotated[
        list[Path], typer.Argument(metavar="IN", help="Pictures, folders of them, and patterns like '*.png'.")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Folder to write to, or a file for one picture.", show_default=False),
    ],
    reporting: Reporting,
    preset: Annotated[
        Literal["paper", "reference"],
        typer.Option("--preset", "-p", help="Outside the lines: keep the picture, or sharpen it once."),
    ] = "paper",
    gamma: Annotated[
        float, typer.Option("--gamma", help="Weight of the wide Gaussian of the line finder; larger finds more.")
    ] = 0.975,
    gamma_range: GammaRangeOption = None,
    seed: SeedOption = 0,
    show: Annotated[
        bool, typer.Option("--show", help="Also write _look/NAME.panel.png: input, line map, result.")
    ] = False,
    overwrite: OverwriteOption = False,
) -> None:
    """Sharpen hand-drawn lines and nothing else (the paper's pseudo ground truth).

    Alpha, 16 bit and metadata are kept. JPEG and AVIF inputs become PNG, other formats stay.
    """
    from apisr.cli.output import duration, note, say, say_json
    from apisr.cli.parsers import expand
    from apisr.core.media import left_out_lines
    from apisr.core.text import counted
    from apisr.enhance import EnhanceOptions, enhance_files

    options = EnhanceOptions(
        preset=preset,
        gamma=gamma,
        gamma_range=gamma_range,
        seed=seed,
        show=show,
        overwrite=overwrite,
    )
    began = time.monotonic()
    with reporting.display() as display:
        result = enhance_files(expand(inputs), output, options, progress=display.show, cancel=display.cancel)
    for path, reason in result.failed.items():
        note(f"apisr: error: {path}: {reason}")
    if reporting.as_json:
        say_json(result)
    elif not reporting.quiet:
        failures = f", {len(result.failed)} failed" if result.failed else ""
        line = (
            f"{counted(len(result.done), 'picture')} enhanced into {output} "
            f"in {duration(time.monotonic() - began)}{failures}"
        )
        for text in (line, *left_out_lines(result.left_out, ("picture",))):
            say(text)
    raise typer.Exit(1 if result.failed else 0)
