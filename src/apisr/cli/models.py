"""``apisr models``: what ships with the package, what can be fetched, and what is in a model file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

command = typer.Typer(help="Show, fetch and verify models.", invoke_without_command=True)

_JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@command.callback()
def table(context: typer.Context, as_json: _JsonOption = False) -> None:
    """Show every shipped model: name, scale, parameters, cost per input pixel, licence."""
    if context.invoked_subcommand is None:
        _print_rows(_shipped_rows(), as_json=as_json)


@command.command("list")
def list_all(as_json: _JsonOption = False) -> None:
    """Show the shipped models and the official releases that can be fetched."""
    _print_rows(_shipped_rows() + _release_rows(), as_json=as_json)


@command.command()
def show(
    model: Annotated[str, typer.Argument(help="Name of a model, or a model file.")], as_json: _JsonOption = False
) -> None:
    """Show everything that is known of one model."""
    from dataclasses import asdict

    from apisr.weights import resolve_model
    from apisr.weights.releases import CATALOGUE, cached

    release = CATALOGUE.get(model)
    if release is not None and (release.scale is None or cached(release) is None):
        content: dict[str, Any] = {**asdict(release), "file": str(cached(release) or "not fetched")}
    else:
        found = resolve_model(model)
        content = {
            **found.card,
            "name": found.name,
            "file": str(found.path),
            "format": found.format,
            "architecture": found.architecture,
            "scale": found.scale,
            "halo_px": found.traits.halo_px,
            "multiple_px": found.traits.multiple_px,
            "sha256": found.sha256,
        }
    if as_json:
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for key, value in content.items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else value
        typer.echo(f"{key}: {shown}")


@command.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="Names from 'apisr models list'.")],
    url: Annotated[
        str | None, typer.Option(help="Take it from this address (for releases without a direct one).")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Take over this file, which you saved by hand.")] = None,
    sha256: Annotated[str | None, typer.Option(help="SHA-256 that the file must have, where none is known.")] = None,
) -> None:
    """Download official releases into the cache folder; goes on where an earlier try stopped."""
    from apisr.core.errors import InputError
    from apisr.weights.releases import adopt, fetch, release_named

    releases = [release_named(name) for name in names]
    if (url or file or sha256) and len(releases) > 1:
        raise InputError(f"--url, --file and --sha256 are for one release, got {len(releases)}. Fetch one at a time.")
    if url and file:
        raise InputError("give --url or --file, not both.")
    for release in releases:
        if file is not None:
            path = adopt(release, file, sha256=sha256)
        else:
            progress = _progress(release.name) if sys.stderr.isatty() else None
            path = fetch(release, url=url, sha256=sha256, progress=progress)
        typer.echo(str(path))


@command.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(help="Names or files; all that are here by default.")] = None,
) -> None:
    """Check that model files are whole: SHA-256 of shipped and fetched ones, readability of others."""
    from apisr.core.errors import ModelError
    from apisr.weights import list_models, resolve_model
    from apisr.weights.releases import CATALOGUE, cache_folder, cached

    fetched = [name for name, release in CATALOGUE.items() if (cache_folder() / release.file_name).is_file()]
    failures: list[str] = []
    for name in names or [*(model.name for model in list_models()), *fetched]:
        try:
            release = CATALOGUE.get(name)
            if release is None:
                resolve_model(name)
            elif cached(release) is None:
                raise ModelError(f"'{name}' is not on this machine. Run: apisr models fetch {name}")
            typer.echo(f"{name}: whole")
        except ModelError as error:
            failures.append(str(error))
            typer.echo(f"{name}: {error}")
    if failures:
        raise ModelError(f"{len(failures)} of the files cannot be used (see above).")


def _shipped_rows() -> list[dict[str, Any]]:
    from apisr.weights import list_models

    return [
        {
            "name": model.name,
            "scale": model.scale,
            "parameters": model.card.get("parameters"),
            "kflop_per_pixel": round(float(model.card.get("flops_per_pixel", 0)) / 1e3, 1),
            "license": model.card.get("license"),
            "where": "shipped",
        }
        for model in list_models()
    ]


def _release_rows() -> list[dict[str, Any]]:
    from apisr.weights.releases import CATALOGUE, cache_folder

    folder = cache_folder()
    return [
        {
            "name": release.name,
            "scale": release.scale,
            "parameters": None,
            "kflop_per_pixel": None,
            "license": release.licence,
            "where": "fetched" if (folder / release.file_name).is_file() else "to be fetched",
        }
        for release in CATALOGUE.values()
    ]


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    typer.echo(f"{'name':<24} {'scale':>5} {'parameters':>11} {'kFLOP/pixel':>12}  {'where':<14} licence")
    for row in rows:
        scale = f"x{row['scale']}" if row["scale"] else "-"
        cost = "-" if row["kflop_per_pixel"] is None else row["kflop_per_pixel"]
        typer.echo(
            f"{row['name']:<24} {scale:>5} {row['parameters'] or '-':>11} {cost:>12}  {row['where']:<14} "
            f"{row['license'] or '?'}"
        )


def _progress(name: str) -> Any:
    """Print the state of a download on standard error, a few times a second."""
    import time

    last = 0.0

    def report(done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < 0.2 and done != total:
            return
        last = now
        share = f" of {total / 1e6:.1f}" if total else ""
        end = "\n" if done == total else ""
        sys.stderr.write(f"\r{name}: {done / 1e6:.1f}{share} MB{end}")
        sys.stderr.flush()

    return report
