"""The last steps of a frame: its final size, and the encoder, in a thread of its own."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from apisr.core.pipeline import Stage
from apisr.image import ImageInt, Resampling, from_float, resize, to_float
from apisr.upscale.video.cuts import Segment
from apisr.upscale.video.run import SegmentEvents, VideoRun
from apisr.video.reader import Frame, ReadReport
from apisr.video.writer import SegmentWriter


@dataclass(frozen=True)
class _Begin:
    segment: Segment


@dataclass(frozen=True)
class _Picture:
    rgb: ImageInt
    frame: Frame


@dataclass(frozen=True)
class _End:
    pass


class SegmentEncoder:
    """Colour conversion and encoding of segments, one after the other; errors arrive at the next call.

    Args:
        run: the work.
        events: takes the number of frames that are done.
        report: of the reader, for the damage that belongs to a segment.
        ahead: frames that may wait.
    """

    def __init__(self, run: VideoRun, events: SegmentEvents, report: ReadReport, *, ahead: int) -> None:
        self.active_s = 0.0
        self._run = run
        self._events = events
        self._report = report
        self._damage_counted = 0
        self._writer: SegmentWriter | None = None
        self._number = 0
        self._stage: Stage[_Begin | _Picture | _End] = Stage(self._do, ahead=ahead, name="apisr-encode")

    def begin(self, segment: Segment) -> None:
        """Begin the file of a segment."""
        self._stage.put(_Begin(segment))

    def put(self, rgb: ImageInt, frame: Frame) -> None:
        """Encode a picture with the times of its frame."""
        self._stage.put(_Picture(rgb, frame))

    def end(self) -> None:
        """Finish the file and make it count."""
        self._stage.put(_End())

    def finish(self) -> None:
        """Wait until everything is done."""
        self._stage.finish()

    def abandon(self) -> None:
        """Throw the unfinished file away; never raises."""
        self._stage.abandon()
        if self._writer is not None:
            self._writer.abandon()
            self._run.folder.partial_path(self._number).unlink(missing_ok=True)
            self._writer = None

    def _do(self, item: _Begin | _Picture | _End) -> None:
        clock = time.perf_counter()
        if isinstance(item, _Begin):
            self._begin(item.segment.number)
        elif self._writer is not None and isinstance(item, _Picture):
            self._writer.write(item.rgb, item.frame.pts, item.frame.duration, damaged=item.frame.damaged)
            self._events.frames_done(1)
        elif self._writer is not None:
            self._commit(self._writer)
        self.active_s += time.perf_counter() - clock

    def _begin(self, number: int) -> None:
        self._number = number
        plan = self._run.plan
        coded = plan.format
        path = self._run.folder.partial_path(number)
        self._writer = SegmentWriter(path, coded.encoder, coded.size, plan.rate, coded.colour, coded.sar)

    def _commit(self, writer: SegmentWriter) -> None:
        record = writer.close()
        self._writer = None
        damage = self._report.damaged - self._damage_counted
        self._damage_counted = self._report.damaged
        self._run.folder.commit(self._number, replace(record, damaged=max(record.damaged, damage)))


def final_picture(large: ImageInt, low: ImageInt, run: VideoRun) -> ImageInt:
    """Bring the network's output to the final size, and put the source beside it where a comparison is asked for.

    Args:
        large: what the network made, ``(s*H, s*W, 3)``.
        low: what it was made of, ``(H, W, 3)``.
        run: the work.
    """
    width, height = run.plan.format.single
    picture = _resized(large, width, height, run.options.resampling)
    if run.options.compare is None:
        return picture
    before = _resized(low, width, height, "bicubic")
    if run.options.compare == "side":
        return np.concatenate([before, picture], axis=1)
    wiped = picture.copy()
    wiped[:, : width // 2] = before[:, : width // 2]
    wiped[:, width // 2 - 1 : width // 2 + 1] = np.iinfo(wiped.dtype).max
    return wiped


def _resized(picture: ImageInt, width: int, height: int, method: Resampling) -> ImageInt:
    if picture.shape[:2] == (height, width):
        return picture
    values = np.clip(resize(to_float(picture), height, width, method=method), 0, 1)
    return from_float(values, picture.dtype)
