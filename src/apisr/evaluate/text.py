"""Reports as plain text, for terminals and Markdown.

>>> print(text_table(["name", "dB"], [["a", "30.10"]]))
name     dB
a     30.10
"""

from __future__ import annotations

from collections.abc import Sequence

from apisr.core.text import printable
from apisr.evaluate.compare import compare
from apisr.evaluate.report import MetricInfo, Report
from apisr.evaluate.statistics import Summary

ARROWS = {"higher": "higher is better", "lower": "lower is better", "zero": "nearer 0 is better"}


def summary_table(report: Report) -> str:
    """The means of a report with their intervals, one metric a row."""
    what = (
        "outputs as given" if report.model is None else f"model {printable(report.model.name)} (x{report.model.scale})"
    )
    count = (
        f"{len(report.pictures)} pictures"
        if not report.clips
        else f"{len(report.pictures)} frames of {len(report.clips)} clips"
    )
    head = ["metric", "mean", f"{report.protocol.confidence:.0%} interval", "median", "worst", "n", ""]
    rows = [
        [
            report.metric(name).title + (f" ({report.metric(name).unit})" if report.metric(name).unit else ""),
            number(summary.mean, report.metric(name)),
            interval(summary, report.metric(name)),
            number(summary.median, report.metric(name)),
            number(worst_of(report.metric(name), summary), report.metric(name)),
            str(summary.count),
            ARROWS[report.metric(name).better],
        ]
        for name, summary in report.summary.items()
    ]
    return f"{what}, {count}, protocol {report.protocol.name}\n{text_table(head, rows)}"


def difference_table(report: Report, other: Report) -> str:
    """Paired differences (this report minus the other), one metric a row.

    Raises:
        InputError: the reports cannot be compared.
    """
    comparison = compare(report, other)
    head = ["difference", "mean", f"{report.protocol.confidence:.0%} interval", "better on", "worse on", "n"]
    rows = [
        [
            difference.metric.title,
            number(difference.summary.mean, difference.metric, signed=True),
            interval(difference.summary, difference.metric, signed=True),
            str(difference.better),
            str(difference.worse),
            str(difference.summary.count),
        ]
        for difference in comparison.differences.values()
    ]
    name = "the outputs of another report" if other.model is None else other.model.name
    title = f"against {printable(name)} ({printable(other.pictures_from)})"
    return "\n".join([title, text_table(head, rows), *map(printable, comparison.notices)])


def number(value: float, metric: MetricInfo, *, signed: bool = False) -> str:
    """A value with the digits that mean something for its metric."""
    return f"{value:+.{metric.digits}f}" if signed else f"{value:.{metric.digits}f}"


def interval(summary: Summary, metric: MetricInfo, *, signed: bool = False) -> str:
    """An interval as ``low to high``, or a dash where there is none."""
    if summary.low is None or summary.high is None:
        return "-"
    return f"{number(summary.low, metric, signed=signed)} to {number(summary.high, metric, signed=signed)}"


def worst_of(metric: MetricInfo, summary: Summary) -> float:
    """The worst value of a summary."""
    if metric.better == "zero":
        return max(summary.minimum, summary.maximum, key=abs)
    return summary.minimum if metric.better == "higher" else summary.maximum


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns in line: the first to the left, the others to the right, words in the last to the left."""
    widths = [max(len(row[index]) for row in (head, *rows)) for index in range(len(head))]
    lines: list[str] = []
    for row in (head, *rows):
        cells = [
            cell.ljust(width) if index == 0 or (not head[-1] and index == len(row) - 1) else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
