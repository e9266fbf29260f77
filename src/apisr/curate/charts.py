"""Step charts of shares for the report page: sizes of packets (the paper's figure 3a) and scores (figure 3b)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apisr.curate.records import VideoRecord
from apisr.video.intra import BINS_PER_OCTAVE

SCORE_BINS = 20

_COLOURS = ("#c2410c", "#1d4ed8", "#0f766e", "#7c3aed")
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 860, 34, 260


@dataclass(frozen=True)
class Curve:
    """One curve as SVG draws it: name, colour, path, and where its legend stands."""

    name: str
    colour: str
    path: str
    legend_x: float


@dataclass(frozen=True)
class Chart:
    """A step chart of shares.

    Attributes:
        label: what is along the axis.
        curves: all with the same bins.
        ticks: place along the axis and text.
        levels: height and text of the horizontal lines.
    """

    label: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]


def packet_chart(records: Sequence[VideoRecord]) -> Chart | None:
    """Return the histogram of packet sizes by picture type (figure 3a), None where there are no packets."""
    totals: dict[str, dict[int, int]] = {}
    for record in records:
        for kind, bins in record.packet_histogram.items():
            into = totals.setdefault(kind, {})
            for position, count in bins.items():
                into[position] = into.get(position, 0) + count
    totals = {kind: bins for kind, bins in totals.items() if sum(bins.values())}
    if not totals:
        return None
    low = min(position for bins in totals.values() for position in bins)
    high = max(position for bins in totals.values() for position in bins) + 1
    names = {"I": "I", "P": "P", "B": "B", "other": "not intra"}
    curves = [
        (f"{names.get(kind, kind)} ({sum(bins.values())})", _shares(bins, low, high))
        for kind, bins in sorted(totals.items(), key=lambda item: list(names).index(item[0]) if item[0] in names else 9)
    ]
    first = math.ceil(low / BINS_PER_OCTAVE)
    last = max(high // BINS_PER_OCTAVE, first)
    ticks = [
        ((octave * BINS_PER_OCTAVE - low) / (high - low), _bytes(1 << octave))
        for octave in range(max(first, 0), last + 1, max((last - first) // 8, 1))
    ]
    return _chart(curves, ticks, "packet size")


def score_chart(series: Sequence[tuple[str, Sequence[float]]]) -> Chart | None:
    """Return histograms of scores (figure 3b), None where there are no scores."""
    values = [value for _, scores in series for value in scores]
    if not values:
        return None
    low, high = score_range(values)
    curves = [
        (f"{name} ({len(scores)}, mean {sum(scores) / len(scores):.3f})", histogram(scores, low, high))
        for name, scores in series
        if scores
    ]
    ticks = [(share, f"{low + share * (high - low):.2f}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return _chart(curves, ticks, "score")


def histogram(scores: Sequence[float], low: float, high: float, *, bins: int = SCORE_BINS) -> list[float]:
    """Return the share of the scores in each of `bins` equal parts of the range."""
    counts = [0] * bins
    for score in scores:
        counts[min(max(int((score - low) / (high - low) * bins), 0), bins - 1)] += 1
    return [count / max(len(scores), 1) for count in counts]


def score_range(values: Sequence[float]) -> tuple[float, float]:
    """Return the range that a histogram of scores covers: 0 to 1 where they lie in it."""
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1)


def _chart(curves: Sequence[tuple[str, Sequence[float]]], ticks: Sequence[tuple[float, str]], label: str) -> Chart:
    peak = max((max(values) for _, values in curves), default=1) or 1
    drawn: list[Curve] = []
    for number, (name, values) in enumerate(curves):
        step = (_RIGHT - _LEFT) / len(values)
        path = f"M{_LEFT} {_BOTTOM}"
        for position, value in enumerate(values):
            y = _BOTTOM - value / peak * (_BOTTOM - _TOP)
            path += f"V{y:.1f}H{_LEFT + (position + 1) * step:.1f}"
        legend_x = _LEFT + (_RIGHT - _LEFT) / len(curves) * number
        drawn.append(Curve(name, _COLOURS[number % len(_COLOURS)], f"{path}V{_BOTTOM}", legend_x))
    levels = tuple((_BOTTOM - share * (_BOTTOM - _TOP), f"{100 * share * peak:.0f}%") for share in (0, 0.5, 1))
    places = tuple((_LEFT + share * (_RIGHT - _LEFT), text) for share, text in ticks)
    return Chart(label, tuple(drawn), places, levels)


def _shares(bins: dict[int, int], low: int, high: int) -> list[float]:
    total = sum(bins.values())
    return [bins.get(position, 0) / total for position in range(low, high)]


def _bytes(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1024 or unit == "MB":
            return f"{size} {unit}"
        size //= 1024
    return ""
