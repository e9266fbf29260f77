"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of small arrays, pictures and clips that belong to the tests."""
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of the large sets beside the repository; tests of those sets are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("the large validation sets (../shared) are not on this machine")
    return SHARED
