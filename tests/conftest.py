"""Fixtures shared by all tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


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


@pytest.fixture(scope="session")
def tiny_x2(data: Path) -> Path:
    """A network of random weights that doubles, with a pixel unshuffle by 2."""
    return data / "models" / "tiny-x2.onnx"


@pytest.fixture(scope="session")
def tiny_x4(data: Path) -> Path:
    """A network of random weights that enlarges 4 times, plain convolutions."""
    return data / "models" / "tiny-x4.onnx"


@pytest.fixture(scope="session")
def apisr() -> Run:
    """Run the command line in a process of its own, as users do."""

    def run(*arguments: object, timeout: float = 120, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # type: ignore[call-overload,no-any-return]
            [sys.executable, "-m", "apisr", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            **options,
        )

    return run
