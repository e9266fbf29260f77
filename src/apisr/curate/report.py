"""What a dataset looks like from afar: the report page (figures 3a and 3b of the paper) and the dataset card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from apisr.core.errors import InputError
from apisr.core.files import write_atomic
from apisr.core.media import find_media
from apisr.core.pages import render
from apisr.core.progress import Progress, ProgressFn, no_progress
from apisr.core.text import lines_by_kind, printable
from apisr.core.version import __version__
from apisr.curate.charts import histogram, packet_chart, score_chart, score_range
from apisr.curate.manifest import Row
from apisr.curate.records import VideoRecord
from apisr.curate.settings import CurateSettings
from apisr.image import open_picture, rgb_and_losses

#: Pictures of a comparison folder that are scored at most (evenly spread over the folder).
MAX_COMPARED = 1000

#: Name and scores of another set of pictures.
Compared = tuple[str, Sequence[float]]


def write_report(
    dataset: Path,
    rows: Sequence[Row],
    records: Sequence[VideoRecord],
    settings: CurateSettings,
    *,
    compared: Compared | None = None,
) -> Path:
    """Write ``report.html``: sizes of I against P and B packets (figure 3a), complexity (figure 3b), tables.

    Args:
        dataset: the dataset's folder.
        rows: its pictures.
        records: its videos.
        settings: its options.
        compared: another set of pictures, for figure 3b.
    """
    accepted = [row for row in rows if row.decision == "accept"]
    series: list[Compared] = [
        ("all intra frames", [score for record in records for score in record.scores]),
        ("accepted", [row.score for row in accepted]),
        *([compared] if compared else []),
    ]
    left_out: dict[str, int] = {}
    for record in records:
        for flag, number in record.left_out.items():
            left_out[flag] = left_out.get(flag, 0) + number
    page = render(
        "apisr.curate",
        "report.html.j2",
        name=dataset.resolve().name,
        version=__version__,
        score=settings.score,
        records=sorted(records, key=lambda record: record.source),
        rows=rows,
        accepted=accepted,
        accepted_of=count_of(row.source_sha256 for row in accepted),
        packets=packet_chart(records),
        scores=score_chart(series),
        tables={
            "Decisions": count_of(row.decision for row in rows),
            "Flags": count_of(flag for row in rows for flag in row.flags),
            "Intra frames left out before selection": dict(sorted(left_out.items())),
        },
    )
    target = dataset / "report.html"
    write_atomic(target, page.encode("utf-8"), overwrite=True)
    return target


def write_card(
    dataset: Path,
    rows: Sequence[Row],
    records: Sequence[VideoRecord],
    settings: CurateSettings,
    *,
    licence: str = "unknown",
    compared: Compared | None = None,
) -> Path:
    """Write ``README.md``, the dataset card, with the header that the Hugging Face hub reads."""
    accepted = [row for row in rows if row.decision == "accept"]
    licence = " ".join(printable(licence).split())
    lines = [
        "---",
        f"license: {licence}",
        "task_categories: [image-to-image]",
        "tags: [anime, super-resolution]",
        f"size_categories: [{_size_category(len(accepted))}]",
        "---",
        "",
        f"# {printable(dataset.resolve().name)}",
        "",
        f"Frames of {len(records)} videos, chosen by `apisr curate` {__version__}: intra frames, score "
        f"`{settings.score}`, {settings.count} a video, height {settings.height}.",
        "",
        f"License of the pictures: {licence}. The rights of the videos' owners apply to their frames.",
        "",
        "| | pictures |",
        "|---|---|",
        *(f"| {name} | {count} |" for name, count in count_of(row.decision for row in rows).items()),
        *(f"| flag: {name} | {count} |" for name, count in count_of(f for row in rows for f in row.flags).items()),
        "",
        "## Score of the accepted pictures",
        "",
        *_text_histogram([("accepted", [row.score for row in accepted]), *([compared] if compared else [])]),
        "",
        "Columns of `manifest.parquet`: id, source, source_sha256, stream, time_s, frame_kind, packet_bytes, score, "
        "flags, native_height, decision, file, file_sha256 and others; `report.html` has the histograms.",
        "",
    ]
    target = dataset / "README.md"
    write_atomic(target, "\n".join(lines).encode("utf-8"), overwrite=True)
    return target


def folder_scores(folder: Path, score: str, *, progress: ProgressFn = no_progress) -> list[float]:
    """Score the pictures of a folder (at most :data:`MAX_COMPARED`, evenly spread) for the comparison of figure 3b.

    Args:
        folder: where they lie.
        score: name of the score.
        progress: told at the end what of them was not read (see :func:`apisr.image.rgb_and_losses`), also where one
            cannot be read.

    Raises:
        InputError: no such folder, or no pictures in it.
    """
    from apisr.curate.complexity import open_scorer

    shown = printable(folder)
    if not folder.is_dir():
        raise InputError(f"cannot compare with '{shown}': no such folder.", code="cannot-read")
    paths = find_media(folder, kinds=("picture",)).found
    if not paths:
        raise InputError(f"cannot compare with '{shown}': no pictures in it.", code="no-pictures")
    scorer = open_scorer(score)
    step = max(math.ceil(len(paths) / MAX_COMPARED), 1)
    scores: list[float] = []
    found: list[tuple[str, tuple[str, ...]]] = []
    try:
        for path in paths[::step]:
            with open_picture(path) as picture:
                pixels, losses = rgb_and_losses(picture)
            found.append((printable(path.name), losses))
            scores.append(scorer(pixels))
    finally:
        for line in lines_by_kind(found):
            progress(Progress("curate", "notice", message=line))
    return scores


def count_of(values: Iterable[str]) -> dict[str, int]:
    """Return how often each value comes, sorted by value."""
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def _text_histogram(series: Sequence[Compared]) -> list[str]:
    values = [value for _, scores in series for value in scores]
    if not values:
        return ["none"]
    low, high = score_range(values)
    names = " | ".join(printable(name).replace("|", "\\|") for name, _ in series)
    lines = [f"| score | {names} |", "|---" * (len(series) + 1) + "|"]
    tables = [histogram(scores, low, high, bins=10) for _, scores in series]
    for position in range(10):
        start = low + position * (high - low) / 10
        cells = " | ".join(f"{100 * table[position]:.1f} %" for table in tables)
        lines.append(f"| {start:.2f} to {start + (high - low) / 10:.2f} | {cells} |")
    return lines


def _size_category(count: int) -> str:
    limits = ((1000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))
    return next((name for limit, name in limits if count < limit), "100K<n<1M")
