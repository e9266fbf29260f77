"""The closing check: what went in, what came out, and whether both agree with what the source declares.

Nothing here uses the plan of the run. Frames are counted three times: packets of the source, frames that the decoder
gave, packets of the output, which is opened and read anew. A number that does not add up is a problem, and a run with a
problem is not a success.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from apisr.core.errors import RunError
from apisr.video.index import PacketIndex
from apisr.video.info import SourceInfo
from apisr.video.source import VideoSource

#: A frame that is not shown within this share of its own length of its packet's time is missing.
_SAME_FRAME = 0.75
#: A video that is shorter than its header declares by more than this many seconds (or this share) has lost something.
_SHORT_S, _SHORT_SHARE = 0.5, 0.02


@dataclass(frozen=True)
class OutputCheck:
    """What an output was found to hold.

    Attributes:
        frames: counted in the file.
        duration_s: from the first frame to the end of the last.
        size_bytes: of the file.
    """

    frames: int
    duration_s: float
    size_bytes: int


def check_output(
    path: Path, times: Sequence[int], unit: Fraction, *, rate: Fraction, variable_rate: bool = True
) -> OutputCheck:
    """Read a finished file and compare it with the times of the frames that the decoder gave.

    Args:
        path: the output, perhaps still under its partial name.
        times: presentation times of the frames in units of the source, increasing.
        unit: seconds of one unit.
        rate: nominal frames per second.
        variable_rate: whether the container keeps exact times (else they lie on a grid).

    Raises:
        RunError: number or times differ (code ``output-differs``), or the disk is full.
    """
    with VideoSource.open(path) as result:
        index, out_unit = result.index, result.info.video.time_base
    expected = np.array(times, np.int64)
    if index.frames != expected.size:
        full = " The disk is full." if shutil.disk_usage(path.parent).free < 1 << 20 else ""
        raise RunError(
            f"the output holds {index.frames} frames and {expected.size} went in.{full}", code="output-differs"
        )
    source_s = (expected - expected[0]).astype(np.float64) * float(unit)
    output_s = (index.pts - index.pts[0]).astype(np.float64) * float(out_unit)
    tolerance = max(float(out_unit), float(unit)) * 1.01 + 1e-9
    if not variable_rate:
        tolerance = max(tolerance, float(1 / rate))
    worst = float(np.abs(source_s - output_s).max())
    if worst > tolerance:
        raise RunError(
            f"a frame of the output is {worst * 1000:.1f} ms away from its time. Please report this.",
            code="output-differs",
        )
    last = int(index.duration[-1]) * float(out_unit) or float(1 / rate)
    return OutputCheck(index.frames, float(output_s[-1]) + last, path.stat().st_size)


def source_problems(
    info: SourceInfo,
    index: PacketIndex,
    decoded: Sequence[int],
    *,
    damaged: int,
    fields_merged: bool = False,
    span: tuple[int | None, int | None] = (None, None),
) -> list[str]:
    """Return everything about a source that does not add up; each is a reason not to call the run a success.

    Args:
        info: what the source says of itself.
        index: its packets.
        decoded: times of the frames that the decoder gave, in units of the source.
        damaged: how many frames or packets were damaged, by the reports of the readers.
        fields_merged: whether a filter changed the number of frames (3:2 pulldown).
        span: the part that was asked for, in units of the source.
    """
    problems: list[str] = []
    if info.truncated is not None:
        problems.append(f"it is cut off: {info.truncated}")
    if info.problems or index.problems:
        problems.append(f"reading it: {(info.problems + index.problems)[0]}")
    problems += index.lost
    if index.marked_corrupt:
        problems.append(f"{index.marked_corrupt} packets are marked as damaged")
    if damaged:
        problems.append(f"{damaged} frames or packets are damaged")
    if info.video.declared_frames > index.frames + index.hidden and info.container.startswith("mov"):
        problems.append(f"it declares {info.video.declared_frames} frames and holds {index.frames}")
    if not fields_merged:
        missing = len(missing_frames(index, decoded, span))
        if missing:
            problems.append(f"{missing} of its frames could not be decoded")
    short = _missing_seconds(info, index, decoded) if span == (None, None) else None
    if short is not None and not problems:
        problems.append(short)
    return problems


def missing_frames(
    index: PacketIndex, decoded: Sequence[int], span: tuple[int | None, int | None] = (None, None)
) -> list[int]:
    """Return the times of packets for which no frame came out.

    Not every packet is a frame: the second field of a picture comes in a packet of its own, and pictures before the
    first keyframe of a broadcast refer to what was not recorded. A frame is missing where nothing is shown within most
    of a frame's length of its time, after the first keyframe.

    >>> from fractions import Fraction
    >>> index = PacketIndex(np.arange(5), np.ones(5, int), np.array([1]), Fraction(24), False, True)
    >>> missing_frames(index, [1, 2, 4])
    [3]
    """
    if not decoded:
        return index.pts.tolist()
    shown = np.array(sorted(decoded), np.int64)
    start = max(int(index.keyframes[0]) if index.keyframes.size else 0, int(index.pts[0]))
    low = start if span[0] is None else max(start, span[0])
    pts = index.pts[index.pts >= low]
    if span[1] is not None:
        pts = pts[pts < span[1]]
    if not pts.size:
        return []
    steps = np.sort(np.diff(shown))
    step = float(steps[(steps.size - 1) // 2]) if steps.size else float(index.duration[0] or 1)
    after = np.clip(np.searchsorted(shown, pts), 0, shown.size - 1)
    before = np.clip(after - 1, 0, shown.size - 1)
    distance = np.minimum(np.abs(shown[after] - pts), np.abs(shown[before] - pts))
    return pts[distance > _SAME_FRAME * step].tolist()


def _missing_seconds(info: SourceInfo, index: PacketIndex, decoded: Sequence[int]) -> str | None:
    """Compare the length of what was decoded with what the header declares of the video stream."""
    stream = next(stream for stream in info.streams if stream.index == info.video.index)
    if stream.duration_s is None or index.parts or index.hidden or not decoded or info.clock_may_jump:
        return None
    # Some containers declare the end, some the length.
    length = float((max(decoded) - min(0, min(decoded))) * info.video.time_base + 1 / index.rate)
    if stream.duration_s - length <= max(_SHORT_S, _SHORT_SHARE * stream.duration_s):
        return None
    return f"it declares {stream.duration_s:.2f} s of video and {length:.2f} s could be decoded"
