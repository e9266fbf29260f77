"""Which frames are kept."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.curate.select import Candidate, reference_count, select

CANDIDATES = st.lists(st.tuples(st.floats(0, 100, allow_nan=False), st.floats(0, 1, allow_nan=False)), max_size=60).map(
    lambda items: [Candidate(number, time, score) for number, (time, score) in enumerate(items)]
)


@settings(deadline=None)
@given(candidates=CANDIDATES, count=st.integers(1, 30), parts=st.integers(1, 9), distance=st.floats(0, 20))
def test_invariants(candidates: list[Candidate], count: int, parts: int, distance: float) -> None:
    chosen = select(candidates, count=count, parts=parts, distance_s=distance)
    assert len(chosen) <= count
    assert len({candidate.number for candidate in chosen}) == len(chosen)
    assert set(chosen) <= set(candidates)
    assert [c.score for c in chosen] == sorted((c.score for c in chosen), reverse=True)
    times = sorted(candidate.time_s for candidate in chosen)
    assert all(later - earlier >= distance for earlier, later in itertools.pairwise(times))
    if distance == 0:
        assert len(chosen) == min(count, len(candidates))
    shuffled = select(candidates[::-1], count=count, parts=parts, distance_s=distance)
    assert shuffled == chosen


@given(candidates=CANDIDATES, count=st.integers(1, 30))
def test_without_parts_it_is_the_best(candidates: list[Candidate], count: int) -> None:
    best = sorted((candidate.score for candidate in candidates), reverse=True)[:count]
    assert [candidate.score for candidate in select(candidates, count=count)] == best


def test_reference_way() -> None:
    """Eight parts, the best two of each, as the released code."""
    candidates = [Candidate(n, float(n), ((n * 37) % 101) / 101) for n in range(80)]
    chosen = select(candidates, count=16, parts=8)
    for part in range(8):
        best = sorted(candidates[10 * part : 10 * part + 10], key=lambda c: -c.score)[:2]
        assert set(best) <= set(chosen)
    assert (reference_count(1800), reference_count(1801)) == (16, 24)


def test_unusable_candidates_are_asked_once_and_replaced() -> None:
    asked: list[int] = []

    def usable(candidate: Candidate) -> bool:
        asked.append(candidate.number)
        return candidate.number % 2 == 0

    candidates = [Candidate(n, float(n), 1 - n / 10) for n in range(8)]
    assert [c.number for c in select(candidates, count=3, parts=2, usable=usable)] == [0, 4, 6]
    assert len(asked) == len(set(asked))


def test_bad_numbers() -> None:
    with pytest.raises(InputError, match="at least 1"):
        select([], count=0)
