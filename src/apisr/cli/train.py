"""``apisr train``: from a configuration to a model."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def command(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG",
            help="A TOML file, or a preset: paper-stage1, paper-stage2, lite-x2, lite-x4, rrdb, dat, tiny-test, ...",
        ),
    ],
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set one value, for example data.batch=8. May be repeated."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the run's last checkpoint (from the start if it has none)."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Print the complete configuration and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a network as a configuration says, on one device or many (also under torchrun and SLURM).

    The run's folder (runs/NAME) gets the resolved configuration, metrics.jsonl, TensorBoard events, panels,
    checkpoints, ema.safetensors and best.safetensors.
    """
    from apisr.train.config import load_config, to_toml

    chosen = load_config(config, sets=sets or [])
    if show:
        typer.echo(to_toml(chosen), nl=False)
        return
    from apisr.train.loop import train

    result = train(chosen, resume=resume)
    if not result.first:
        return
    weights = result.best or result.weights
    if as_json:
        values = {
            "folder": str(result.folder),
            "step": result.step,
            "complete": result.complete,
            "weights": str(result.weights),
            "best": str(result.best) if result.best else None,
            "scores": result.scores,
            "losses": result.losses,
        }
        typer.echo(json.dumps(values))
    elif result.complete:
        typer.echo(f"done: {result.step} steps, weights in {weights}")
    else:
        typer.echo(f"stopped at step {result.step} with a checkpoint in {result.folder}; --resume goes on")
