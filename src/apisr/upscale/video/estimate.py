"""How long a video will take and how large it will be, from a few of its frames.

Frames from several places go through everything that the run does: decoding, preprocessing, the network
with reuse, and the encoder. A drawing that is computed whole costs more than its neighbours, so the first
frame of each place is counted as often as shots change.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apisr.core.worker_folder import temporary_folder
from apisr.upscale.planned import JobEstimate
from apisr.upscale.video.encode import final_picture
from apisr.upscale.video.run import Processing, VideoRun
from apisr.video.libav import open_read
from apisr.video.reader import Frame
from apisr.video.writer import SegmentWriter

#: Places of a video that are tried, and consecutive frames at each.
PLACES, FRAMES = 3, 6
#: No more time than this is spent on trying, in seconds.
MOST_SECONDS = 20.0
#: Frames from one change of shot to the next, on average.
_SHOT_FRAMES = 72
#: Frames from one keyframe of the encoder to the next, on average.
_GROUP_FRAMES = 120


@dataclass
class _Trial:
    """Seconds and bytes of the first frames and of the others."""

    first_s: list[float]
    other_s: list[float]
    first_bytes: list[int]
    other_bytes: list[int]


def estimate_video(run: VideoRun) -> JobEstimate:
    """Estimate what a run takes by doing a little of it.

    Args:
        run: the work; nothing is written into its folder.

    Raises:
        RunError: decoding, upscaling or encoding failed.
    """
    trial = _Trial([], [], [], [])
    upscaler = run.processing.make_upscaler()
    upscaler_run = Processing(lambda: upscaler, run.processing.scale, preprocess=run.processing.preprocess)
    began = time.perf_counter()
    with temporary_folder("apisr-estimate-") as folder:
        for number, frames in enumerate(_places(run)):
            _try(run, upscaler_run, frames, folder / f"{number}.mkv", trial)
            if time.perf_counter() - began > MOST_SECONDS:
                break
    if not trial.first_s:
        return JobEstimate(0.0, 0)
    frames_left = sum(segment.frames for segment in run.missing)
    first_s = float(np.mean(trial.first_s))
    other_s = float(np.mean(trial.other_s)) if trial.other_s else first_s
    first_bytes = float(np.mean(trial.first_bytes))
    other_bytes = float(np.mean(trial.other_bytes)) if trial.other_bytes else first_bytes
    return JobEstimate(
        seconds=frames_left * (other_s + max(0.0, first_s - other_s) / _SHOT_FRAMES),
        size_bytes=round(run.plan.frames * (other_bytes + max(0.0, first_bytes - other_bytes) / _GROUP_FRAMES)),
    )


def _places(run: VideoRun) -> Iterator[Iterator[Frame]]:
    """Yield the frames of each place that is tried."""
    segments = run.missing
    index = run.source.index
    low = segments[0].start if segments[0].start is not None else int(index.pts[0])
    high = segments[-1].end if segments[-1].end is not None else int(index.pts[-1])
    count = min(PLACES, max(1, run.plan.frames // FRAMES))
    for number in range(count):
        start = low + (2 * number + 1) * (high - low) // (2 * count)
        nearest = int(index.pts[max(0, int(np.searchsorted(index.pts, start, side="right")) - 1)])
        frames = run.source.frames(start=nearest, dtype=np.dtype(run.plan.format.dtype), fields=run.plan.fields)
        yield frames


def _try(run: VideoRun, processing: Processing, frames: Iterator[Frame], path: Path, trial: _Trial) -> None:
    plan = run.plan
    coded = plan.format
    upscaler = processing.make_upscaler()
    writer = SegmentWriter(path, coded.encoder, coded.size, plan.rate, coded.colour, coded.sar)
    taken = _first(frames, FRAMES)
    clock = time.perf_counter()
    seconds: list[float] = []
    for frame in processing.preprocess(taken):
        writer.write(
            final_picture(upscaler.process(frame.rgb), frame.rgb, run), frame.pts, frame.duration, damaged=False
        )
        now = time.perf_counter()
        seconds.append(now - clock)
        clock = now
    writer.close()
    if not seconds:
        return
    trial.first_s.append(seconds[0])
    trial.other_s += seconds[1:]
    with open_read(path) as container:
        sizes = [packet.size for packet in container.demux(container.streams.video[0]) if packet.size]
    trial.first_bytes.append(sizes[0])
    trial.other_bytes += sizes[1:]


def _first(frames: Iterator[Frame], count: int) -> Iterator[Frame]:
    for _ in range(count):
        frame = next(frames, None)
        if frame is None:
            break
        yield frame
    getattr(frames, "close", lambda: None)()
