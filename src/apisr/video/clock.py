"""Clocks that restart or jump inside a file: recordings joined end to end, adverts cut out of a broadcast.

Transport and program streams carry the clock of whoever sent them. Where two recordings meet, it falls back or leaps
ahead by hours; players take the new clock and go on. Here the packets of the video are walked through in the order of
the file; at each break the following packets are shifted so that the new part begins where the old one would have
gone on. The other streams take the same shifts, so that sound stays in step.

    >>> walk = VideoClock(Fraction(1, 10), threshold_s=10.0)
    >>> [walk.shifted(Packet(dts, dts, 1, dts in (0, 900))).dts for dts in (0, 1, 2, 0, 1, 900)]
    [0, 1, 2, 3, 4, 5]
    >>> [(part.first_packet, part.shift) for part in walk.parts]
    [(3, 3), (5, -895)]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

#: A clock that falls back by more than this has restarted; less is the rounding of a container.
_BACK_S = 0.1
#: Presentation times go back and forth by themselves (reordered pictures); without decoding times this much is usual.
_REORDER_S = 1.0
#: Slide shows reorder frames that are seconds long: so many of them.
_REORDER_FRAMES = 16
#: A clock that leaps ahead by more than this has jumped (the threshold of other players, too).
JUMP_S = 10.0


@dataclass(frozen=True)
class Packet:
    """The times of one packet in units of its stream, None where it has none."""

    pts: int | None
    dts: int | None
    duration: int
    keyframe: bool = False


@dataclass(frozen=True)
class ClockPart:
    """From which packet of the video (in the order of the file) which shift applies, in units of the video."""

    first_packet: int
    shift: int


class VideoClock:
    """Walks through the packets of the video in the order of the file and makes their times go on at every break.

    Args:
        unit: seconds of one tick.
        threshold_s: a leap ahead of more seconds than this is a break; None: leaps are real pauses.
    """

    def __init__(self, unit: Fraction, *, threshold_s: float | None) -> None:
        self.parts: list[ClockPart] = []
        self._unit = unit
        self._threshold = None if threshold_s is None else round(Fraction(threshold_s) / unit)
        self._shift = 0
        self._last: Packet | None = None
        self._latest: int | None = None
        self._step = 0
        self._count = 0

    def shifted(self, packet: Packet) -> Packet:
        """Return the packet with times that go on from those before it."""
        number, self._count = self._count, self._count + 1
        moved = _moved(packet, self._shift)
        jump = self._break(moved)
        if jump:
            self._shift += jump
            self.parts.append(ClockPart(number, self._shift))
            moved = _moved(packet, self._shift)
        self._step = packet.duration or self._distance(moved) or self._step
        if moved.dts is not None or moved.pts is not None:
            self._last = moved
        if moved.pts is not None:
            self._latest = moved.pts if self._latest is None else max(self._latest, moved.pts)
        return moved

    def _distance(self, moved: Packet) -> int:
        """Return how far a packet is from the one before it, 0 where that is not known."""
        if self._last is None or self._last.dts is None or moved.dts is None:
            return 0
        return max(0, moved.dts - self._last.dts)

    def _break(self, moved: Packet) -> int:
        """Return what must be added to go on without a break; 0 where there is none."""
        last = self._last
        if last is None:
            return 0
        back = round(Fraction(_BACK_S) / self._unit)
        if moved.keyframe and moved.pts is not None and self._latest is not None and moved.pts < self._latest - back:
            # What is stored before a keyframe is shown before it: its clock is another one.
            return self._latest + max(1, self._step) - moved.pts
        reordered = moved.dts is None or last.dts is None
        now, before = (moved.pts, last.pts) if reordered else (moved.dts, last.dts)
        if now is None or before is None:
            return 0
        expected = before + max(1, self._step)
        if reordered:
            back = max(round(Fraction(_REORDER_S) / self._unit), _REORDER_FRAMES * self._step)
        leap = self._threshold is not None and now - expected > self._threshold
        return expected - now if now < before - back or leap else 0


class FollowingClock:
    """Shifts the packets of another stream in the order of the file by the same amounts as the video.

    Where its times fall back, a later part begins; where they leap, one may. Of the parts that remain, the one is taken
    that makes the stream go on with the smallest gap. (A stream may end before its part, or last longer.)

    Args:
        shifts_s: the shifts of the parts of the video in seconds (the first part has none and is not listed).
        unit: seconds of one tick of this stream.
    """

    def __init__(self, shifts_s: Sequence[Fraction], unit: Fraction) -> None:
        self._shifts = [0, *(round(part / unit) for part in shifts_s)]
        self._part = 0
        self._unit = unit
        self._expected: int | None = None

    def shift_of(self, moment: int | None, duration: int) -> int:
        """Return what is added to the times of the next packet; `moment` is its decoding time."""
        if moment is None:
            return self._shifts[self._part]
        if self._expected is not None:
            now = moment + self._shifts[self._part]
            fell_back = now < self._expected - _BACK_S / self._unit
            candidates = range(self._part + fell_back, len(self._shifts))
            if candidates and (fell_back or now > self._expected + JUMP_S / 2 / self._unit):
                self._part = min(candidates, key=lambda part: abs(moment + self._shifts[part] - self._wanted()))
        self._expected = moment + self._shifts[self._part] + duration
        return self._shifts[self._part]

    def _wanted(self) -> int:
        return self._expected or 0


def seam_packets(parts: Sequence[ClockPart]) -> set[int]:
    """Return the packets around every break of the clock: the two before it and the one after it.

    Where two recordings meet, the counters of transport packets break as well. The demuxer then marks a packet there
    (by the delay of its parser, up to two too early) as damaged. Whether it is, is for the decoder to say.

    >>> sorted(seam_packets([ClockPart(3, 7)]))
    [1, 2, 3]
    """
    return {part.first_packet + place for part in parts for place in (-2, -1, 0)}


def decoding_times(pts: Sequence[int], *, step: int) -> list[int]:
    """Return decoding times for packets whose presentation times are given in the order of the file.

    They are the sorted presentation times, shifted by the reordering depth: increasing, and never after the
    presentation time.

    >>> decoding_times([0, 3, 1, 2, 6], step=1)
    [-1, 0, 1, 2, 3]
    """
    ordered = sorted(pts)
    rank: dict[int, int] = {}
    for position, moment in enumerate(ordered):
        rank.setdefault(moment, position)
    delay = max((position - rank[moment] for position, moment in enumerate(pts)), default=0)
    early = [ordered[0] - (delay - position) * step for position in range(min(delay, len(ordered)))] if ordered else []
    return [*early, *ordered[: len(ordered) - delay]]


def _moved(packet: Packet, shift: int) -> Packet:
    return Packet(
        None if packet.pts is None else packet.pts + shift,
        None if packet.dts is None else packet.dts + shift,
        packet.duration,
        packet.keyframe,
    )
