"""The report for people: one HTML file with everything in it (tables, plots as SVG, crops with a slider), no network.

>>> page(report)[:15]                                            # doctest: +SKIP
'<!doctype html>'
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from apisr.core.pages import render
from apisr.evaluate.compare import Comparison, Difference
from apisr.evaluate.crops import ComparisonCrop
from apisr.evaluate.report import MetricInfo, Report
from apisr.evaluate.text import ARROWS, interval, number, worst_of
from apisr.metrics.temporal import FLICKER

_PLOT_WIDTH_PX, _PLOT_HEIGHT_PX = 560, 74
_MARGIN_PX = 12.0
_DOT_PX = 7


@dataclass(frozen=True)
class Dot:
    """One picture (or clip) in a plot."""

    x: float
    y: float
    title: str


@dataclass(frozen=True)
class Label:
    """A number under the axis of a plot."""

    x: float
    anchor: str
    text: str


@dataclass(frozen=True)
class Plot:
    """All values of a metric along an axis; `band` is the interval of the mean, None where there is none."""

    metric: MetricInfo
    dots: tuple[Dot, ...]
    labels: tuple[Label, ...]
    mean_x: float
    band: tuple[float, float] | None
    width: int = _PLOT_WIDTH_PX
    height: int = _PLOT_HEIGHT_PX
    left: float = _MARGIN_PX
    right: float = _PLOT_WIDTH_PX - _MARGIN_PX


def page(report: Report, *, crops: Sequence[ComparisonCrop] = (), comparison: Comparison | None = None) -> str:
    """Lay out a report as one HTML document.

    Args:
        report: what to show.
        crops: comparison crops to look at.
        comparison: paired differences to another report.
    """
    return render(
        "apisr.evaluate",
        "report.html.j2",
        report=report,
        crops=crops,
        comparison=comparison,
        who="outputs as given" if report.model is None else report.model.name,
        facts=_facts(report),
        confidence=f"{report.protocol.confidence:.0%}",
        plots=[plot for metric in report.metrics if (plot := _plot(report, metric)) is not None],
        picture_metrics=[metric for metric in report.metrics if metric.name != FLICKER],
        protocol=", ".join(
            f"{key} {value}" for key, value in report.protocol.model_dump().items() if not key.endswith("_metrics")
        ),
        versions=", ".join(f"{name} {version}" for name, version in report.versions.items()),
        arrows=ARROWS,
        number=number,
        interval=interval,
        worst_of=worst_of,
        conclusion=_conclusion,
    )


def _facts(report: Report) -> list[str]:
    count = f"{len(report.pictures)} pictures"
    if report.clips:
        count = f"{len(report.pictures)} frames of {len(report.clips)} clips"
    truth = [] if report.reference_from is None else [f"ground truth {report.reference_from}"]
    return [count, *truth, f"protocol {report.protocol.name}", f"border {report.protocol.border_px} px"]


def _conclusion(difference: Difference) -> str:
    summary = difference.summary
    if summary.low is None or summary.high is None or summary.low <= 0 <= summary.high:
        return "no"
    if difference.metric.better == "zero":
        return "different"
    return "better" if (summary.mean > 0) == (difference.metric.better == "higher") else "worse"


def _plot(report: Report, metric: MetricInfo) -> Plot | None:
    records = report.clips if metric.name == FLICKER else report.pictures
    values = sorted((record.values[metric.name], record.name) for record in records if metric.name in record.values)
    summary = report.summary.get(metric.name)
    if not values or summary is None:
        return None
    low, high = values[0][0], values[-1][0]
    if high == low:
        low, high = low - 0.5, high + 0.5
    left, right = _MARGIN_PX, _PLOT_WIDTH_PX - _MARGIN_PX

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (right - left)

    stacked: dict[int, int] = {}
    dots: list[Dot] = []
    for value, name in values:
        column = int(x(value) // _DOT_PX)
        level = stacked.get(column, 0)
        stacked[column] = level + 1
        dots.append(Dot(x(value), 46 - _DOT_PX * (level % 5), f"{name}: {number(value, metric)}"))
    mean_x = x(min(max(summary.mean, low), high))
    labels = (
        Label(left, "start", number(low, metric)),
        Label(min(max(mean_x, 90), right - 90), "middle", number(summary.mean, metric)),
        Label(right, "end", number(high, metric)),
    )
    band = None
    if summary.low is not None and summary.high is not None:
        band = (x(max(summary.low, low)), x(min(summary.high, high)))
    return Plot(metric, tuple(dots), labels, mean_x, band)
