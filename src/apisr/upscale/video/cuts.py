"""Where a video is cut: parts that begin at keyframes of the source.

>>> from fractions import Fraction
>>> index = PacketIndex(np.arange(10), np.ones(10, int), np.array([0, 4, 8]), Fraction(24), False, True)
>>> [(segment.start, segment.end, segment.frames) for segment in plan_segments(index, frames=4)]
[(None, 4, 4), (4, None, 6)]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apisr.upscale.options import SEGMENT_FRAMES
from apisr.video.index import PacketIndex


@dataclass(frozen=True)
class Segment:
    """A part of a video: frames with ``start <= pts < end`` (None: no bound).

    Attributes:
        number: position among the segments.
        start: first time stamp.
        end: time stamp to stop before.
        frames: how many packets fall into it.
    """

    number: int
    start: int | None
    end: int | None
    frames: int


def plan_segments(
    index: PacketIndex, bounds: tuple[int | None, int | None] = (None, None), frames: int = SEGMENT_FRAMES
) -> tuple[Segment, ...]:
    """Cut a video into segments of at least `frames` frames that begin at keyframes.

    The segments cover ``[start, end)`` without gap or overlap; leading pictures of an open group, which are stored
    after their keyframe and shown before it, fall to the segment before it.

    Args:
        index: the packets of the video.
        bounds: (start, end), time stamps; None for no bound.
        frames: least number of frames of a segment.
    """
    start, end = bounds
    times = index.pts
    low = 0 if start is None else int(np.searchsorted(times, start))
    high = times.size if end is None else int(np.searchsorted(times, end))
    cuts: list[int] = []
    if index.has_timestamps:
        last = low
        for key in index.keyframes:
            position = int(np.searchsorted(times, key))
            if position - last >= frames and high - position >= frames:
                cuts.append(int(key))
                last = position
    edges: list[int | None] = [start, *cuts, end]
    positions = [low, *(int(np.searchsorted(times, cut)) for cut in cuts), high]
    return tuple(
        Segment(number, edges[number], edges[number + 1], positions[number + 1] - positions[number])
        for number in range(len(edges) - 1)
    )
