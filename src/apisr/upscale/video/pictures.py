"""Numbered pictures as the output: all of them or none stand under their names.

They are written into the folder of segments and moved when the last one is complete.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from apisr.core.errors import RunError
from apisr.core.files import check_target
from apisr.image import ImageInt, write_picture
from apisr.upscale.video.plan import VideoPlan
from apisr.upscale.video.work_folder import WorkFolder
from apisr.video.sequence import picture_at
from apisr.video.source import VideoSource
from apisr.video.turn import turned
from apisr.video.verify import OutputCheck
from apisr.video.writer import EncodedSegment


def write_pictures(plan: VideoPlan, folder: WorkFolder, pieces: Sequence[tuple[Path, EncodedSegment]]) -> OutputCheck:
    """Turn lossless segments into numbered pictures, from 1, as they are to be shown.

    Args:
        plan: what was decided.
        folder: holds the pictures until all are complete.
        pieces: the segments, with their records.

    Raises:
        RunError: a segment is damaged, the disk is full, or a picture appeared meanwhile.
    """
    written: list[tuple[Path, Path]] = []
    moved: list[Path] = []
    size = 0
    try:
        for number, rgb in enumerate(_pictures(plan, pieces), start=1):
            target = picture_at(plan.target, number)
            path = folder.picture_path(number, target.suffix)
            written.append((path, target))
            write_picture(path, rgb, overwrite=True)
            size += path.stat().st_size
        for path, target in written:
            check_target(target, overwrite=plan.output.overwrite)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)
            moved.append(target)
    except BaseException:
        for path in (*(path for path, _ in written), *(() if plan.output.overwrite else moved)):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        raise
    last, begin = pieces[-1][1].pts[-1], pieces[0][1].pts[0]
    return OutputCheck(len(written), float((last - begin) * plan.unit + 1 / plan.rate), size)


def _pictures(plan: VideoPlan, pieces: Sequence[tuple[Path, EncodedSegment]]) -> Iterator[ImageInt]:
    for path, segment in pieces:
        count = 0
        with VideoSource.open(path) as part:
            for frame in part.frames(dtype=np.dtype(plan.format.dtype)):
                count += 1
                yield turned(frame.rgb, plan.format.display_matrix)
        if count != len(segment.pts):
            raise RunError(
                f"'{path.name}' holds {count} frames instead of {len(segment.pts)}. Start again.", code="segment-lost"
            )
