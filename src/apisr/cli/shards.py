"""``apisr shards``: degrade pictures ahead of a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import Reporting, SeedOption

EXAMPLES = examples(
    "apisr shards drawings -o shards",
    "apisr shards dataset -o shards --scale 4 -d web='bicubic:0.3, video:0.7' -d old=tv",
    "apisr shards art -o shards --compose --count 512 --teacher apisr-x2-fast",
    "apisr shards art -o shards --compose --scale 4 -d old=tv -d web=video --target old=apisr-x4-max",
)


ComposeOption = Annotated[
    bool, typer.Option("--compose", help="Compose scenes of the pictures in place of taking them as they are.")
]
TargetsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--target",
        metavar="NAME=MODEL",
        help="Learn what this model makes of the pictures degraded as NAME, with the drawings' colours, in place of "
        "the drawings. May be repeated.",
    ),
]


@grouped
def command(
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", help="Folders of pictures, and datasets of apisr curate.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the shards.", show_default=False)],
    reporting: Reporting,
    scale: Annotated[int, typer.Option("--scale", "-s", help="How much smaller: 1, 2 or 4.")] = 2,
    degradations: Annotated[
        list[str] | None,
        typer.Option(
            "--degradation",
            "-d",
            metavar="NAME=MIXTURE",
            help="A degradation and its name, for example web='bicubic:0.3, video:0.7'. May be repeated: every "
            "picture is degraded with each. By default: all=apisr.",
        ),
    ] = None,
    compose: ComposeOption = False,
    count: Annotated[
        int, typer.Option("--count", "-n", help="Pictures or scenes; 0: every picture once, 256 scenes.", min=0)
    ] = 0,
    teachers: Annotated[
        list[str] | None,
        typer.Option("--teacher", metavar="MODEL", help="Also keep what this model makes of them. May be repeated."),
    ] = None,
    targets: TargetsOption = None,
    seed: SeedOption = 0,
    workers: Annotated[int, typer.Option("--workers", "-w", help="Files at the same time; 0: by cores.", min=0)] = 0,
) -> None:
    """Degrade pictures once, into files that `apisr train --set data.shards=FOLDER` cuts crops from.

    Degrading costs more than a training step of a small network; crops of shards cost next to nothing. The same
    command goes on where it was interrupted, and adds what is new.
    """
    from apisr.cli.output import say, say_json
    from apisr.core.processes import usable_cores
    from apisr.core.text import counted
    from apisr.train import check_extra

    check_extra()
    from apisr.train.data.prepare import ShardRequest, prepare_shards

    request = ShardRequest(
        pictures=tuple(pictures),
        folder=output,
        scale=scale,
        degradations=tuple(degradations or ()),
        compose=compose,
        count=count,
        teachers=tuple(teachers or ()),
        targets=tuple(targets or ()),
        seed=seed,
        workers=workers or usable_cores(),
    )
    with reporting.display(resumes=True) as display:
        result = prepare_shards(request, progress=display.show, cancel=display.cancel)
    if reporting.as_json:
        say_json(result)
    elif not reporting.quiet:
        say(f"{counted(result.pictures, 'picture')} in {output}; train on them with: --set data.shards={output}")
