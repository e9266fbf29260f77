"""Which frames are kept."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr.core.errors import InputError
from apisr.curate.select import Candidate, select

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


def test_bad_numbers() -> None:
    with pytest.raises(InputError) as refused:
        select([], count=0)
    assert refused.value.code == "out-of-range"
