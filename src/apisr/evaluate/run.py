"""A whole evaluation: find the pictures, score them, sum up, write the report.

>>> evaluation = evaluate("low", reference="truth", model="lanczos")      # doctest: +SKIP
>>> evaluation.report.summary["psnr"].mean                               # doctest: +SKIP
28.4
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from apisr.core.errors import InputError, MissingExtra
from apisr.core.files import check_target, write_atomic
from apisr.core.progress import Cancel, Progress, ProgressFn, no_progress
from apisr.core.text import printable
from apisr.core.version import __version__
from apisr.evaluate.compare import compare
from apisr.evaluate.crops import ComparisonCrop, chosen_pictures, cut_comparison
from apisr.evaluate.inputs import Entry, MediaInput, Unscored, find_entries
from apisr.evaluate.models import BASELINES, Enlarger, open_model
from apisr.evaluate.options import EvaluateOptions
from apisr.evaluate.page import page
from apisr.evaluate.protocols import PROTOCOLS, Protocol
from apisr.evaluate.report import PAGE_NAME, REPORT_NAME, ClipScore, MetricInfo, PictureScore, Report, Time
from apisr.evaluate.score import Scorer
from apisr.evaluate.statistics import Summary, summarise
from apisr.metrics import Metric, Undefined
from apisr.metrics.registry import open_metric
from apisr.metrics.temporal import FLICKER, FLICKER_SOURCE, FLICKER_TITLE

_VERSIONS_OF = ("numpy", "opencv-python-headless", "pillow", "onnxruntime", "av")
_VERSIONS_IF_LEARNED = ("torch", "torchvision", "pyiqa", "timm", "stlpips_pytorch")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: the record, and the crops that its page shows."""

    report: Report
    crops: tuple[ComparisonCrop, ...] = ()


def evaluate(
    pictures: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    options: EvaluateOptions | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> Evaluation:
    """Score pictures and clips.

    Args:
        pictures: outputs, or with `model` inputs: files, folders, or patterns with one ``*``.
        reference: ground truth with the same names, exactly as large as the outputs.
        model: who enlarges the pictures first: a name, a model file, ``lanczos`` or ``bicubic``.
        options: how they are read, enlarged and scored.
        progress: called after every picture or clip.
        cancel: checked before every picture or clip.

    Returns:
        The report, and crops of the worst, middle and best picture.

    Raises:
        InputError: pictures that cannot be read or paired, sizes that differ, unknown metrics, an unusable model.
        MissingExtra: a metric asked for by name needs an extra that is not installed.
        Cancelled: a stop was asked for.
    """
    started = _now()
    options = options or EvaluateOptions()
    protocol = protocol_of(options)
    paths = [Path(pictures)] if isinstance(pictures, (str, Path)) else [Path(path) for path in pictures]
    if not paths:
        raise InputError("expected pictures to score, got none.", code="no-pictures")
    truth = None if reference is None else Path(reference)
    entries, notices = find_entries(paths, reference=truth, layout=options.layout, allow_missing=options.allow_missing)
    metrics, absent = open_metrics(options, protocol, blind=truth is None)
    enlarger = None if model is None else _open_enlarger(model, entries, options)
    unscored = Unscored()
    scorer = Scorer(metrics, protocol, enlarger, options.outputs, unscored.observe)

    scores, clips = _score_all(entries, scorer, progress, cancel or Cancel())
    summary, absent = _summarise(metrics, scores, clips, protocol, absent)
    report = Report(
        time=Time(started=started, finished=_now()),
        versions=_versions(learned=any(metric.learned for metric in metrics)),
        pictures_from=", ".join(printable(path) for path in paths),
        reference_from=None if truth is None else printable(truth),
        model=None if enlarger is None else enlarger.info,
        protocol=protocol,
        metrics=_described(metrics, clips),
        summary=summary,
        absent=absent,
        notices=[*notices, *unscored.notices()],
        clips=clips,
        pictures=scores,
    )
    return Evaluation(report, tuple(_crops(report, entries, scorer)))


def write_report(
    evaluation: Evaluation, folder: str | Path, *, against: Report | None = None, overwrite: bool = False
) -> tuple[Path, Path]:
    """Write `report.json` and `report.html` into a folder.

    Args:
        evaluation: from :func:`evaluate`.
        folder: is made if it is not there.
        against: another report; the page then shows the paired differences.
        overwrite: replace a report that is there.

    Returns:
        The two paths.

    Raises:
        InputError: a report is there already and `overwrite` is false, the folder cannot be written, or `against`
            cannot be compared (then `report.json` is written all the same).
        RunError: the disk is full.
    """
    folder = Path(folder)
    check_report_folder(folder, overwrite=overwrite)
    write_atomic(folder / REPORT_NAME, evaluation.report.to_json().encode("utf-8"), overwrite=overwrite)
    comparison = None if against is None else compare(evaluation.report, against)
    html = page(evaluation.report, crops=evaluation.crops, comparison=comparison)
    write_atomic(folder / PAGE_NAME, html.encode("utf-8"), overwrite=overwrite)
    return folder / REPORT_NAME, folder / PAGE_NAME


def check_report_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Check, before any work, that a report may be written.

    Raises:
        InputError: it may not.
    """
    for name in (REPORT_NAME, PAGE_NAME):
        check_target(folder / name, overwrite=overwrite)


def _score_all(
    entries: Sequence[Entry], scorer: Scorer, progress: ProgressFn, cancel: Cancel
) -> tuple[list[PictureScore], list[ClipScore]]:
    scores: list[PictureScore] = []
    clips: list[ClipScore] = []
    count = len(entries)
    for number, entry in enumerate(entries, start=1):
        cancel.check()
        if entry.source.clip:
            clip, in_clip = scorer.clip(entry)
            clips.append(clip)
            scores += in_clip
        else:
            scores.append(scorer.picture(entry))
        progress(
            Progress("evaluate", item=entry.name, index=number, count=count, done=number, total=count, unit="pictures")
        )
    return scores, clips


def _crops(report: Report, entries: Sequence[Entry], scorer: Scorer) -> Iterator[ComparisonCrop]:
    """Make the chosen pictures once more (keeping all would not fit into memory) and cut their crops."""
    by_name = {entry.name: entry for entry in entries}
    scores = {score.name: score for score in report.pictures}
    for choice in chosen_pictures(report):
        score = scores[choice.name]
        entry = by_name[score.clip if score.clip is not None else choice.name]
        for sample in scorer.samples(entry, only=[score.frame or 0]):
            yield cut_comparison(choice, low=sample.low, output=sample.output, truth=sample.reference)


def protocol_of(options: EvaluateOptions) -> Protocol:
    """Return the protocol that the options name or hold."""
    return PROTOCOLS[options.protocol] if isinstance(options.protocol, str) else options.protocol


def open_metrics(options: EvaluateOptions, protocol: Protocol, *, blind: bool) -> tuple[list[Metric], dict[str, str]]:
    """Open the metrics; those that cannot run here go to the second result with the reason.

    Raises:
        InputError: an unknown metric, or one that needs ground truth while there is none.
        MissingExtra: a metric that was named needs an extra that is not installed.
    """
    names = options.metrics
    if names is None:
        names = protocol.blind_metrics if blind else protocol.reference_metrics
    opened: list[Metric] = []
    absent: dict[str, str] = {}
    for name in dict.fromkeys(names):
        try:
            metric = open_metric(name, border_px=protocol.border_px, device=options.device, seed=protocol.seed)
        except MissingExtra as error:
            if options.metrics is not None:
                raise
            absent[name] = str(error)
            continue
        except Undefined as reason:
            absent[name] = str(reason)
            continue
        if metric.needs_reference and blind:
            raise InputError(
                f"metric '{name}' compares with ground truth. Give --reference, or leave it out.",
                code="needs-reference",
            )
        opened.append(metric)
    return opened, absent


def _open_enlarger(model: str | Path, entries: Sequence[Entry], options: EvaluateOptions) -> Enlarger:
    scale, first = options.scale, entries[0]
    if scale is None and first.reference is not None:
        low, high = _first_size(first.source), _first_size(first.reference)
        scale = round(high[0] / low[0])
        if (scale * low[0], scale * low[1]) != high:
            raise InputError(
                f"'{first.name}': the reference is {high[1]}x{high[0]}, which is not a whole multiple of the picture's "
                f"{low[1]}x{low[0]}. Give pictures that fit, or outputs without --model.",
                code="size-mismatch",
            )
    return open_model(str(model) if model in BASELINES else model, scale=scale, device=options.device, tta=options.tta)


def _first_size(source: MediaInput) -> tuple[int, int]:
    picture = next(source.frames())
    return picture.shape[0], picture.shape[1]


def _summarise(
    metrics: Sequence[Metric],
    scores: Sequence[PictureScore],
    clips: Sequence[ClipScore],
    protocol: Protocol,
    absent: dict[str, str],
) -> tuple[dict[str, Summary], dict[str, str]]:
    clip_of = {score.name: score.clip for score in scores if score.clip is not None}
    summary: dict[str, Summary] = {}
    absent = dict(absent)
    for name in [metric.name for metric in metrics] + ([FLICKER] if clips else []):
        records = clips if name == FLICKER else scores
        values = {record.name: record.values[name] for record in records if name in record.values}
        reasons = [record.absent[name] for record in records if name in record.absent]
        if values:
            summary[name] = summarise(values, clips={} if name == FLICKER else clip_of, protocol=protocol, stream=name)
        if reasons:
            absent[name] = f"{len(reasons)} of {len(records)}: {reasons[0]}"
    return summary, absent


def _described(metrics: Sequence[Metric], clips: Sequence[ClipScore]) -> list[MetricInfo]:
    described = [
        MetricInfo(
            name=metric.name,
            title=metric.title,
            unit=metric.unit,
            digits=metric.digits,
            better=metric.better,
            needs_reference=metric.needs_reference,
            source=metric.source,
        )
        for metric in metrics
    ]
    if clips:
        described.append(
            MetricInfo(
                name=FLICKER,
                title=FLICKER_TITLE,
                unit="levels",
                digits=3,
                better="lower",
                needs_reference=False,
                source=FLICKER_SOURCE,
            )
        )
    return described


def _versions(*, learned: bool) -> dict[str, str]:
    versions = {"apisr": __version__, "python": platform.python_version(), "machine": platform.machine()}
    for name in _VERSIONS_OF + (_VERSIONS_IF_LEARNED if learned else ()):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
