"""What a dataset looks like from afar: the report page (figures 3a and 3b of the paper) and the dataset card."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from apisr import __version__
from apisr.core.errors import InputError
from apisr.core.files import atomic_path
from apisr.curate.manifest import Row
from apisr.curate.settings import Settings
from apisr.image import is_picture_name, read_rgb
from apisr.video.intra import BINS_PER_OCTAVE

if TYPE_CHECKING:
    from apisr.curate.pipeline import VideoRecord

#: Pictures of a comparison folder that are scored at most (evenly spread over the folder).
MAX_COMPARED = 1000
SCORE_BINS = 20


def write_report(
    dataset: Path,
    rows: Sequence[Row],
    records: Sequence[VideoRecord],
    settings: Settings,
    *,
    compared: tuple[str, Sequence[float]] | None = None,
) -> Path:
    """Write ``report.html``: sizes of I against P and B packets (figure 3a), complexity (figure 3b), tables.

    Args:
        dataset: the dataset's folder.
        rows: its pictures.
        records: its videos.
        settings: its options.
        compared: name and scores of another set of pictures, for figure 3b.
    """
    kept = [row for row in rows if row.decision == "accept"]
    series: list[tuple[str, Sequence[float]]] = [
        ("all intra frames", [score for record in records for score in record.scores]),
        ("accepted", [row.score for row in kept]),
    ]
    if compared:
        series.append(compared)
    name = html.escape(settings.score)
    parts = [
        f"<h1>Dataset {html.escape(dataset.resolve().name)}</h1>",
        f"<p>{len(records)} videos, {len(rows)} pictures, {len(kept)} accepted. Score: {name}. apisr "
        f"{__version__}.</p>",
        "<h2>Size of the packets by picture type</h2>",
        "<p>Intra pictures get the largest data budget: they are the least compressed (paper, figure 3a). "
        "Each curve is the share of its own packets.</p>",
        packet_chart(records),
        f"<h2>Score ({name})</h2>",
        "<p>What was there and what was kept (paper, figure 3b).</p>",
        score_chart(series),
        _table("Decisions", _counts(row.decision for row in rows)),
        _table("Flags", _counts(flag for row in rows for flag in row.flags)),
        _table("Intra frames left out before selection", _sums(record.left_out for record in records)),
        _video_table(records, rows),
    ]
    page = f"<!doctype html><html lang=en><meta charset=utf-8><title>Dataset report</title><style>{_STYLE}</style>"
    target = dataset / "report.html"
    with atomic_path(target, overwrite=True) as partial:
        partial.write_text(page + "\n".join(parts) + "</html>\n", encoding="utf-8")
    return target


def write_card(
    dataset: Path,
    rows: Sequence[Row],
    records: Sequence[VideoRecord],
    settings: Settings,
    *,
    licence: str = "unknown",
    compared: tuple[str, Sequence[float]] | None = None,
) -> Path:
    """Write ``README.md``, the dataset card, with the header that the Hugging Face hub reads."""
    kept = [row for row in rows if row.decision == "accept"]
    lines = [
        "---",
        f"license: {licence}",
        "task_categories: [image-to-image]",
        "tags: [anime, super-resolution]",
        f"size_categories: [{_size_category(len(kept))}]",
        "---",
        "",
        f"# {dataset.resolve().name}",
        "",
        f"Frames of {len(records)} videos, chosen by `apisr curate` {__version__} (intra frames, score "
        f"`{settings.score}`, "
        f"{settings.count} a video, height {settings.height}).",
        "",
        f"License of the pictures: {licence}. The rights of the videos' owners apply to their frames.",
        "",
        "| | pictures |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in _counts(row.decision for row in rows).items()),
        *(f"| flag: {name} | {count} |" for name, count in _counts(f for row in rows for f in row.flags).items()),
        "",
        "## Score of the accepted pictures",
        "",
        *_text_histogram([("accepted", [row.score for row in kept]), *([compared] if compared else [])]),
        "",
        "Columns of `manifest.parquet`: id, source, source_sha256, stream, time_s, frame_kind, packet_bytes, score, "
        "flags, "
        "native_height, decision, file, file_sha256 and others; `report.html` has the histograms.",
        "",
    ]
    target = dataset / "README.md"
    with atomic_path(target, overwrite=True) as partial:
        partial.write_text("\n".join(lines), encoding="utf-8")
    return target


def folder_scores(folder: Path, score: str) -> list[float]:
    """Score the pictures of a folder (at most :data:`MAX_COMPARED`, evenly spread) for the comparison of figure 3b.

    Raises:
        InputError: no such folder, or no pictures in it.
    """
    from apisr.curate.complexity import open_scorer

    if not folder.is_dir():
        raise InputError(f"cannot compare with '{folder}': no such folder.")
    paths = sorted(path for path in folder.rglob("*") if is_picture_name(path) and path.is_file())
    if not paths:
        raise InputError(f"cannot compare with '{folder}': no pictures in it.")
    scorer = open_scorer(score)
    step = max(math.ceil(len(paths) / MAX_COMPARED), 1)
    return [scorer(read_rgb(path)) for path in paths[::step]]


def packet_chart(records: Sequence[VideoRecord]) -> str:
    """Draw the histogram of packet sizes by picture type as SVG (figure 3a)."""
    totals: dict[str, dict[int, int]] = {}
    for record in records:
        for kind, bins in record.packet_histogram.items():
            into = totals.setdefault(kind, {})
            for position, count in bins.items():
                into[int(position)] = into.get(int(position), 0) + count
    if not totals:
        return "<p>No packets.</p>"
    low = min(position for bins in totals.values() for position in bins)
    high = max(position for bins in totals.values() for position in bins) + 1
    names = {"I": "I", "P": "P", "B": "B", "other": "not intra"}
    curves = [
        (f"{names[kind]} ({sum(bins.values())})", [bins.get(p, 0) / sum(bins.values()) for p in range(low, high)])
        for kind, bins in sorted(totals.items(), key=lambda item: "IPBo".index(item[0][0]))
    ]
    first = math.ceil(low / BINS_PER_OCTAVE)
    last = max(high // BINS_PER_OCTAVE, first)
    step = max((last - first) // 8, 1)
    ticks = [
        ((octave * BINS_PER_OCTAVE - low) / (high - low), _bytes(1 << octave))
        for octave in range(first, last + 1, step)
        if octave >= 0
    ]
    return _chart(curves, ticks, "packet size")


def score_chart(series: Sequence[tuple[str, Sequence[float]]]) -> str:
    """Draw histograms of scores as SVG (figure 3b)."""
    values = [value for _, scores in series for value in scores]
    if not values:
        return "<p>No pictures.</p>"
    low, high = _range(values)
    curves: list[tuple[str, Sequence[float]]] = []
    for name, scores in series:
        if scores:
            mean = sum(scores) / len(scores)
            curves.append((f"{name} ({len(scores)}, mean {mean:.3f})", _histogram(scores, low, high)))
    ticks = [(share, f"{low + share * (high - low):.2f}") for share in (0, 0.25, 0.5, 0.75, 1)]
    return _chart(curves, ticks, "score")


_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1e24;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;height:auto}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{padding:.2rem .8rem .2rem 0;text-align:left;
border-bottom:1px solid #e3e5ea}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
td.path{overflow-wrap:anywhere}svg text{font:12px system-ui,sans-serif;fill:#444}
"""
_COLOURS = ("#c2410c", "#1d4ed8", "#0f766e", "#7c3aed")


def _chart(curves: Sequence[tuple[str, Sequence[float]]], ticks: Sequence[tuple[float, str]], label: str) -> str:
    """A step chart of shares; every curve has the same bins."""
    left, right, top, bottom, width, height = 50, 860, 34, 260, 880, 310
    peak = max((max(values) for _, values in curves), default=1) or 1
    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="histogram by {label}">']
    for share in (0, 0.5, 1):
        y = bottom - share * (bottom - top)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#e3e5ea" fill="none"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{100 * share * peak:.0f}%</text>')
    for share, text in ticks:
        x = left + share * (right - left)
        parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{html.escape(text)}</text>')
    parts.append(f'<text x="{(left + right) / 2}" y="{bottom + 38}" text-anchor="middle">{label}</text>')
    for number, (name, values) in enumerate(curves):
        colour = _COLOURS[number % len(_COLOURS)]
        step = (right - left) / len(values)
        path = f"M{left} {bottom}"
        for position, value in enumerate(values):
            y = bottom - value / peak * (bottom - top)
            path += f"V{y:.1f}H{left + (position + 1) * step:.1f}"
        path += f"V{bottom}"
        parts.append(f'<path d="{path}" fill="{colour}" fill-opacity=".12" stroke="{colour}" stroke-width="1.5"/>')
        x = left + (right - left) / len(curves) * number
        parts.append(f'<rect x="{x:.0f}" y="5" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{x + 16:.0f}" y="14">{html.escape(name)}</text>')
    return "".join(parts) + "</svg>"


def _table(title: str, counts: dict[str, int]) -> str:
    if not counts:
        return f"<h2>{title}</h2><p>none</p>"
    rows = "".join(f"<tr><td>{html.escape(name)}<td class=n>{count}" for name, count in counts.items())
    return f"<h2>{title}</h2><table>{rows}</table>"


def _video_table(records: Sequence[VideoRecord], rows: Sequence[Row]) -> str:
    accepted = _counts(row.source_sha256 for row in rows if row.decision == "accept")
    lines = [
        "<h2>Videos</h2><table><tr><th>file<th>codec<th class=n>size<th class=n>minutes<th class=n>intra frames"
        "<th class=n>native height<th class=n>accepted"
    ]
    for record in sorted(records, key=lambda record: record.source):
        sure = record.native_kernel is not None
        native = f"{record.native_height} ({record.native_kernel})" if sure else "unsure"
        lines.append(
            f"<tr><td class=path>{html.escape(record.source)}<td>{html.escape(record.codec)}"
            f"<td class=n>{record.width}x{record.height}<td class=n>{record.duration_s / 60:.1f}"
            f"<td class=n>{record.packets.get('I', 0)}<td class=n>{native}"
            f"<td class=n>{accepted.get(record.source_sha256, 0)}"
        )
    return "".join(lines) + "</table>"


def _text_histogram(series: Sequence[tuple[str, Sequence[float]]]) -> list[str]:
    values = [value for _, scores in series for value in scores]
    if not values:
        return ["none"]
    low, high = _range(values)
    lines = ["| score | " + " | ".join(name for name, _ in series) + " |", "|---" * (len(series) + 1) + "|"]
    tables = [_histogram(scores, low, high, bins=10) for _, scores in series]
    for position in range(10):
        start = low + position * (high - low) / 10
        cells = " | ".join(f"{100 * table[position]:.1f} %" for table in tables)
        lines.append(f"| {start:.2f} to {start + (high - low) / 10:.2f} | {cells} |")
    return lines


def _histogram(scores: Sequence[float], low: float, high: float, *, bins: int = SCORE_BINS) -> list[float]:
    counts = [0] * bins
    for score in scores:
        counts[min(int((score - low) / (high - low) * bins), bins - 1)] += 1
    return [count / max(len(scores), 1) for count in counts]


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if high > low else (low, low + 1)


def _counts(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _sums(tables: Iterable[dict[str, int]]) -> dict[str, int]:
    sums: dict[str, int] = {}
    for table in tables:
        for name, count in table.items():
            sums[name] = sums.get(name, 0) + count
    return dict(sorted(sums.items()))


def _bytes(size: int) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1024 or unit == "MB":
            return f"{size} {unit}"
        size //= 1024
    return ""


def _size_category(count: int) -> str:
    limits = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for limit, name in limits if count < limit), "100K<n<1M")
