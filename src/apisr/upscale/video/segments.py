"""Making the segments of a video.

    frames of a segment  ->  preprocess  ->  network  ->  final size  ->  encoder  ->  a file of its own

The missing segments of a run are made by a runner: :class:`LocalRunner` makes them in threads of
this process, :class:`apisr.upscale.video.remote.ClusterRunner` on other machines; both call :func:`make_segments`.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np

from apisr.core.errors import Cancelled
from apisr.core.pipeline import map_ordered, prefetch
from apisr.core.progress import Cancel
from apisr.upscale.results import HoldStats, StageSeconds
from apisr.upscale.video.cuts import Segment
from apisr.upscale.video.encode import SegmentEncoder, final_picture
from apisr.upscale.video.run import FrameUpscaler, SegmentEvents, VideoRun
from apisr.video.reader import Frame, ReadReport

#: Frames that wait between two stages.
QUEUE_FRAMES = 4


class LocalRunner:
    """Makes segments in this process.

    Args:
        workers: segments made at the same time, each with an upscaler of its own.
    """

    local = True

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    def run(self, run: VideoRun, events: SegmentEvents) -> None:
        """See :meth:`SegmentRunner.run`."""
        groups = _groups(run.missing, single=self._workers > 1)
        workers = min(self._workers, len(groups))
        upscalers: queue.SimpleQueue[tuple[str, FrameUpscaler]] = queue.SimpleQueue()
        made = threading.Lock()
        names = iter(str(number) for number in range(workers))
        failed = Cancel()
        reasons: list[BaseException] = []

        def work(segments: Sequence[Segment]) -> None:
            try:
                name, upscaler = upscalers.get_nowait()
            except queue.Empty:
                with made:
                    name = next(names)
                upscaler = run.processing.make_upscaler()
            try:
                hold = make_segments(run, segments, upscaler, events, stop=failed)
                events.statistics(name, upscaler.stats, hold)
            except BaseException as error:
                with made:
                    reasons.append(error)  # the first is why all stop, whichever group comes first in the video
                failed.request()
                raise
            finally:
                upscalers.put((name, upscaler))

        if workers <= 1:
            for group in groups:
                work(group)
            return
        try:
            for _ in map_ordered(work, groups, workers=workers, ahead=len(groups), on_leave=failed.request):
                events.cancel.check()
        except Cancelled:
            events.cancel.check()
            if reasons:
                raise reasons[0] from None
            raise


def make_segments(
    run: VideoRun, segments: Sequence[Segment], upscaler: FrameUpscaler, events: SegmentEvents, *, stop: Cancel
) -> HoldStats:
    """Make consecutive segments in one pass over the source, each into its own file.

    Args:
        run: the work.
        segments: consecutive ones.
        upscaler: the network.
        events: takes what is reported.
        stop: ends the work early because another worker failed.

    Returns:
        What the hold filter did.

    Raises:
        RunError: decoding, upscaling or encoding failed.
        Cancelled: a stop was asked for; segments that are not complete are thrown away.
    """
    plan = run.plan
    report = ReadReport()
    seconds = StageSeconds()
    hold = HoldStats()
    reader = prefetch(
        run.source.frames(
            start=segments[0].start,
            end=segments[-1].end,
            dtype=np.dtype(plan.format.dtype),
            fields=plan.fields,
            report=report,
        ),
        ahead=QUEUE_FRAMES,
    )
    encoder = SegmentEncoder(run, events, report, ahead=QUEUE_FRAMES)
    try:
        frames = _Splitter(reader)
        for segment in segments:
            encoder.begin(segment)
            for frame in run.processing.preprocess(frames.before(segment.end), hold):
                clock = time.perf_counter()
                large = final_picture(upscaler.process(frame.rgb), frame.rgb, run)
                seconds.upscale += time.perf_counter() - clock
                encoder.put(large, frame)
                stop.check()
                events.cancel.check()
            encoder.end()
        encoder.finish()
    except BaseException:
        encoder.abandon()
        raise
    finally:
        reader.close()
        seconds.decode = report.decode_s
        seconds.encode = encoder.active_s
        events.stage(seconds)
    return hold


class _Splitter:
    """Hands out the frames of one pass segment by segment."""

    def __init__(self, frames: Iterator[Frame]) -> None:
        self._frames = frames
        self._next: Frame | None = None

    def before(self, end: int | None) -> Iterator[Frame]:
        """Yield the frames before a time stamp; the first one after it stays for the next call."""
        while True:
            frame = self._next if self._next is not None else next(self._frames, None)
            self._next = None
            if frame is None:
                return
            if end is not None and frame.pts >= end:
                self._next = frame
                return
            yield frame


def _groups(missing: Sequence[Segment], *, single: bool) -> list[list[Segment]]:
    """Group consecutive segments, which are decoded in one pass; one each where several workers share them."""
    groups: list[list[Segment]] = []
    for segment in missing:
        if groups and not single and groups[-1][-1].number + 1 == segment.number:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups
