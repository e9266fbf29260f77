"""Which frames of a video to keep (paper 3.1: the ten with the highest complexity).

The released code cuts the frames into eight parts and takes the best of each, for diversity; both ways are here, with a
least distance in time, and without taking the same drawing twice.

    >>> frames = [Candidate(number=n, time_s=float(n), score=s) for n, s in enumerate([0.1, 0.9, 0.8, 0.2, 0.5, 0.7])]
    >>> [frame.number for frame in select(frames, count=2)]
    [1, 2]
    >>> [frame.number for frame in select(frames, count=2, parts=2)]
    [1, 5]
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from apisr.core.errors import InputError
from apisr.curate.duplicates import Fingerprint, same_drawing


@dataclass(frozen=True)
class Candidate:
    """An intra frame that may be kept: ordinal of its packet, time in seconds, score (more is better), fingerprint."""

    number: int
    time_s: float
    score: float
    fingerprint: Fingerprint | None = None


def select(
    candidates: Sequence[Candidate],
    *,
    count: int,
    parts: int = 1,
    distance_s: float = 0.0,
) -> list[Candidate]:
    """Choose up to `count` candidates, best score first, evenly from `parts` parts of the video.

    Args:
        candidates: the frames of one video in any order.
        count: how many to choose at most.
        parts: the candidates, ordered by time, are cut into this many runs of equal number; every run gives its best
            ``count / parts``; places that a run cannot fill go to the best frames left anywhere.
        distance_s: chosen frames are at least this far apart in time.

    Returns:
        The chosen frames, ordered by score (highest first), ties by time.

    Raises:
        InputError: count or parts below 1, or a negative distance.
    """
    if count < 1 or parts < 1 or distance_s < 0:
        raise InputError(
            f"count and parts must be at least 1 and distance_s not negative, got {count}, {parts}, {distance_s}.",
            code="out-of-range",
        )
    chosen: list[Candidate] = []

    def fits(candidate: Candidate) -> bool:
        if any(candidate is other for other in chosen):
            return False
        near = any(abs(candidate.time_s - other.time_s) < distance_s for other in chosen)
        return not near and not _repeats(candidate, chosen)

    ordered = sorted(candidates, key=lambda candidate: (candidate.time_s, candidate.number))
    for part, run in enumerate(_runs(ordered, parts)):
        share = count * (part + 1) // parts - count * part // parts
        for candidate in _by_score(run):
            if share == 0:
                break
            if fits(candidate):
                chosen.append(candidate)
                share -= 1
    for candidate in _by_score(ordered):
        if len(chosen) >= count:
            break
        if fits(candidate):
            chosen.append(candidate)
    return _by_score(chosen)


def _runs(ordered: Sequence[Candidate], parts: int) -> Iterator[Sequence[Candidate]]:
    for part in range(parts):
        yield ordered[len(ordered) * part // parts : len(ordered) * (part + 1) // parts]


def _by_score(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: (-candidate.score, candidate.time_s, candidate.number))


def _repeats(candidate: Candidate, chosen: Sequence[Candidate]) -> bool:
    own = candidate.fingerprint
    return own is not None and any(
        other.fingerprint is not None and same_drawing(own, other.fingerprint) for other in chosen
    )
