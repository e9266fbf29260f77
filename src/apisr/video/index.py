"""The packets of a video stream: how many frames there are, when they are shown, where decoding can start.

Read in one pass without decoding. Nothing trusts a header where the packets can be asked: Matroska has no frame count,
transport streams have no duration, and the declared frame rate of variable-rate files is fiction.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from apisr.core.errors import InputError
from apisr.video.clock import JUMP_S, ClockPart, Packet, VideoClock, seam_packets
from apisr.video.info import RAW_CONTAINERS, SourceInfo, VideoInfo
from apisr.video.libav import AnyPacket, demuxer_problems, reason, reports
from apisr.video.sizes import SizeWatch

#: Frame rates that exist in the world; a measured rate within one part in a thousand of one of them is that one.
COMMON_RATES = tuple(
    Fraction(numerator, denominator)
    for numerator, denominator in (
        *((24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (48000, 1001), (48, 1), (50, 1), (60000, 1001)),
        *((60, 1), (12, 1), (12000, 1001), (15, 1), (15000, 1001), (10, 1), (120, 1), (120000, 1001)),
    )
)
#: A container of constant rate can carry frames on a grid that is not finer than this (empty frames fill the gaps).
_FINEST_GRID = 300


@dataclass(frozen=True)
class PacketIndex:
    """Times of the packets of a video stream, in presentation order, from a pass without decoding.

    Attributes:
        pts: presentation times in time base units, sorted.
        duration: of each, 0 if unknown.
        keyframes: the pts of packets where decoding can start, sorted.
        rate: frames per second: the most common distance, snapped to the usual rates.
        variable: whether distances differ by more than the rounding of the time base.
        has_timestamps: whether every packet had its own presentation time.
        problems: what the demuxer reported: parts of the file are damaged.
        hidden: packets that an edit list hides.
        parts: where the clock breaks and what is added from there on.
        marked_corrupt: packets that the demuxer marks as damaged, without those at a break of the clock.
        sizes: (width, height) of later parts of the stream whose pictures have another header.
        before_keyframe: packets before the first at which decoding can start, in the order of the file.
        lost: what is missing in the file by its own numbers, in words (:func:`apisr.video.integrity.lost_parts`).
    """

    pts: NDArray[np.int64]
    duration: NDArray[np.int64]
    keyframes: NDArray[np.int64]
    rate: Fraction
    variable: bool
    has_timestamps: bool
    problems: tuple[str, ...] = ()
    hidden: int = 0
    parts: tuple[ClockPart, ...] = ()
    marked_corrupt: int = 0
    sizes: tuple[tuple[int, int], ...] = ()
    before_keyframe: int = 0
    lost: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """How many packets there are: the number of frames, unless some cannot be decoded."""
        return int(self.pts.size)

    @property
    def seekable(self) -> bool:
        """Whether reading can begin at a keyframe by its time (the clock is one, and packets carry it)."""
        return self.has_timestamps and not self.parts

    def breaks_s(self, unit: Fraction) -> list[float]:
        """Return the seconds after the first frame at which the clock breaks."""
        return [float((int(self.pts[part.first_packet]) - int(self.pts[0])) * unit) for part in self.parts]

    def duration_s(self, unit: Fraction) -> Fraction:
        """Return the seconds from the first frame to the end of the last."""
        last = int(self.duration[-1]) * unit or 1 / self.rate
        return int(self.pts[-1] - self.pts[0]) * unit + last


@dataclass
class _Walk:
    """What a pass over the packets collects, in the order of the file."""

    times: list[int | None] = field(default_factory=list[int | None])
    decoded: list[int | None] = field(default_factory=list[int | None])
    durations: list[int] = field(default_factory=list[int])
    keys: list[int] = field(default_factory=list[int])
    hidden: int = 0
    corrupt: list[int] = field(default_factory=list[int])
    failure: str | None = None
    sizes: tuple[tuple[int, int], ...] = ()


def read_index(packets: Iterable[AnyPacket], source: SourceInfo, *, jumps: bool) -> PacketIndex:
    """Read the times of all packets of the video stream.

    Args:
        packets: all packets of the stream, in the order of the file.
        source: the file.
        jumps: whether a leap of the clock is a break (not a pause).

    Raises:
        InputError: the stream has no packets.
    """
    video = source.video
    clock = VideoClock(video.time_base, threshold_s=JUMP_S if jumps else None)
    with reports() as lines:
        walk = _walk(packets, clock, SizeWatch(video.codec))
    problems = demuxer_problems(lines, source.container) + (() if walk.failure is None else (walk.failure,))
    if not walk.times:
        raise InputError(f"cannot read '{source.path}': its video stream holds no frames.", code="no-frames")
    return _index(walk, source, clock, problems)


def _walk(packets: Iterable[AnyPacket], clock: VideoClock, watch: SizeWatch) -> _Walk:
    walk = _Walk()
    try:
        for packet in packets:
            if packet.is_discard:
                walk.hidden += 1
                continue
            moved = clock.shifted(Packet(packet.pts, packet.dts, packet.duration or 0, packet.is_keyframe))
            if packet.is_keyframe:
                walk.keys.append(len(walk.times))
                watch.look_at(packet)
            if packet.is_corrupt:
                walk.corrupt.append(len(walk.times))
            walk.times.append(moved.pts)
            walk.decoded.append(moved.dts)
            walk.durations.append(moved.duration)
    except FFmpegError as error:
        walk.failure = reason(error)
    walk.sizes = tuple(watch.sizes)
    return walk


def _index(walk: _Walk, source: SourceInfo, clock: VideoClock, problems: tuple[str, ...]) -> PacketIndex:
    video, count = source.video, len(walk.times)
    has_timestamps = not video.synthetic_timestamps and None not in walk.times
    if video.synthetic_timestamps:
        times = list(range(count)) if source.container in RAW_CONTAINERS else _turns(walk)
        keys = times  # frames are counted from the start, wherever reading begins: any of them may begin a part
    else:
        times = _filled(walk)
        keys = [times[number] for number in walk.keys] if has_timestamps else [min(times)]
    order = np.argsort(np.array(times, np.int64), kind="stable")
    pts = np.array(times, np.int64)[order]
    durations = np.array(walk.durations, np.int64)[order]
    if video.synthetic_timestamps:
        raw = source.container in RAW_CONTAINERS
        last = int(durations[-1]) if walk.decoded[-1] is not None and not raw else 1
        durations = np.append(np.diff(pts), max(1, last))
    rate, variable = _rate(pts, video)
    return PacketIndex(
        pts=pts,
        duration=durations if durations.size == count else np.zeros(count, np.int64),
        keyframes=np.array(sorted(keys), np.int64),
        rate=rate,
        variable=variable,
        has_timestamps=has_timestamps or video.synthetic_timestamps,
        problems=problems,
        hidden=walk.hidden,
        parts=tuple(clock.parts),
        marked_corrupt=len(set(walk.corrupt) - seam_packets(clock.parts)),
        sizes=walk.sizes,
        before_keyframe=walk.keys[0] if walk.keys else 0,
    )


def _turns(walk: _Walk) -> list[int]:
    """Return the times that frames take in turn: the places of their packets, or 0, 1, 2, ... without any."""
    if None in walk.decoded:
        return list(range(len(walk.decoded)))
    places = sorted(moment for moment in walk.decoded if moment is not None)
    return [place - places[0] for place in places] if len(set(places)) == len(places) else list(range(len(places)))


def _filled(walk: _Walk) -> list[int]:
    """Return presentation times; a missing one is its decoding time, or goes on from the one before."""
    times: list[int] = []
    step = next((length for length in walk.durations if length), 1)
    for moment, decoded in zip(walk.times, walk.decoded, strict=True):
        if moment is None:
            moment = decoded if decoded is not None else (times[-1] + step if times else 0)
        times.append(moment)
    return times


def nominal_rate(times_s: NDArray[np.float64]) -> tuple[Fraction | None, bool]:
    """Find the frame rate behind a list of times.

    Args:
        times_s: sorted presentation times in seconds.

    Returns:
        The rate of the most common distance (None with less than two frames) and whether distances vary.

    >>> rate, variable = nominal_rate(np.round(np.arange(50) * 1001 / 24000, 3))
    >>> rate, variable
    (Fraction(24000, 1001), False)
    """
    steps = np.diff(times_s)
    steps = steps[steps > 0]
    if steps.size == 0:
        return None, False
    median = float(np.sort(steps)[(steps.size - 1) // 2])
    usual = steps[np.abs(steps - median) <= 0.0011]
    measured = 1.0 / float(usual.mean())
    variable = usual.size < steps.size
    tolerance = 2e-3
    if not variable:  # all of it counts: the rounding of single times averages out
        measured = steps.size / float(times_s[-1] - times_s[0])
        tolerance = 1e-4 + 0.0011 / float(times_s[-1] - times_s[0])
    best = min(COMMON_RATES, key=lambda rate: abs(float(rate) / measured - 1))
    if abs(float(best) / measured - 1) <= tolerance:
        return best, variable
    rate = Fraction(measured).limit_denominator(1001) or Fraction(measured).limit_denominator(1 << 30)
    return rate or Fraction(1, 1 << 30), variable  # damaged times may lie years apart


def grid_rate(index: PacketIndex, video: VideoInfo) -> Fraction | None:
    """Return the constant rate on whose grid all frames lie, None where there is none that is coarse enough.

    Containers of constant rate (AVI) carry such videos: empty frames fill the gaps.
    """
    if not index.variable:
        return index.rate
    grid = 1 / (video.time_base * int(np.gcd.reduce(np.diff(index.pts))))
    return grid if grid <= _FINEST_GRID else None


def _rate(pts: NDArray[np.int64], video: VideoInfo) -> tuple[Fraction, bool]:
    measured, variable = nominal_rate(pts.astype(np.float64) * float(video.time_base))
    declared = video.declared_rate
    if measured is None:
        return declared or Fraction(24), False
    if video.synthetic_timestamps:
        variable = bool(np.unique(np.diff(pts)).size > 1)
        return (declared or measured) if not variable else measured, variable
    if declared and abs(float(declared / measured) - 1) < 1e-3:
        return declared.limit_denominator(100_000), variable
    return measured, variable
