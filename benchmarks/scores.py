"""The scores in the README and on the site: every shipped model on the validation scenes of this repository.

    python -m benchmarks.scores            score what has changed, write validation/scores.json and the README's table
    python -m benchmarks.scores --all      score everything again
    python -m benchmarks.scores --print    print the table of what is stored, score nothing

A model is scored again when its weights have changed. Peers that cannot be had here keep their stored scores:
animevideov3 comes with `apisr models fetch realesr-animevideov3` (read with the extra torch). The light core is enough
for the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from benchmarks.validation import METRICS, ROOT, ROWS, SMALL, Upscaler, metrics, pairs, scenes, score, shown, upscalers

STORE, README = SMALL / "scores.json", ROOT / "README.md"
BEGIN, END = "<!-- scores -->\n", "<!-- end scores -->"
INPUTS = {
    "clean": "clean",
    "web": "H.264, CRF 28",
    "dvd": "MPEG-2",
    "compressed": "all damage at once",
    "old": "old transfer",
}
#: Columns of the README's table; a name that does not exist at a scale gives way to the next.
COLUMNS = {
    "Lanczos": ("lanczos",),
    "animevideov3": ("animevideov3",),
    "Real-CUGAN": ("Real-CUGAN",),
    "apisr, fast": ("apisr-x{scale}-fast, auto", "apisr-x{scale}-fast"),
    "apisr": ("apisr-x{scale}, auto", "apisr-x{scale}"),
    "apisr, large": ("apisr-x{scale}-max, auto",),
}
#: What is stored and shown.
SCORED = ("psnr", "ssim", "line_lost")
LESS_IS_BETTER = ("line_lost",)

#: Row -> upscaler -> {"identity": ..., "scores": {metric: [one a scene]}}.
Rows = dict[str, dict[str, dict[str, object]]]


def main(argv: list[str] | None = None) -> int:
    """Parse the line, score, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scores", description="Score the shipped models.")
    parser.add_argument("--all", action="store_true", help="score everything again")
    parser.add_argument("--print", action="store_true", help="print the stored table and stop")
    options = parser.parse_args(argv)
    stored = read()
    if not options.print:
        stored |= {"date": f"{datetime.now(UTC):%Y-%m-%d}", "scenes": [path.stem for path in scenes(SMALL, "gt")]}
        update(stored["rows"], everything=options.all, save=partial(write, stored))
        README.write_text(with_table(README.read_text(encoding="utf-8"), stored["rows"]), encoding="utf-8")
    print(table(stored["rows"]), end="")
    return 0


def read() -> dict[str, object]:
    """Return what is stored."""
    return json.loads(STORE.read_text(encoding="utf-8")) if STORE.is_file() else {"date": "", "scenes": [], "rows": {}}


def write(stored: dict[str, object]) -> None:
    """Store the scores: after every model, so that a stopped run goes on where it was."""
    STORE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")


def update(rows: Rows, *, everything: bool, save: Callable[[], None]) -> None:
    """Score what is new or has changed; forget models that no longer ship."""
    opened = metrics(SCORED)
    for row in ROWS:
        kept = rows.setdefault(row, {})
        here = as_used(upscalers(int(row[-1])))
        for name in [name for name in kept if name.startswith(("apisr", "grl")) and name not in here]:
            del kept[name]
        wanted = {
            name: upscaler
            for name, upscaler in here.items()
            if everything or name not in kept or kept[name]["identity"] != upscaler.identity
        }
        lows, truths = pairs(SMALL, row, 99) if wanted else ([], [])
        for name, upscaler in wanted.items():
            print(f"{row}: {name}", file=sys.stderr, flush=True)
            scored = score(opened, [upscaler.apply(low) for low in lows], truths)
            rounded = {
                metric: [None if value is None else round(value, 5) for value in values]
                for metric, values in scored.items()
            }
            kept[name] = {"identity": upscaler.identity, "scores": rounded}
            save()


def as_used(found: dict[str, Upscaler]) -> dict[str, Upscaler]:
    """Leave out the halves of what is used as a pair: a twin alone, and a model alone where the source decides."""
    return {
        name: upscaler
        for name, upscaler in found.items()
        if not name.endswith("-vivid") and f"{name}, auto" not in found
    }


def with_table(text: str, rows: Rows) -> str:
    """Return the README with the table of these scores."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"the README lacks {BEGIN.strip()} or {END}")
    return f"{before}{BEGIN}{table(rows)}{END}{after}"


def table(rows: Rows) -> str:
    """Return the README's table; the best of each figure is bold."""
    lines = ["| input | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    for row in ROWS:
        kind, _, scale = row.partition("_x")
        chosen = [_first(rows[row], [name.format(scale=scale) for name in names]) for names in COLUMNS.values()]
        figures = [[shown(metric, scores.get(metric)) for scores in chosen] for metric in SCORED]
        best = [_best(metric, values) for metric, values in zip(SCORED, figures, strict=True)]
        cells = [
            "-" if set(column) == {"-"} else " / ".join(map(_marked, column, best))
            for column in zip(*figures, strict=True)
        ]
        lines.append(f"| x{scale}, {INPUTS[kind]} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def full_table(rows: Rows, row: str) -> str:
    """Return one row of the validation set with every upscaler and metric, for the site."""
    lines = ["| " + " | ".join(("", *(METRICS[name] for name in SCORED))) + " |", "|---" * (len(SCORED) + 1) + "|"]
    for name in sorted(rows[row], key=lambda name: (name.startswith(("apisr", "grl")), name.lower())):
        scores = _scores(rows[row][name])
        lines.append(f"| {name} | " + " | ".join(shown(metric, scores.get(metric)) for metric in SCORED) + " |")
    return "\n".join(lines) + "\n"


def _first(kept: dict[str, dict[str, object]], names: list[str]) -> Mapping[str, list[float | None]]:
    return next((_scores(kept[name]) for name in names if name in kept), {})


def _scores(entry: dict[str, object]) -> Mapping[str, list[float | None]]:
    return entry["scores"]


def _marked(value: str, best: str) -> str:
    return f"**{value}**" if value == best else value


def _best(metric: str, values: list[str]) -> str:
    known = [value for value in values if value != "-"]
    return (min if metric in LESS_IS_BETTER else max)(known, key=float, default="")


if __name__ == "__main__":
    raise SystemExit(main())
