"""``apisr models``: what ships with the package, and what can be fetched."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

command = typer.Typer(help="Show the models that ship with the package.", invoke_without_command=True)


@command.callback()
def table(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show every shipped model: name, scale, parameters, cost per input pixel, licence."""
    if context.invoked_subcommand is not None:
        return
    from apisr.weights import list_models

    rows: list[dict[str, Any]] = [
        {
            "name": model.name,
            "scale": model.scale,
            "parameters": model.card.get("parameters"),
            "kflop_per_pixel": round(float(model.card.get("flops_per_pixel", 0)) / 1e3, 1),
            "license": model.card.get("license"),
        }
        for model in list_models()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo(f"{'name':<24} {'scale':>5} {'parameters':>11} {'kFLOP/pixel':>12}  licence")
    for row in rows:
        typer.echo(
            f"{row['name']:<24} {'x' + str(row['scale']):>5} {row['parameters'] or '?':>11} "
            f"{row['kflop_per_pixel']:>12}  {row['license'] or '?'}"
        )
