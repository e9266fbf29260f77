"""The paper's tables, beside what was measured here.

The figures of the paper are facts about its runs on AVC-RealLQ (46 clips of 100 frames, x4; metrics of pyiqa). They are
printed in their own block and never mixed with ours; a measured row says which pictures it comes from.

    >>> PAPER[1][-1].name, PAPER[1][-1].values["niqe"]
    ('APISR', 6.719)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from apisr.core.errors import InputError
from apisr.core.text import printable
from apisr.evaluate.report import Report
from apisr.evaluate.text import number, text_table

#: Columns of every table of the paper; which weights its MANIQA used is not said, so ours is shown with both.
COLUMNS = ("niqe", "maniqa", "clipiqa")
MEASURED_COLUMNS = ("niqe", "maniqa-koniq", "maniqa-pipal", "clipiqa")
TITLES = {
    1: "Table 1: methods",
    2: "Table 2: training datasets",
    3: "Table 3: degradation models",
    4: "Table 4: line enhancement and perceptual loss",
}


@dataclass(frozen=True)
class PaperRow:
    """A row of a table of the paper: parameters in millions (table 1 only) and the metrics that it gives."""

    name: str
    values: Mapping[str, float] = field(default_factory=dict[str, float])
    millions: float | None = None


def _row(name: str, niqe: float, maniqa: float, clipiqa: float | None, millions: float | None = None) -> PaperRow:
    values = {"niqe": niqe, "maniqa": maniqa} | ({} if clipiqa is None else {"clipiqa": clipiqa})
    return PaperRow(name, values, millions)


PAPER: dict[int, tuple[PaperRow, ...]] = {
    1: (
        _row("Real-ESRGAN*", 8.281, 0.381, None, 16.70),
        _row("BSRGAN*", 8.632, 0.376, None, 16.70),
        _row("RealBasicVSR*", 8.621, 0.362, None, 6.30),
        _row("AnimeSR", 8.109, 0.462, 0.539, 1.50),
        _row("VQD-SR", 8.202, 0.464, 0.567, 1.47),
        _row("APISR", 6.719, 0.514, 0.711, 1.03),
    ),
    2: (
        _row("AVC-Train", 7.681, 0.476, 0.658),
        _row("random", 8.006, 0.446, 0.625),
        _row("I-frames + IQA", 7.876, 0.493, 0.675),
        _row("I-frames + ICA", 6.912, 0.499, 0.683),
        _row("I-frames + ICA + 720p", 6.719, 0.514, 0.711),
    ),
    3: (
        _row("high order", 6.667, 0.483, 0.663),
        _row("random order", 6.975, 0.491, 0.674),
        _row("prediction-oriented", 7.133, 0.506, 0.709),
        _row("prediction + shuffled resize", 6.719, 0.514, 0.711),
    ),
    4: (
        _row("plain", 7.351, 0.501, 0.689),
        _row("+ sharpen", 7.182, 0.504, 0.707),
        _row("+ sharpen + anime loss", 6.835, 0.512, 0.708),
        _row("+ sharpen + anime loss + balanced", 6.719, 0.514, 0.711),
    ),
}


def paper_table(table: int) -> str:
    """The paper's own figures.

    Raises:
        InputError: there is no such table.
    """
    if table not in PAPER:
        raise InputError(f"the paper has tables 1 to 4, not {table}.", code="unknown-table")
    sized = any(row.millions is not None for row in PAPER[table])
    head = ["method", *(["M params"] if sized else []), "NIQE", "MANIQA", "CLIPIQA"]
    rows = [
        [
            row.name,
            *([] if row.millions is None else [f"{row.millions:.2f}"]),
            *(f"{row.values[name]:.3f}" if name in row.values else "-" for name in COLUMNS),
        ]
        for row in PAPER[table]
    ]
    return f"{TITLES[table]}. The paper's figures, on AVC-RealLQ (46 clips x 100 frames, x4):\n{text_table(head, rows)}"


def measured_table(reports: Sequence[tuple[str, Report]]) -> str:
    """What was measured, one report a row: no-reference metrics first, then whatever else all of the reports have.

    Args:
        reports: label and report.
    """
    if not reports:
        return "Measured: nothing yet. Give reports of apisr evaluate (--protocol paper)."
    others = [
        name
        for name in reports[0][1].summary
        if name not in MEASURED_COLUMNS and all(name in report.summary for _, report in reports)
    ]
    columns = [name for name in MEASURED_COLUMNS if any(name in report.summary for _, report in reports)] + others
    head = ["measured", *columns, "n", "on"]
    rows = [
        [
            printable(label),
            *(
                number(report.summary[name].mean, report.metric(name)) if name in report.summary else "-"
                for name in columns
            ),
            str(len(report.pictures)),
            printable(report.pictures_from),
        ]
        for label, report in reports
    ]
    lines = ["Measured here (other pictures than the paper's unless the last column says AVC-RealLQ):"]
    lines.append(text_table(head, rows))
    absent = {name: reason for _, report in reports for name, reason in report.absent.items() if name not in columns}
    lines += [f"{name}: absent, {reason}" for name, reason in absent.items()]
    return "\n".join(lines)
