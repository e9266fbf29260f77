"""A short round of damaged videos: each is read or refused in one line, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.videos import FRAMES, fuzz_videos, valid_videos
from fuzz.watching import watch


@pytest.mark.parametrize("name", sorted(valid_videos()))
def test_the_seeds_are_read_as_they_are(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(valid_videos()[name])
    result = watch(str(tmp_path / name))
    assert result.startswith(f"{FRAMES} frames")
    assert result.endswith("none")


def test_damaged_videos_are_read_or_refused() -> None:
    figures = fuzz_videos(99, seed=1)
    assert figures.tried == 99
    assert figures.bad == []
    kinds = figures.kinds()
    assert kinds["refused"] > 10
    assert kinds["read"] > 30
