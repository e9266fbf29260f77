"""Scores of one picture, and of one clip frame by frame.

Every picture and frame is read, enlarged if a model is given, checked against its ground truth, and scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apisr.core.errors import InputError
from apisr.core.files import path_inside
from apisr.evaluate.inputs import Entry, read_drawings
from apisr.evaluate.models import Enlarger
from apisr.evaluate.protocols import Protocol
from apisr.evaluate.report import ClipScore, PictureScore
from apisr.image import write_picture
from apisr.image.types import ImageU8
from apisr.metrics import Metric, Undefined, held_change
from apisr.metrics.temporal import FLICKER


@dataclass(frozen=True)
class Sample:
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


@dataclass(frozen=True)
class Scorer:
    """Scores samples.

    Attributes:
        metrics: what is measured.
        protocol: on what.
        enlarger: who makes the outputs; None where they are given.
        outputs: folder in which the outputs are kept, as PNG.
        on_open: called with every file that is read, and what reading it loses.
    """

    metrics: Sequence[Metric]
    protocol: Protocol
    enlarger: Enlarger | None = None
    outputs: Path | None = None
    on_open: Callable[[Path, Sequence[str]], None] | None = None

    def picture(self, entry: Entry) -> PictureScore:
        """Score an entry that is a picture; errors as in :meth:`samples`."""
        return self.score(next(self.samples(entry)))

    def clip(self, entry: Entry) -> tuple[ClipScore, list[PictureScore]]:
        """Score the protocol's frames of a clip, and its flicker over the neighbours that show one drawing.

        Raises:
            InputError: see :meth:`samples`; no frames, or a list of drawings that does not fit.
        """
        drawings = None if entry.drawings_file is None else read_drawings(entry.drawings_file)
        scores: list[PictureScore] = []
        changes: list[float] = []
        previous: Sample | None = None
        read: list[int] = []
        for sample in self.samples(entry, on_read=read.append):
            if drawings is not None and sample.index >= len(drawings):
                raise InputError(
                    f"'{entry.drawings_file}' has {len(drawings)} lines, but the clip has more frames. "
                    "Give a line for each frame.",
                    code="drawings-count",
                )
            if previous is not None and previous.index == sample.index - 1 and _held(previous, sample, drawings):
                changes.append(held_change(previous.output, sample.output, border_px=self.protocol.border_px))
            if sample.index % self.protocol.frame_step == 0:
                scores.append(self.score(sample))
            previous = sample
        if not scores:
            raise InputError(f"cannot read '{entry.source.path}': no frames in it.", code="no-frames")
        values, absent = _flicker(entry, changes, known=drawings is not None or entry.reference is not None)
        clip = ClipScore(name=entry.name, frames=len(read), scored=len(scores), values=values, absent=absent)
        return clip, scores

    def samples(
        self, entry: Entry, *, only: Collection[int] | None = None, on_read: Callable[[int], None] | None = None
    ) -> Iterator[Sample]:
        """Read one entry frame by frame, enlarge what the protocol needs, and check the sizes.

        Of a clip these are the frames to score and, for flicker, the frame after each of them; or those of `only`.
        `on_read` is called with the number of every frame that is read, whether it is scored or not.

        Raises:
            InputError: a size does not fit, or the two clips are not of the same length.
        """
        step = self.protocol.frame_step
        references = None if entry.reference is None else entry.reference.frames(self.on_open)
        for index, picture in enumerate(entry.source.frames(self.on_open)):
            truth = None if references is None else next(references, None)
            if on_read is not None:
                on_read(index)
            if references is not None and truth is None:
                raise InputError(
                    f"'{entry.name}': the reference ends after {index} frames, the clip goes on.", code="clip-length"
                )
            if only is not None:
                if index not in only:
                    continue
            elif entry.source.clip and index % step not in (0, 1 % step):
                continue
            output = picture if self.enlarger is None else self.enlarger.enlarge(picture)
            if truth is not None and output.shape != truth.shape:
                raise InputError(
                    f"'{entry.name}': the output is {_size(output)}, its reference {_size(truth)}. "
                    + ("Give a reference of exactly that size." if self.enlarger is None else "Check --scale."),
                    code="size-mismatch",
                )
            yield Sample(entry, index, None if self.enlarger is None else picture, output, truth)
        if references is not None and next(references, None) is not None:
            raise InputError(
                f"'{entry.name}': the clip ends before its reference. Give clips of the same length.",
                code="clip-length",
            )

    def score(self, sample: Sample) -> PictureScore:
        """Score one sample, and keep its output where that is asked for."""
        height, width = sample.output.shape[:2]
        crops = self.protocol.crops_of(sample.name, height=height, width=width)
        values: dict[str, float] = {}
        absent: dict[str, str] = {}
        for metric in self.metrics:
            on_crops = bool(crops) and metric.learned and not metric.needs_reference
            try:
                if on_crops:
                    parts = [metric.score(crop.cut(sample.output), None) for crop in crops]
                    values[metric.name] = float(np.mean(parts))
                else:
                    values[metric.name] = metric.score(sample.output, sample.reference)
            except Undefined as reason:
                absent[metric.name] = str(reason)
        if self.outputs is not None:
            write_picture(path_inside(self.outputs, f"{sample.name}.png"), sample.output)
        source, reference = sample.entry.source, sample.entry.reference
        return PictureScore(
            name=sample.name,
            clip=sample.entry.name if source.clip else None,
            frame=sample.index if source.clip else None,
            input_sha256=source.sha256_of(sample.index),
            reference_sha256=None if reference is None else reference.sha256_of(sample.index),
            output_sha256=hashlib.sha256(np.ascontiguousarray(sample.output).tobytes()).hexdigest(),
            width=width,
            height=height,
            crops=crops if any(metric.learned and not metric.needs_reference for metric in self.metrics) else (),
            values=values,
            absent=absent,
        )


def _flicker(entry: Entry, changes: Sequence[float], *, known: bool) -> tuple[dict[str, float], dict[str, str]]:
    if changes:
        return {FLICKER: float(np.mean(changes))}, {}
    if not known:
        reason = f"it is not known which frames show one drawing (no drawings.txt beside '{entry.name}', no reference)"
    else:
        reason = "no scored frame is followed by one that shows the same drawing"
    return {}, {FLICKER: reason}


def _held(first: Sample, second: Sample, drawings: Sequence[int] | None) -> bool:
    if drawings is not None:
        return drawings[first.index] == drawings[second.index]
    if first.reference is None or second.reference is None:
        return False
    return np.array_equal(first.reference, second.reference)


def _size(picture: ImageU8) -> str:
    return f"{picture.shape[1]}x{picture.shape[0]}"
