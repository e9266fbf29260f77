"""Writing a video as an animated picture: lossless segments become the frames of a GIF, WebP or APNG."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from apisr.core.errors import RunError
from apisr.image import open_picture
from apisr.image.types import PictureInfo
from apisr.image.write import open_writer
from apisr.video.source import VideoSource
from apisr.video.turn import turned
from apisr.video.verify import OutputCheck
from apisr.video.writer import EncodedSegment


def write_animation(
    target: Path,
    pieces: Sequence[tuple[Path, EncodedSegment]],
    unit: Fraction,
    *,
    rate: Fraction,
    matrix: tuple[int, ...] | None = None,
    overwrite: bool = False,
    provenance: dict[str, str] | None = None,
) -> OutputCheck:
    """Write the frames of lossless segments as an animation that is played for ever.

    Args:
        target: the file; its ending chooses the format.
        pieces: files and what is in them, in order.
        unit: seconds of one unit of their times.
        rate: nominal frames per second (for the length of the last frame).
        matrix: how the pictures are to be turned (libav's nine numbers).
        overwrite: replace an existing file.
        provenance: what made the animation, names and values.

    Raises:
        RunError: a segment does not hold its frames, or the disk is full.
    """
    times = [pts for _, segment in pieces for pts in segment.pts]
    last = [length for _, segment in pieces for length in segment.durations][-1] * unit or 1 / rate
    shown = [*(later - now for now, later in itertools.pairwise(times)), 0]
    with VideoSource.open(pieces[0][0]) as first:
        stored = np.empty((first.info.video.height, first.info.video.width, 0), np.uint8)
    height, width = turned(stored, matrix).shape[:2]
    info = PictureInfo(width, height, 3, np.dtype(np.uint8), len(times), "animation", loop=0)
    number = 0
    with open_writer(target, info, overwrite=overwrite, lossless=False, provenance=provenance) as writer:
        for path, segment in pieces:
            before = number
            with VideoSource.open(path) as part:
                for frame in part.frames(dtype=np.uint8):
                    length = shown[number] * unit if number + 1 < len(times) else last
                    writer.start_frame(height, width, 3, np.dtype(np.uint8), duration_ms=float(1000 * length))
                    writer.write(turned(frame.rgb, matrix))
                    number += 1
            if number - before != len(segment.pts):
                raise RunError(
                    f"'{path.name}' holds {number - before} frames instead of {len(segment.pts)}. Start again.",
                    code="bad-segment",
                )
    with open_picture(target) as written:
        frames = written.info.frame_count
    if frames != len(times):
        raise RunError(f"the output holds {frames} frames and {len(times)} went in.", code="output-differs")
    return OutputCheck(frames, float((times[-1] - times[0]) * unit + last), target.stat().st_size)
