"""Cards of models as text for a terminal and as Markdown for the documentation."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from apisr.weights import Model
    from apisr.weights.releases import Release

WIDTH = 100


def model_card(model: Model) -> str:
    """Return the card of a model as text of at most :data:`WIDTH` columns."""
    card = model.card
    lines = [str(card.get("title") or model.name), ""]
    lines += _facts(
        {
            "enlarges": f"x{model.scale}",
            "network": model.architecture,
            "parameters": card.get("parameters"),
            "cost": _cost(card.get("flops_per_pixel")),
            "licence": card.get("license"),
            "tiles": "not possible"
            if model.traits.halo_px is None
            else f"exact with a halo of {model.traits.halo_px} pixels",
            "before it": "colours are cleaned along luma" if model.cleans_colours else None,
            "file": model.path,
            "SHA-256": model.sha256,
        }
    )
    for heading, text in text_sections(card):
        lines += ["", heading, *textwrap.wrap(text, WIDTH - 2, initial_indent="  ", subsequent_indent="  ")]
    table = score_table(card)
    if table:
        lines += ["", "Scores", *(f"  {line}" for line in _aligned(table))]
    return "\n".join(lines)


def release_card(release: Release, file: str) -> str:
    """Return what is known of a published file as text."""
    size = f"{release.size_bytes / 1e6:.1f} MB" if release.size_bytes else None
    facts = {
        "enlarges": f"x{release.scale}" if release.scale else "nothing: it helps in training or evaluation",
        "network": release.architecture,
        "licence": release.licence,
        "paper": release.paper,
        "page": release.page,
        "size": size,
        "SHA-256": release.sha256,
        "file": file,
    }
    return "\n".join([f"{release.name}: {release.file_name}", "", *_facts(facts)])


def text_sections(card: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the sections of running text of a card: (heading, text)."""
    sections: list[tuple[str, str]] = []
    if card.get("notes"):
        sections.append(("Good to know", str(card["notes"])))
    training = card.get("training")
    if isinstance(training, Mapping):
        values = cast("Mapping[str, object]", training)
        facts = ", ".join(f"{key}: {value}" for key, value in values.items() if key != "recipe" and _short(value))
        sections.append(("Training", " ".join(part for part in (str(values.get("recipe", "")), f"({facts})") if part)))
    data = card.get("data")
    if isinstance(data, Sequence) and not isinstance(data, str):
        sections.append(("Data", "; ".join(_source(cast("object", source)) for source in data)))
    if card.get("fonts"):
        sections.append(("Fonts", str(card["fonts"])))
    return sections


def score_table(card: Mapping[str, object]) -> list[list[str]]:
    """Return the scores of a card as a table with a head row; empty where there are none."""
    scores = card.get("scores")
    rows = cast("Mapping[str, object]", scores).get("rows") if isinstance(scores, Mapping) else None
    if not isinstance(rows, Mapping):
        return []
    flat = {str(name): _flat(value) for name, value in cast("Mapping[str, object]", rows).items()}
    columns = list(dict.fromkeys(key for values in flat.values() for key in values))
    return [["", *columns], *([name, *(values.get(key, "") for key in columns)] for name, values in flat.items())]


def _flat(value: object, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, Mapping):
        return {prefix.strip(): f"{value:g}" if isinstance(value, float) else str(value)}
    flat: dict[str, str] = {}
    for key, inner in cast("Mapping[str, object]", value).items():
        flat |= _flat(inner, f"{prefix} {key}")
    return flat


def _short(value: object) -> bool:
    return isinstance(value, (int, float, bool)) or (isinstance(value, str) and len(value) < 40)


def _source(source: object) -> str:
    if not isinstance(source, Mapping):
        return str(source)
    values = cast("Mapping[str, object]", source)
    rest = ", ".join(str(value) for key, value in values.items() if key != "name" and value)
    return f"{values.get('name', '')} ({rest})"


def _cost(flops: object) -> str | None:
    return f"{float(flops) / 1e6:.2f} MFLOP per input pixel" if isinstance(flops, (int, float)) else None


def _facts(facts: Mapping[str, object]) -> list[str]:
    return [f"{name + ':':<12} {value}" for name, value in facts.items() if value not in (None, "")]


def _aligned(table: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return [
        "  ".join(cell.ljust(width) if column == 0 else cell.rjust(width) for column, (cell, width) in enumerate(cells))
        for cells in ([*zip(row, widths, strict=True)] for row in table)
    ]
