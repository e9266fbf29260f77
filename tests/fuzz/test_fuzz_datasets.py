"""A short round of damaged manifests, records, settings, configurations and reports."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzz.child import decode_in_children
from fuzz.datasets import fuzz_datasets, valid_files


def test_the_seeds_are_read(tmp_path: Path) -> None:
    for name, content in valid_files().items():
        (tmp_path / name).write_bytes(content)
    outcomes = list(decode_in_children(sorted(tmp_path.iterdir()), memory_mb=3072, what="datasets"))
    assert [outcome.kind for outcome in outcomes] == ["read"] * 5


@pytest.mark.parametrize("seed", [1, 2])
def test_damaged_files_are_read_or_refused(seed: int) -> None:
    figures = fuzz_datasets(100, seed=seed)
    assert figures.tried == 100
    assert figures.bad == []
    assert figures.kinds()["refused"] > 30
