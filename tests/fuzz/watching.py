"""What a child does with a damaged video: everything that upscaling does before and around the network."""

from __future__ import annotations

import itertools
from pathlib import Path

from apisr.video.native import estimate_native_height
from apisr.video.reader import ReadReport
from apisr.video.source import VideoSource
from apisr.video.verify import source_problems

_MOST_FRAMES = 300
_ALWAYS = "the stream has no times"


def watch(path: str) -> str:
    """Open, index, decode and demux a video; return how many frames there are, and what does not add up."""
    report, times = ReadReport(), list[int]()
    with VideoSource.open(Path(path)) as source:
        index = source.index
        source.combed_share(frames=8)
        for frame in source.frames(threads=1, report=report):
            times.append(frame.pts)
            if len(times) == 2 and min(frame.rgb.shape[:2]) > 64:
                estimate_native_height([frame.rgb])
            if len(times) >= _MOST_FRAMES:
                break
        if index.frames > 6:
            next(iter(source.frames(start=int(index.pts[index.frames // 2]), threads=1)), None)
        others = [stream.index for stream in source.info.streams if stream.kind in ("audio", "subtitle")]
        late: list[str] = []
        packets = sum(1 for _ in source.packets(others, late)) if others else 0
        with source.intra_frames() as reader:
            intra = sum(1 for _ in reader)
        problems = [*source_problems(source.info, source.index, times, damaged=report.damaged), *late, *_said(source)]
    if any(one >= two for one, two in itertools.pairwise(times)):
        raise AssertionError("times do not increase")
    return f"{len(times)} frames, {intra} intra, {packets} packets, problems: {'; '.join(problems) or 'none'}"


def _said(source: VideoSource) -> list[str]:
    """Return notices about the file, without the one that every raw stream has."""
    return [notice for notice in source.info.notices if not notice.startswith(_ALWAYS)]
