"""Pages of the documentation that are made from the program: commands, results as JSON, cards of models.

MkDocs calls :func:`on_files` when it builds the site; ``python scripts/site.py`` prints the pages.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

    from apisr.weights import Model

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for uri, text in pages().items():
        files.append(File.generated(config, uri, content=text))
    return files


def pages() -> dict[str, str]:
    """Return the generated pages by their path below ``docs``."""
    return {
        "reference/commands.md": commands_page(),
        "reference/results.md": results_page(),
        "reference/licences.md": licences_page(),
        "reference/scores.md": scores_page(),
        **card_pages(),
    }


def commands_page() -> str:
    """Return the reference of the command line, made from the commands themselves."""
    import typer

    from apisr.cli import program

    command = program()
    context = typer.Context(command, info_name="apisr")
    lines = [
        "# Commands",
        "",
        "Every command takes `--help`. Exit codes: 0 complete success, 1 a failed run, 2 bad input, 130 stopped.",
        "Errors are one line on standard error; `--debug` shows where they come from.",
    ]
    for path, entry in _commands(command, context, ("apisr",)):
        lines += ["", f"## {' '.join(path)}", "", *_described(entry)]
    return "\n".join(lines) + "\n"


def results_page() -> str:
    """Return the JSON schema of what ``--json`` prints."""
    from pydantic import TypeAdapter

    lines = [
        "# Results as JSON",
        "",
        "With `--json` a command prints its result on standard output, exactly as its schema says. The Python",
        "functions return the same models. With `--progress json` progress goes to standard error, one event a line:",
        "`stage`, `kind` (started, advanced, notice, ended), `item`, `index`, `count`, `done`, `total`, `unit`,",
        "`message`.",
    ]
    for command, kind in result_models().items():
        schema = json.dumps(TypeAdapter(kind).json_schema(mode="serialization"), indent=2)
        lines += ["", f"## apisr {command} --json", "", "```json", schema, "```"]
    lines += ["", "`apisr models show` prints a model's card, or what is known of a release, as it is written there."]
    return "\n".join(lines) + "\n"


def result_models() -> dict[str, Any]:
    """Return what each command prints with ``--json``."""
    from apisr.cli.schemas import Machine, ModelRow, SettingsReport
    from apisr.curate.run import CurateResult
    from apisr.degrade.folder import DegradeResult
    from apisr.engines.benchmark import Benchmark
    from apisr.enhance import EnhanceResult
    from apisr.evaluate.report import Report
    from apisr.train.trainer import TrainResult
    from apisr.upscale.results import RunReport

    return {
        "upscale": RunReport,
        "curate": CurateResult,
        "enhance": EnhanceResult,
        "degrade": DegradeResult,
        "train": TrainResult,
        "evaluate": Report,
        "models": list[ModelRow],
        "config": SettingsReport,
        "doctor": Machine,
        "doctor --benchmark": Benchmark,
    }


def card_pages() -> dict[str, str]:
    """Return a page for each shipped model, with its picture, and the list of them."""
    from apisr.weights import list_models

    pages: dict[str, str] = {}
    lines = [
        "# Cards of the shipped models",
        "",
        "| model | enlarges | network | parameters | licence |",
        "|---" * 5 + "|",
    ]
    for model in list_models():
        card = model.card
        pages[f"reference/cards/{model.name}.md"] = card_page(model)
        name = f"[{model.name}](cards/{model.name}.md)" + (" (default)" if card.get("default") else "")
        parameters, licence = card.get("parameters", ""), card.get("license", "")
        purpose = _escaped(str(card.get("title", "")).partition(": ")[2]) or f"x{model.scale}"
        lines.append(f"| {name} | {purpose} | {model.architecture} | {parameters} | {licence} |")
    return {"reference/cards.md": "\n".join(lines) + "\n", **pages}


def card_page(model: Model) -> str:
    """Return the card of a shipped model as a page."""
    from apisr.cli.cards import score_table, text_sections

    card = model.card
    lines = [f"# {model.name}", "", f"{card.get('title', model.name)}.", ""]
    picture = model.name.removesuffix("-vivid")
    if (ROOT / "docs" / "models" / f"{picture}.webp").is_file():
        lines += [f"![Crops: input, Lanczos, {picture}, original](../../models/{picture}.webp)", ""]
    lines += ["| | |", "|---|---|"]
    for name, value in (
        ("enlarges", f"x{model.scale}"),
        ("network", model.architecture),
        ("parameters", card.get("parameters")),
        ("licence", card.get("license")),
        ("default", "yes" if card.get("default") else "no"),
        ("SHA-256", f"`{model.sha256}`"),
    ):
        lines.append(f"| {name} | {value} |")
    for heading, text in text_sections(card):
        lines += ["", f"## {heading}", "", _escaped(text)]
    table = score_table(card)
    if table:
        lines += ["", "## Scores", "", "| " + " | ".join(table[0]) + " |", "|---" * len(table[0]) + "|"]
        lines += ["| " + " | ".join(row) + " |" for row in table[1:]]
    return "\n".join(lines) + "\n"


def scores_page() -> str:
    """Return the scores of every shipped model and peer on the validation scenes of the repository."""
    sys.path.insert(0, str(ROOT))
    try:
        from benchmarks import scores
    finally:
        sys.path.remove(str(ROOT))
    stored = scores.read()
    lines = [
        "# Scores",
        "",
        f"Means over the {len(stored['scenes'])} scenes of the folder `validation`, {stored['date']}, made by",
        "`python -m benchmarks.scores`. PSNR and SSIM of the RGB pictures, 8 bits, 8 pixels cut at each side; lines",
        "lost: the share of the dark lines (lower is better). animevideov3 enlarges by 4; at x2 its output is halved.",
        '"auto" takes the strength that the measured softness of a picture asks for, as `apisr upscale` does.',
    ]
    for row in stored["rows"]:
        kind, _, scale = row.partition("_x")
        lines += ["", f"## x{scale}, {scores.INPUTS[kind]}", "", scores.full_table(stored["rows"], row).strip()]
    return "\n".join(lines) + "\n"


def licences_page() -> str:
    """Return the licences of everything that ships: the program, its models and their data, the example files."""
    from apisr.weights import list_models

    lines = ["# Licences", "", "```text", (ROOT / "NOTICE").read_text(encoding="utf-8").strip(), "```"]
    lines += ["", "## Models", "", "| model | licence | trained on |", "|---|---|---|"]
    for model in list_models():
        sources = model.card.get("data") or []
        names = ", ".join(f"{source['name']} ({source['licence']})" for source in sources if isinstance(source, dict))
        lines.append(f"| {model.name} | {model.card.get('license', '')} | {_escaped(names)} |")
    examples = (ROOT / "examples" / "README.md").read_text(encoding="utf-8").partition("\n")[2]
    lines += ["", "## Example files", examples.strip()]
    return "\n".join(lines) + "\n"


def _commands(command: Any, context: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name in command.list_commands(context):
        entry = command.get_command(context, name)
        if entry is None or entry.hidden:
            continue
        yield (*path, name), entry
        if hasattr(entry, "list_commands"):
            yield from _commands(entry, context, (*path, name))


def _described(entry: Any) -> list[str]:
    lines = [_escaped((entry.help or "").strip()), ""]
    if entry.epilog:
        lines += ["```sh", *(line.strip() for line in entry.epilog.splitlines()[1:]), "```", ""]
    rows = [row for row in map(_row, entry.params) if row]
    if rows:
        lines += ["| option | what it does | default |", "|---|---|---|", *rows]
    return lines


def _row(parameter: Any) -> str:
    if getattr(parameter, "hidden", False):
        return ""
    names = [*parameter.opts, *getattr(parameter, "secondary_opts", [])]
    if not any(name.startswith("-") for name in names):
        names = [parameter.metavar or parameter.name.upper()]
    shown = ", ".join(f"`{name}`" for name in names)
    default = parameter.default
    given = getattr(parameter, "show_default", True) is not False and not callable(default)
    text = "" if default in (None, False, ()) or not given else f"`{default}`"
    return f"| {shown} | {_escaped(getattr(parameter, 'help', None) or '')} | {text} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write("\n".join(pages().values()))
