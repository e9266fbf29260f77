"""``apisr models``: what ships with the package, what can be fetched, and what is in a model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from apisr.cli import completing
from apisr.cli.helping import Command, Group, examples
from apisr.cli.options import JsonOption, Reporting

if TYPE_CHECKING:
    from apisr.core.progress import ProgressFn
    from apisr.weights import Model
    from apisr.weights.releases import Release

EXAMPLES = examples(
    "apisr models                           what ships; the star is the default",
    "apisr models show apisr-x2-fast              its card: data, training, scores",
    "apisr models fetch apisr-grl-x4        an official release",
)

command = typer.Typer(cls=Group, help="Show, fetch and verify models.", invoke_without_command=True)


@command.callback()
def table(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show every shipped model: name, scale, what it is for, parameters, cost per input pixel, licence."""
    if context.invoked_subcommand is None:
        _print_rows(_shipped_rows(), as_json=as_json)


@command.command("list", cls=Command, epilog=examples("apisr models list", "apisr models list --json"))
def list_all(as_json: JsonOption = False) -> None:
    """Show the shipped models and the official releases that can be fetched."""
    _print_rows(_shipped_rows() + _release_rows(), as_json=as_json)


@command.command(
    cls=Command, epilog=examples("apisr models show apisr-x2-fast", "apisr models show mine.safetensors --json")
)
def show(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of a model, or a model file.", autocompletion=completing.models)
    ],
    as_json: JsonOption = False,
) -> None:
    """Show the card of a model: what it is for, its data, training, scores and licence."""
    from dataclasses import asdict

    from apisr.cli.cards import model_card, release_card
    from apisr.cli.output import say_json, say_lines
    from apisr.weights import resolve_model
    from apisr.weights.releases import CATALOGUE, cached

    release = CATALOGUE.get(model)
    if release is not None and (release.scale is None or cached(release) is None):
        file = str(cached(release) or "not fetched")
        if as_json:
            say_json({**asdict(release), "file": file})
        else:
            say_lines(release_card(release, file))
        return
    resolved = resolve_model(model)
    if as_json:
        say_json(_values(resolved))
    else:
        say_lines(model_card(resolved))


@command.command(
    cls=Command,
    epilog=examples("apisr models fetch apisr-grl-x4", "apisr models fetch apisr-grl-x4 --file saved.pth"),
)
def fetch(
    names: Annotated[
        list[str],
        typer.Argument(metavar="NAME", help="Names from 'apisr models list'.", autocompletion=completing.releases),
    ],
    url: Annotated[
        str | None,
        typer.Option(
            "--url", help="Take it from this address (for releases without a direct one).", show_default=False
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="Take over this file, which you saved by hand.", show_default=False)
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option("--sha256", help="SHA-256 that the file must have, where none is known.", show_default=False),
    ] = None,
) -> None:
    """Download official releases into the cache folder; goes on where an earlier try stopped."""
    from apisr.cli.output import say
    from apisr.core.errors import InputError
    from apisr.weights.releases import adopt, fetch, release_named

    releases = [release_named(name) for name in names]
    if (url or file or sha256) and len(releases) > 1:
        raise InputError(
            f"--url, --file and --sha256 are for one release, got {len(releases)}. Fetch one at a time.",
            code="one-release",
        )
    if url and file:
        raise InputError("--url and --file were both given. Give one of them.", code="url-and-file")
    for release in releases:
        if file is not None:
            say(str(adopt(release, file, sha256=sha256)))
            continue
        with Reporting().display(resumes=True, cancels=False) as display:
            path = fetch(release, url=url, sha256=sha256, progress=_megabytes(release.name, display.show))
        say(str(path))


@command.command(cls=Command, epilog=examples("apisr models verify", "apisr models verify apisr-x2-fast mine.onnx"))
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NAME", help="Names or files; all that are here by default.", autocompletion=completing.models
        ),
    ] = None,
) -> None:
    """Check that model files are whole: SHA-256 of shipped and fetched ones, readability of others."""
    from apisr.cli.output import say
    from apisr.core.errors import ModelError
    from apisr.core.text import counted
    from apisr.weights import list_models, resolve_model
    from apisr.weights.releases import CATALOGUE, cache_folder, cached

    fetched = [name for name, release in CATALOGUE.items() if (cache_folder() / release.file_name).is_file()]
    failures = 0
    for name in names or [*(model.name for model in list_models()), *fetched]:
        try:
            release = CATALOGUE.get(name)
            if release is None:
                resolve_model(name)
            elif cached(release) is None:
                raise ModelError(
                    f"'{name}' is not on this machine. Run: apisr models fetch {name}", code="model-not-fetched"
                )
            say(f"{name}: whole")
        except ModelError as error:
            failures += 1
            say(f"{name}: {error}")
    if failures:
        raise ModelError(f"{counted(failures, 'file')} cannot be used (see above).", code="damaged-models")


def _values(model: Model) -> dict[str, object]:
    return {
        **model.card,
        "name": model.name,
        "file": str(model.path),
        "format": model.format,
        "architecture": model.architecture,
        "scale": model.scale,
        "halo_px": model.traits.halo_px,
        "multiple_px": model.traits.multiple_px,
        "rim_px": model.traits.rim_px,
        "sha256": model.sha256,
    }


def _shipped_rows() -> list[dict[str, object]]:
    from apisr.weights import list_models
    from apisr.weights.model import SOFT_TWIN, VIVID

    models = list_models()
    twins = {f"{model.name}{VIVID}": model.name for model in models if model.card.get(SOFT_TWIN)}
    return [
        {
            "name": model.name,
            "default": bool(model.card.get("default")),
            "scale": model.scale,
            "for": purpose_of(model.card, twin_of=twins.get(model.name)),
            "parameters": model.card.get("parameters"),
            "kflop_per_pixel": round(float(model.card.get("flops_per_pixel", 0)) / 1e3, 1),
            "license": model.card.get("license"),
            "where": "shipped",
        }
        for model in models
    ]


def purpose_of(card: Mapping[str, object], *, twin_of: str | None = None) -> str:
    """Return what a model is for, in a few words of its card.

    Args:
        card: the model's.
        twin_of: the model that takes this one by itself for soft sources, where there is one.

    >>> purpose_of({"title": "apisr-x2-fast: x2 for processors, faithful"})
    'x2 for processors, faithful'
    >>> purpose_of({}, twin_of="apisr-x2")
    'sharpens soft sources; apisr-x2 uses it where needed'
    """
    if twin_of is not None and not card.get("for"):
        return f"sharpens soft sources; {twin_of} uses it where needed"
    return str(card.get("for") or str(card.get("title", "")).partition(": ")[2])


def _release_rows() -> list[dict[str, object]]:
    from apisr.weights.releases import CATALOGUE, cache_folder

    folder = cache_folder()
    return [_release_row(release, here=(folder / release.file_name).is_file()) for release in CATALOGUE.values()]


def _release_row(release: Release, *, here: bool) -> dict[str, object]:
    return {
        "name": release.name,
        "default": False,
        "scale": release.scale,
        "for": f"official release, {release.architecture}",
        "parameters": None,
        "kflop_per_pixel": None,
        "license": release.licence,
        "where": "fetched" if here else "to be fetched",
    }


def _print_rows(rows: list[dict[str, object]], *, as_json: bool) -> None:
    from apisr.cli.output import say, say_json

    if as_json:
        say_json(rows)
        return
    width = max(len(str(row["for"])) for row in rows)
    say(f"  {'name':<22} {'scale':>5} {'parameters':>10} {'kFLOP/px':>9}  {'for':<{width}}  {'where':<13} licence")
    for row in rows:
        scale = f"x{row['scale']}" if row["scale"] else "-"
        cost = "-" if row["kflop_per_pixel"] is None else row["kflop_per_pixel"]
        say(
            f"{'*' if row['default'] else ' '} {row['name']:<22} {scale:>5} {row['parameters'] or '-':>10} {cost:>9}  "
            f"{row['for']:<{width}}  {row['where']:<13} {row['license'] or '?'}"
        )
    if any(row["default"] for row in rows):
        say("* taken where no --model is given, by the scale. The card of one: apisr models show NAME")


def _megabytes(name: str, show: ProgressFn) -> Callable[[int, int | None], None]:
    from apisr.core.progress import Progress

    def report(done: int, total: int | None) -> None:
        show(Progress("fetch", item=name, done=done / 1e6, total=total and total / 1e6, unit="MB"))

    return report
