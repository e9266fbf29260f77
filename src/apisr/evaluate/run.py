"""The loop: every picture and frame is read, enlarged if a model is given, scored, and recorded.

>>> report = evaluate("low", reference="truth", model="lanczos")          # doctest: +SKIP
>>> report.summary["psnr"].mean                                          # doctest: +SKIP
28.4
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from apisr import __version__
from apisr.core.errors import InputError, MissingExtra
from apisr.core.files import atomic_path, check_target
from apisr.evaluate.compare import compare
from apisr.evaluate.inputs import Entry, Layout, Source, collect, read_drawings
from apisr.evaluate.models import BASELINES, Enlarger, open_model
from apisr.evaluate.page import page
from apisr.evaluate.protocols import PROTOCOLS, Protocol, ProtocolName
from apisr.evaluate.report import (
    PAGE_NAME,
    REPORT_NAME,
    ClipScore,
    MetricInfo,
    PictureScore,
    Report,
    Time,
)
from apisr.evaluate.shots import Shot, chosen_pictures, make_shot
from apisr.evaluate.statistics import Summary, summarise
from apisr.image import write_picture
from apisr.metrics import ImageU8, Metric, Undefined, held_change
from apisr.metrics.registry import open_metric
from apisr.metrics.temporal import FLICKER, FLICKER_SOURCE, FLICKER_TITLE

_VERSIONS_OF = ("numpy", "opencv-python-headless", "pillow", "onnxruntime", "av")
_VERSIONS_IF_LEARNED = ("torch", "torchvision", "pyiqa", "timm", "stlpips_pytorch")


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation: the record, and the crops that its page shows."""

    report: Report
    shots: tuple[Shot, ...] = ()


@dataclass(frozen=True)
class Frame:
    """One picture to score: where it belongs, and its pixels (`low` where a model made the output)."""

    entry: Entry
    index: int
    low: ImageU8 | None
    output: ImageU8
    reference: ImageU8 | None

    @property
    def name(self) -> str:
        """Name in the report."""
        return f"{self.entry.name}/{self.index:05d}" if self.entry.source.clip else self.entry.name


def evaluate(
    pictures: str | Path | Sequence[str | Path],
    *,
    reference: str | Path | None = None,
    model: str | Path | None = None,
    scale: int | None = None,
    metrics: Sequence[str] | None = None,
    protocol: Protocol | ProtocolName = "deterministic",
    layout: Layout = "pictures",
    allow_missing: bool = False,
    device: str = "auto",
    tta: bool = False,
    outputs: str | Path | None = None,
    on_picture: Callable[[int, int, str], None] | None = None,
) -> Evaluation:
    """Score pictures and clips.

    Args:
        pictures: outputs, or with `model` inputs: files, folders, or patterns with one ``*``.
        reference: ground truth with the same names, exactly as large as the outputs.
        model: who enlarges the pictures first: a name, a model file, ``lanczos`` or ``bicubic``.
        scale: of the model; taken from the sizes when there is a reference.
        metrics: names; by default those of the protocol.
        protocol: a name or a :class:`Protocol`.
        layout: how a folder is read.
        allow_missing: leave out what has no partner, and say so in the report.
        device: for models and learned metrics.
        tta: let the model give the mean over eight flips and turns.
        outputs: folder in which the outputs of the model are kept, as PNG.
        on_picture: called with (number done, number of entries, name) after each picture or clip.

    Returns:
        The report, and crops of the worst, middle and best picture.

    Raises:
        InputError: pictures that cannot be read or paired, sizes that differ, unknown metrics, an unusable model.
        MissingExtra: a metric asked for by name needs an extra that is not installed.
    """
    started = _now()
    chosen = PROTOCOLS[protocol] if isinstance(protocol, str) else protocol
    given = [Path(pictures)] if isinstance(pictures, (str, Path)) else [Path(path) for path in pictures]
    truth = None if reference is None else Path(reference)
    entries, notices = collect(given, reference=truth, layout=layout, allow_missing=allow_missing)
    opened, absent = _open_metrics(metrics, chosen, blind=truth is None, device=device)
    enlarger = None if model is None else _open_enlarger(model, entries, scale=scale, device=device, tta=tta)
    keep = None if outputs is None else Path(outputs)

    scores: list[PictureScore] = []
    clips: list[ClipScore] = []
    for number, entry in enumerate(entries, start=1):
        if entry.source.clip:
            clip, in_clip = _score_clip(entry, enlarger, opened, chosen, keep)
            clips.append(clip)
            scores += in_clip
        else:
            scores += [_score(frame, opened, chosen, keep) for frame in frames_of(entry, enlarger, chosen)]
        if on_picture is not None:
            on_picture(number, len(entries), entry.name)

    summary, absent = _summarise(opened, scores, clips, chosen, absent)
    report = Report(
        time=Time(started=started, finished=_now()),
        versions=_versions(learned=any(metric.learned for metric in opened)),
        pictures_from=", ".join(str(path) for path in given),
        reference_from=None if truth is None else str(truth),
        model=None if enlarger is None else enlarger.info,
        protocol=chosen,
        metrics=_described(opened, clips),
        summary=summary,
        absent=absent,
        notices=notices,
        clips=clips,
        pictures=scores,
    )
    return Evaluation(report, tuple(_shots(report, entries, enlarger, chosen)))


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
    with atomic_path(folder / REPORT_NAME, overwrite=overwrite) as partial:
        partial.write_text(evaluation.report.to_json(), encoding="utf-8")
    comparison = None if against is None else compare(evaluation.report, against)
    html = page(evaluation.report, shots=evaluation.shots, comparison=comparison)
    with atomic_path(folder / PAGE_NAME, overwrite=overwrite) as partial:
        partial.write_text(html, encoding="utf-8")
    return folder / REPORT_NAME, folder / PAGE_NAME


def check_report_folder(folder: Path, *, overwrite: bool = False) -> None:
    """Check, before any work, that a report may be written.

    Raises:
        InputError: it may not.
    """
    for name in (REPORT_NAME, PAGE_NAME):
        check_target(folder / name, overwrite=overwrite)


def frames_of(
    entry: Entry,
    enlarger: Enlarger | None,
    protocol: Protocol,
    *,
    only: Collection[int] | None = None,
    on_read: Callable[[int], None] | None = None,
) -> Iterator[Frame]:
    """Read one entry frame by frame, enlarge what the protocol needs, and check the sizes.

    Of a clip these are the frames to score and, for flicker, the frame after each of them; or those of `only`.
    `on_read` is called with the number of every frame that is read, wanted or not.

    Raises:
        InputError: a size does not fit, or the two clips are not of the same length.
    """
    references = None if entry.reference is None else entry.reference.frames()
    for index, picture in enumerate(entry.source.frames()):
        truth = None if references is None else next(references, None)
        if on_read is not None:
            on_read(index)
        if references is not None and truth is None:
            raise InputError(f"'{entry.name}': the reference ends after {index} frames, the clip goes on.")
        if only is not None:
            if index not in only:
                continue
        elif entry.source.clip and index % protocol.frame_step not in (0, 1 % protocol.frame_step):
            continue
        output = picture if enlarger is None else enlarger.enlarge(picture)
        if truth is not None and output.shape != truth.shape:
            raise InputError(
                f"'{entry.name}': the output is {_size(output)}, its reference {_size(truth)}. "
                + ("Give a reference of exactly that size." if enlarger is None else "Check --scale and the model.")
            )
        yield Frame(entry, index, None if enlarger is None else picture, output, truth)
    if references is not None and next(references, None) is not None:
        raise InputError(f"'{entry.name}': the clip ends before its reference. Give clips of the same length.")


def _score(frame: Frame, opened: Sequence[Metric], protocol: Protocol, keep: Path | None) -> PictureScore:
    output = frame.output
    height, width = output.shape[:2]
    crops = protocol.crops_of(frame.name, height=height, width=width)
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for metric in opened:
        try:
            if metric.learned and crops and not metric.needs_reference:
                parts = [
                    output[crop.top_px : crop.top_px + crop.height_px, crop.left_px : crop.left_px + crop.width_px]
                    for crop in crops
                ]
                values[metric.name] = float(np.mean([metric.score(np.ascontiguousarray(part), None) for part in parts]))
            else:
                values[metric.name] = metric.score(output, frame.reference)
        except Undefined as reason:
            absent[metric.name] = str(reason)
    if keep is not None:
        write_picture(keep / f"{frame.name}.png", output)
    source, reference = frame.entry.source, frame.entry.reference
    return PictureScore(
        name=frame.name,
        clip=frame.entry.name if source.clip else None,
        frame=frame.index if source.clip else None,
        input_sha256=source.sha256_of(frame.index),
        reference_sha256=None if reference is None else reference.sha256_of(frame.index),
        output_sha256=hashlib.sha256(np.ascontiguousarray(output).tobytes()).hexdigest(),
        width=width,
        height=height,
        crops=crops if any(metric.learned and not metric.needs_reference for metric in opened) else (),
        values=values,
        absent=absent,
    )


def _score_clip(
    entry: Entry, enlarger: Enlarger | None, opened: Sequence[Metric], protocol: Protocol, keep: Path | None
) -> tuple[ClipScore, list[PictureScore]]:
    """Score the protocol's frames of a clip, and its flicker over the pairs of neighbours that show one drawing."""
    drawings = None if entry.drawings_file is None else read_drawings(entry.drawings_file)
    scores: list[PictureScore] = []
    changes: list[float] = []
    previous: Frame | None = None
    read: list[int] = []
    for frame in frames_of(entry, enlarger, protocol, on_read=read.append):
        if drawings is not None and frame.index >= len(drawings):
            raise InputError(f"'{entry.drawings_file}' has {len(drawings)} lines, but the clip has more frames.")
        if previous is not None and previous.index == frame.index - 1 and _held(previous, frame, drawings):
            changes.append(held_change(previous.output, frame.output, border_px=protocol.border_px))
        if frame.index % protocol.frame_step == 0:
            scores.append(_score(frame, opened, protocol, keep))
        previous = frame
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    if changes:
        values[FLICKER] = float(np.mean(changes))
    elif drawings is None and entry.reference is None:
        absent[FLICKER] = (
            f"it is not known which frames show one drawing (no drawings.txt beside '{entry.name}', no reference)"
        )
    else:
        absent[FLICKER] = "no scored frame is followed by one that shows the same drawing"
    if not scores:
        raise InputError(f"cannot read '{entry.source.path}': no frames in it.")
    return ClipScore(name=entry.name, frames=len(read), scored=len(scores), values=values, absent=absent), scores


def _held(first: Frame, second: Frame, drawings: Sequence[int] | None) -> bool:
    if drawings is not None:
        return drawings[first.index] == drawings[second.index]
    if first.reference is None or second.reference is None:
        return False
    return np.array_equal(first.reference, second.reference)


def _shots(report: Report, entries: Sequence[Entry], enlarger: Enlarger | None, protocol: Protocol) -> Iterator[Shot]:
    """Make the chosen pictures once more (keeping all would not fit into memory) and cut their crops."""
    by_name = {entry.name: entry for entry in entries}
    scores = {score.name: score for score in report.pictures}
    for role, name, metric, value in chosen_pictures(report):
        score = scores[name]
        entry = by_name[score.clip if score.clip is not None else name]
        for frame in frames_of(entry, enlarger, protocol, only=[score.frame or 0]):
            yield make_shot(role, name, metric, value, low=frame.low, output=frame.output, truth=frame.reference)


def _open_metrics(
    names: Sequence[str] | None, protocol: Protocol, *, blind: bool, device: str
) -> tuple[list[Metric], dict[str, str]]:
    """Open the metrics; those that cannot run here go to the second result with the reason."""
    asked = names is not None
    wanted = names if names is not None else (protocol.blind_metrics if blind else protocol.reference_metrics)
    opened: list[Metric] = []
    absent: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        try:
            metric = open_metric(name, border_px=protocol.border_px, device=device, seed=protocol.seed)
        except MissingExtra as error:
            if asked:
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


def _open_enlarger(
    model: str | Path, entries: Sequence[Entry], *, scale: int | None, device: str, tta: bool
) -> Enlarger:
    if scale is None and entries[0].reference is not None:
        low = _first_size(entries[0].source)
        high = _first_size(entries[0].reference)
        ratio = high[0] / low[0]
        if (round(ratio) * low[0], round(ratio) * low[1]) != high:
            raise InputError(
                f"'{entries[0].name}': the reference is {high[1]}x{high[0]}, which is no whole multiple of the "
                f"picture's "
                f"{low[1]}x{low[0]}. Give pictures that fit, or outputs without --model."
            )
        scale = round(ratio)
    return open_model(str(model) if model in BASELINES else model, scale=scale, device=device, tta=tta)


def _first_size(source: Source) -> tuple[int, int]:
    picture = next(source.frames())
    return picture.shape[0], picture.shape[1]


def _summarise(
    opened: Sequence[Metric],
    scores: Sequence[PictureScore],
    clips: Sequence[ClipScore],
    protocol: Protocol,
    absent: dict[str, str],
) -> tuple[dict[str, Summary], dict[str, str]]:
    clip_of = {score.name: score.clip for score in scores if score.clip is not None}
    summary: dict[str, Summary] = {}
    absent = dict(absent)
    names = [metric.name for metric in opened] + ([FLICKER] if clips else [])
    for name in names:
        records = clips if name == FLICKER else scores
        values = {record.name: record.values[name] for record in records if name in record.values}
        reasons = [record.absent[name] for record in records if name in record.absent]
        if values:
            summary[name] = summarise(
                values,
                clips={} if name == FLICKER else clip_of,
                resamples=protocol.resamples,
                confidence=protocol.confidence,
                seed=protocol.seed,
                stream=name,
            )
        if reasons:
            absent[name] = f"{len(reasons)} of {len(records)}: {reasons[0]}"
    return summary, absent


def _described(opened: Sequence[Metric], clips: Sequence[ClipScore]) -> list[MetricInfo]:
    described = [
        MetricInfo(
            name=metric.name,
            title=metric.title,
            unit=metric.unit,
            better=metric.better,
            needs_reference=metric.needs_reference,
            source=metric.source,
        )
        for metric in opened
    ]
    if clips:
        described.append(
            MetricInfo(name=FLICKER, title=FLICKER_TITLE, better="lower", needs_reference=False, source=FLICKER_SOURCE)
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


def _size(picture: ImageU8) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
