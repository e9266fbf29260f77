"""The table of goals met and missed in docs/experiments.md, from the scores that the cards of the shipped models hold.

    python -m benchmarks.bars            write the table
    python -m benchmarks.bars --print    print it

Nothing is measured here: a card's scores are those of the first 8 validation scenes. A goal for soft sources is one for
the weights that they get: the twin's, but for PSNR of apisr-x4 and apisr-x4-fast, where it is the faithful weights'.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from apisr.weights import resolve_model

PAGE = Path(__file__).resolve().parents[1] / "docs" / "experiments.md"
BEGIN, END = "<!-- bars -->\n", "<!-- end bars -->"
HEADS = {"psnr": "PSNR dB", "st_lpips": "ST-LPIPS", "lines_lost": "lines lost"}
INPUTS = {
    "clean": "clean",
    "web": "H.264",
    "dvd": "MPEG-2",
    "compressed": "ruined",
    "old": "soft",
}


@dataclass(frozen=True)
class Bar:
    """What a score should reach: `twin` says whose score."""

    row: str
    metric: str
    bound: float
    twin: bool = False

    def met(self, value: float) -> bool:
        """Tell whether a score reaches it; of PSNR more is better, of the others less."""
        return value >= self.bound if self.metric == "psnr" else value <= self.bound


def _soft(row: str, psnr: float, st_lpips: float, lines_lost: float, *, faithful_psnr: bool = False) -> tuple[Bar, ...]:
    """Return the goals on soft sources: of the twin, or PSNR of the faithful weights and the rest of the twin."""
    return (
        Bar(row, "psnr", psnr, twin=not faithful_psnr),
        Bar(row, "st_lpips", st_lpips, twin=True),
        Bar(row, "lines_lost", lines_lost, twin=True),
    )


#: Faithful model -> its goals.
BARS: dict[str, tuple[Bar, ...]] = {
    "apisr-x2": (
        *_soft("old_x2", 29.9, 0.105, 0.26),
        Bar("clean_x2", "psnr", 34.5),
        Bar("web_x2", "psnr", 31.2),
        Bar("dvd_x2", "psnr", 31.3),
        Bar("compressed_x2", "psnr", 23.0),
    ),
    "apisr-x2-fast": (
        *_soft("old_x2", 29.0, 0.135, 0.35),
        Bar("clean_x2", "psnr", 35.5),
        Bar("web_x2", "psnr", 31.2),
        Bar("dvd_x2", "psnr", 31.3),
    ),
    "apisr-x4": (
        *_soft("old_x4", 26.2, 0.22, 0.55, faithful_psnr=True),
        Bar("clean_x4", "psnr", 29.5),
        Bar("compressed_x4", "psnr", 23.0),
        Bar("compressed_x4", "st_lpips", 0.31, twin=True),
    ),
    "apisr-x4-fast": (
        *_soft("old_x4", 25.8, 0.27, 0.65, faithful_psnr=True),
        Bar("clean_x4", "psnr", 29.5),
        Bar("compressed_x4", "psnr", 22.85),
    ),
    "apisr-x4-max": (
        *_soft("old_x4", 25.3, 0.18, 0.44),
        Bar("compressed_x4", "st_lpips", 0.30, twin=True),
    ),
    "grl-x4": _soft("old_x4", 25.6, 0.29, 0.70),
}


def main(argv: list[str] | None = None) -> int:
    """Parse the line, write or print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bars", description="Goals met and missed.")
    parser.add_argument("--print", action="store_true", help="print the table and stop")
    if not parser.parse_args(argv).print:
        PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(table(), end="")
    return 0


def with_table(text: str) -> str:
    """Return the page with the table of the cards' scores."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the page lacks {BEGIN.strip()} or {END}")
    return f"{before}{BEGIN}{table()}{END}{after}"


def table() -> str:
    """Lay out a line for every model and input: what was reached, and the goal it was to reach."""
    lines = ["| model (hours) | input | " + " | ".join(HEADS.values()) + " |", "|---" * (len(HEADS) + 2) + "|"]
    for name, bars in BARS.items():
        for place, row in enumerate(dict.fromkeys(bar.row for bar in bars)):
            cells = [
                " ".join(_cell(name, bar) for bar in bars if (bar.row, bar.metric) == (row, metric)) or "-"
                for metric in HEADS
            ]
            first = f"`{name}` ({_hours(name)})" if place == 0 else ""
            lines.append(f"| {first} | {INPUTS[row.partition('_')[0]]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def reached(name: str, bar: Bar) -> float | None:
    """Return the score of a card, if it was measured."""
    card = _card(f"{name}-vivid" if bar.twin else name)
    scores = cast("Mapping[str, Mapping[str, Mapping[str, float]]]", card.get("scores", {}))
    return scores.get("rows", {}).get(bar.row, {}).get(bar.metric)


def _cell(name: str, bar: Bar) -> str:
    value, digits = reached(name, bar), {"psnr": 2}.get(bar.metric, 3)
    goal = f"{bar.bound:.{digits}f}"
    if value is None:
        return f"not measured ({goal})"
    return f"**{value:.{digits}f}** ({goal})" if bar.met(value) else f"{value:.{digits}f} ({goal}: missed)"


def _hours(name: str) -> str:
    own, twin = (cast("Mapping[str, float]", _card(each)["training"])["hours"] for each in (name, f"{name}-vivid"))
    return f"{own:g}; twin {twin:g}"


def _card(name: str) -> Mapping[str, object]:
    return resolve_model(name).card


if __name__ == "__main__":
    raise SystemExit(main())
