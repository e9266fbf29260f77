"""Two reports, picture by picture: paired differences say more than two means.

>>> compare(first, second).differences["psnr"].summary.mean             # doctest: +SKIP
0.81
"""

from __future__ import annotations

from dataclasses import dataclass

from apisr.core.errors import InputError
from apisr.evaluate.protocols import Protocol
from apisr.evaluate.report import MetricInfo, Report
from apisr.evaluate.statistics import Summary, summarise
from apisr.metrics.metric import goodness
from apisr.metrics.temporal import FLICKER


@dataclass(frozen=True)
class Difference:
    """One metric: this report minus the other, over the pictures that both have.

    Attributes:
        metric: which.
        summary: of the differences; an interval that leaves out 0 is a difference beyond chance.
        better: pictures on which this report is better.
        worse: pictures on which the other is.
    """

    metric: MetricInfo
    summary: Summary
    better: int
    worse: int


@dataclass(frozen=True)
class Comparison:
    """The differences by metric, and what could not be compared."""

    differences: dict[str, Difference]
    notices: tuple[str, ...]


def compare(report: Report, other: Report) -> Comparison:
    """Compare two reports on what both scored.

    Raises:
        InputError: they were made under different protocols or on other ground truth, or share no picture.
    """
    check_protocols(report.protocol, other.protocol)
    notices = _check_pictures(report, other)
    clip_of = {picture.name: picture.clip for picture in report.pictures if picture.clip is not None}
    differences: dict[str, Difference] = {}
    for metric in report.metrics:
        pairs = _pairs(report, other, metric.name)
        if not pairs:
            notices.append(f"{metric.name}: no picture has a value in both reports")
            continue
        gains = [goodness(metric.better, ours) - goodness(metric.better, theirs) for ours, theirs in pairs.values()]
        differences[metric.name] = Difference(
            metric=metric,
            summary=summarise(
                {name: ours - theirs for name, (ours, theirs) in pairs.items()},
                clips={} if metric.name == FLICKER else clip_of,
                protocol=report.protocol,
                stream=f"difference of {metric.name}",
            ),
            better=sum(gain > 0 for gain in gains),
            worse=sum(gain < 0 for gain in gains),
        )
    return Comparison(differences, tuple(notices))


def _check_pictures(report: Report, other: Report) -> list[str]:
    """Check that the shared pictures have the same ground truth; return what is not shared, in sentences."""
    mine = {picture.name: picture for picture in report.pictures}
    theirs = {picture.name: picture for picture in other.pictures}
    shared = [name for name in mine if name in theirs]
    if not shared:
        raise InputError(
            "the reports cannot be compared: they have no picture in common (by name).", code="not-comparable"
        )
    changed = [name for name in shared if mine[name].reference_sha256 != theirs[name].reference_sha256]
    if changed:
        raise InputError(
            f"the reports cannot be compared: the ground truth of '{changed[0]}' is not the same file"
            + (f", nor that of {len(changed) - 1} more." if len(changed) > 1 else "."),
            code="not-comparable",
        )
    return [
        f"{len(lone)} pictures are {where} and do not count: {', '.join(sorted(lone)[:6])}"
        for lone, where in (
            (mine.keys() - theirs.keys(), "only here"),
            (theirs.keys() - mine.keys(), "only in the other"),
        )
        if lone
    ]


def _pairs(report: Report, other: Report, metric: str) -> dict[str, tuple[float, float]]:
    """Return the values of a metric in both reports, by name of the picture (or clip)."""

    def values(of: Report) -> dict[str, float]:
        records = of.clips if metric == FLICKER else of.pictures
        return {record.name: record.values[metric] for record in records if metric in record.values}

    ours, theirs = values(report), values(other)
    return {name: (value, theirs[name]) for name, value in ours.items() if name in theirs}


def check_protocols(protocol: Protocol, other: Protocol) -> None:
    """Check that two protocols score the same pixels of a picture.

    Raises:
        InputError: they do not.
    """
    pixels = {"border_px", "crop_px", "crops", "seed"}
    here, there = (item.model_dump(include=pixels) for item in (protocol, other))
    if here != there:
        different = ", ".join(
            f"{key} {here[key]} and {there[key]}" for key in sorted(pixels) if here[key] != there[key]
        )
        raise InputError(
            f"the reports cannot be compared: their protocols differ ({different}). Run one of them again.",
            code="not-comparable",
        )
