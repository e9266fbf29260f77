"""``apisr train``: from a configuration to a model."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from apisr.core.progress import Progress


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
    from apisr.train.trainer import train

    line = _Line()
    try:
        result = train(chosen, resume=resume, progress=line.show)
    finally:
        line.close()
    if not result.first:
        return
    if as_json:
        typer.echo(result.model_dump_json())
    elif result.complete:
        typer.echo(f"done: {result.step} steps, weights in {result.best or result.weights}")
    else:
        typer.echo(f"stopped at step {result.step} with a checkpoint in {result.folder}; --resume goes on")


class _Line:
    """One line on standard error: rewritten in place on a terminal, else a line for each event."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._open = False

    def show(self, event: Progress) -> None:
        """Show how far the run is; notices stay."""
        notice = event.kind == "notice"
        text = event.message if notice else f"step {event.done:.0f}/{event.total or 0:.0f}  {event.message}"
        self._open = self._live and not notice
        sys.stderr.write(f"\r\x1b[K{text}{'' if self._open else chr(10)}" if self._live else text + "\n")
        sys.stderr.flush()

    def close(self) -> None:
        """End the line."""
        if self._open:
            sys.stderr.write("\n")
