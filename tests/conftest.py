"""Fixtures shared by all tests."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


@dataclass(frozen=True)
class Ran:
    """How a command of the program ended.

    Attributes:
        returncode: the exit code.
        stdout: what it printed.
        stderr: progress, notes and errors.
        code: stable name of the error; empty if there was none.
    """

    returncode: int
    stdout: str
    stderr: str
    code: str = ""

    def json(self) -> Any:
        """Read what --json printed."""
        return json.loads(self.stdout)


Run = Callable[..., Ran]


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
def script() -> Callable[[str], ModuleType]:
    """Load a script of the folder ``scripts`` as a module; what it does to the search path is undone."""

    @functools.cache
    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"scripts_{name}", ROOT / "scripts" / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        path = list(sys.path)
        spec.loader.exec_module(module)
        sys.path[:] = path
        return module

    return load


@pytest.fixture(scope="session")
def benchmark_module() -> Callable[[str], ModuleType]:
    """Import a module of the folder ``benchmarks``; the search path is as it was afterwards."""

    def load(name: str) -> ModuleType:
        sys.path.insert(0, str(ROOT))
        try:
            return importlib.import_module(f"benchmarks.{name}")
        finally:
            sys.path.remove(str(ROOT))

    return load


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
    """Run a command line in this process, through the same program that users start."""
    from typer.testing import CliRunner

    from apisr.cli import build
    from apisr.cli.failures import failure_of

    app = build()

    def run(
        *arguments: object, cwd: Path | None = None, stdin: bytes | None = None, env: Mapping[str, str] | None = None
    ) -> Ran:
        with contextlib.chdir(cwd or Path.cwd()):
            result = CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin, env=env)
        error = result.exception.__cause__ if isinstance(result.exception, SystemExit) else result.exception
        if error is not None and not isinstance(result.exception, SystemExit):
            raise error
        code = "" if error is None else failure_of(error).code
        return Ran(result.exit_code, result.stdout, result.stderr, code)

    return run


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small real file system with the given options; skipped where that is not permitted."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
        return folder

    yield mount
    subprocess.run(["umount", str(folder)], capture_output=True, check=False)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from browsers import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def page() -> Iterator[Any]:
    """An empty page in a headless Chromium; whatever its script reports as an error fails the test."""
    from browsers import launched

    with launched() as browser:
        opened = browser.new_page(viewport={"width": 1280, "height": 800})
        problems: list[str] = []
        opened.on("pageerror", lambda error: problems.append(str(error)))
        yield opened
        assert problems == []
