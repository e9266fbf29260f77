"""``apisr train``: from a configuration to a model."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from apisr.cli import completing
from apisr.cli.grouping import grouped
from apisr.cli.helping import examples
from apisr.cli.options import Reporting

EXAMPLES = examples(
    "apisr train finetune-x2 --set 'data.folders=[\"drawings\"]'   on your own drawings",
    "apisr train tiny-test --show                           the whole configuration of a preset",
    "apisr train mine.toml --resume",
)


@grouped
def command(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A TOML file, or a preset: finetune-x2, finetune-x4, paper-stage1, paper-stage2, tiny-test, ...",
            autocompletion=completing.presets("apisr.train"),
        ),
    ],
    reporting: Reporting,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one value, for example data.batch=8. May be repeated."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the run's last checkpoint (from the start if it has none)."),
    ] = False,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Also begin what this machine cannot do in its memory or within a month.")
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the complete configuration and do nothing.")] = False,
) -> None:
    """Train a network as a configuration says, on one device or many (also under torchrun and SLURM).

    The run's folder (runs/NAME) gets the resolved configuration, metrics.jsonl, TensorBoard events, panels,
    checkpoints, ema.safetensors and best.safetensors.
    """
    from apisr.cli.output import note, say, say_json, say_lines
    from apisr.core.text import counted
    from apisr.train import check_extra
    from apisr.train.config import load_config, to_toml

    chosen = load_config(config, sets=sets or [])
    if show:
        say_lines(to_toml(chosen), end="")
        return
    check_extra()
    from apisr.core.memory import keep_freed_memory
    from apisr.train.trainer import train

    keep_freed_memory()
    with reporting.display(cancels=False) as display:  # a training takes signals itself: it writes a checkpoint first
        result = train(chosen, resume=resume, anyway=anyway, progress=display.show)
    if not result.first:
        return
    if reporting.as_json:
        say_json(result)
    elif result.complete:
        say(f"done: {counted(result.step, 'step')}, weights in {result.best or result.weights}")
        note(f"use them: apisr upscale PICTURE --model {shlex.quote(str(result.folder))}")
    else:
        say(f"stopped at step {result.step} with a checkpoint in {result.folder}; --resume goes on")
