"""Upscaling one video, from the opened source to the checked file.

    work folder -> segments (decode, preprocess, upscale, encode) -> join, check, rename

Memory does not depend on the length of the video. The function knows nothing of the command line, of engines or of
networks: it gets what makes an upscaler, which maps one RGB frame to a larger one.

>>> with VideoSource.open("ep.mkv") as source:                                          # doctest: +SKIP
...     plan = plan_video(source, OutputRequest(Path("out.mkv")), scale=2, options=VideoOptions())
...     result = upscale_video(source, plan, Processing(make_upscaler, scale=2))
>>> result.frames_in == result.frames_out                                               # doctest: +SKIP
True
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator
from pathlib import Path

from apisr.core.errors import ApisrError, Cancelled, RunError
from apisr.core.files import check_target, write_error
from apisr.core.progress import Cancel, Progress, ProgressFn, ProgressKind, no_progress
from apisr.core.version import __version__
from apisr.upscale.options import VideoOptions
from apisr.upscale.results import HoldStats, ReuseStats, StageSeconds, VideoResult
from apisr.upscale.video.estimate import estimate_video
from apisr.upscale.video.finish import finish_video
from apisr.upscale.video.plan import VideoPlan
from apisr.upscale.video.run import Processing, SegmentRunner, VideoRun
from apisr.upscale.video.segments import LocalRunner
from apisr.upscale.video.work_folder import Value, WorkFolder
from apisr.video.source import VideoSource

#: From so many frames on, time and size are estimated before the work (a minute of film).
ESTIMATE_FROM_FRAMES = 1440


def upscale_video(
    source: VideoSource,
    plan: VideoPlan,
    processing: Processing,
    options: VideoOptions = VideoOptions(),
    *,
    runner: SegmentRunner | None = None,
    progress: ProgressFn = no_progress,
    cancel: Cancel | None = None,
) -> VideoResult:
    """Upscale a video; the output appears under its name only when it is complete and checked.

    Args:
        source: the video.
        plan: what was decided about it, see :func:`apisr.upscale.video.plan.plan_video`.
        processing: how one frame becomes a larger one.
        options: of videos.
        runner: makes the segments; by default this process, one at a time.
        progress: takes events whose unit is ``frames``; they name no item, for whoever has several knows which it is.
        cancel: stops the run; complete segments are kept and continued by the next run.

    Raises:
        InputError: the output exists, another run works on it, or an interrupted run with other settings is in the
            way.
        RunError: the source is damaged or was replaced, the disk is full, or a check at the end failed.
        Cancelled: a stop was asked for.
    """
    check_target(plan.target, overwrite=plan.output.overwrite)
    began = time.perf_counter()
    folder = WorkFolder.beside(plan.target)
    with _disk_errors(plan.target, folder):
        settings = _settings(plan, processing, options)
        done = folder.open(settings, plan.segments, restart=options.restart)
    resumed = sum(len(segment.pts) for segment in done.values())
    events = RunEvents(plan.frames, resumed, progress, cancel or Cancel())
    with _disk_errors(plan.target, folder), contextlib.closing(folder):
        missing = tuple(segment for segment in plan.segments if segment.number not in done)
        if missing:
            runner = runner or LocalRunner()
            run = VideoRun(source, plan, folder, missing, processing, options)
            with events.stop_at_frame(folder):
                if runner.local and sum(segment.frames for segment in missing) >= ESTIMATE_FROM_FRAMES:
                    events.notice(f"{estimate_video(run).text}.")
                runner.run(run, events)
        joined = time.perf_counter()
        result = finish_video(source, plan, folder, accept_damage=options.accept_damage, on_packet=events.joined)
        ended = time.perf_counter()
        events.stage(StageSeconds(join=ended - joined, total=ended - began))
        folder.remove()
    return result.model_copy(update=events.statistics_of_run(held=processing.preprocess.hold != "off"))


class RunEvents:
    """Collects what the workers of a run report and passes the progress on.

    Args:
        total: number of frames of the source.
        resumed: frames that an earlier run had done.
        progress: takes the events.
        cancel: asks for a stop.
    """

    def __init__(self, total: int, resumed: int, progress: ProgressFn, cancel: Cancel) -> None:
        self.cancel = cancel
        self._total = total
        self._resumed = self._done = resumed
        self._progress = progress
        self._seconds = StageSeconds()
        self._reuse: dict[str, ReuseStats] = {}
        self._hold = HoldStats()
        self._lock = threading.RLock()
        if resumed:
            self.notice(f"continuing at frame {resumed} of {self._total}.")
        self._send("advanced", resumed)

    def frames_done(self, count: int) -> None:
        """So many more frames are encoded."""
        with self._lock:
            self._done += count
            self._send("advanced", self._done)

    def notice(self, message: str) -> None:
        """Say something before the work."""
        self._send("notice", self._done, message)

    def joined(self, packets: int) -> None:
        """So many frames are in the output."""
        if packets == self._total or packets % 1000 == 0:
            self._progress(Progress("join", done=packets, total=self._total, unit="frames"))

    def stage(self, seconds: StageSeconds) -> None:
        """So much time was spent in the stages."""
        with self._lock:
            self._seconds.add(seconds)

    def statistics(self, worker: str, reuse: ReuseStats, hold: HoldStats) -> None:
        """What a worker saved so far, and what was held in the segments just made."""
        with self._lock:
            self._reuse[worker] = reuse
            self._hold.add(hold)

    @contextlib.contextmanager
    def stop_at_frame(self, folder: WorkFolder) -> Generator[None]:
        """Say where a run stopped, and where the next one goes on.

        Args:
            folder: holds the segments that are complete.

        Raises:
            Cancelled: a stop was asked for inside the block.
        """
        try:
            yield
        except Cancelled as error:
            if not self.cancel.requested:
                raise
            kept = sum(len(folder.segment(number).pts) for number in folder.finished())
            where = f"goes on at frame {kept}" if kept else "begins again, for no segment is complete"
            raise Cancelled(f"stopped at frame {self._done} of {self._total}; the same command {where}.") from error

    def statistics_of_run(self, *, held: bool) -> dict[str, object]:
        """Return what the workers counted, as fields of a result."""
        reuse = ReuseStats()
        for part in self._reuse.values():
            reuse.add(part)
        return {
            "seconds": self._seconds,
            "resumed_frames": self._resumed,
            "reuse": reuse,
            "hold": self._hold if held else None,
        }

    def _send(self, kind: ProgressKind, done: int = 0, message: str = "") -> None:
        total = max(self._total, done)
        self._progress(Progress("upscale", kind, done=done, total=total, unit="frames", message=message))


def _settings(plan: VideoPlan, processing: Processing, options: VideoOptions) -> dict[str, Value]:
    """Return everything that decides the result of a run."""
    colour, encoder = plan.format.colour, plan.format.encoder
    return {
        "apisr": __version__,
        "source": plan.sha256,
        "stream": plan.video_stream,
        "model": processing.identity,
        "scale": processing.scale,
        "preprocess": processing.preprocess.identity,
        "size": list(plan.format.size),
        "encoder": {
            "codec": encoder.name,
            "pixel format": encoder.pixel_format,
            "threads": encoder.threads,
            **encoder.options,
        },
        "colour": [colour.matrix, colour.primaries, colour.transfer, colour.full_range],
        "fields": plan.fields,
        "resampling": options.resampling,
        "compare": options.compare,
        "rate": str(plan.rate),
        "dtype": plan.format.dtype,
    }


@contextlib.contextmanager
def _disk_errors(target: Path, folder: WorkFolder) -> Generator[None]:
    """Turn errors of the file system into one line, which says what is kept."""
    try:
        yield
    except OSError as error:
        if isinstance(error, ApisrError):
            raise
        found = write_error(error, target)
        kept = " Finished segments are kept and continued." if os.path.isdir(folder.path) else ""  # noqa: PTH112 - never raises
        raise RunError(f"{found}{kept}", code=found.code) from error
