"""The shape of the project: who may import whom, and what a light start means."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "apisr"

#: Modules that everything may import.
BASE = {"core", "image", "metrics", "__version__"}

#: Folder or module -> what it may import besides BASE and itself.
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "image": set(),
    "metrics": set(),
    "video": set(),
    "curate": {"video", "weights", "enhance"},
    "enhance": set(),
    "degrade": set(),
    "networks": set(),
    "weights": {"networks"},
    "synthesis": set(),
    "train": {"enhance", "degrade", "networks", "weights", "synthesis", "curate", "engines", "upscale"},
    "engines": {"networks", "weights"},
    "upscale": {"video", "weights", "engines"},
    "evaluate": {"upscale", "engines", "weights", "train", "video"},
    "app": {"curate"},
    "cli": {"*"},
    "model": {"upscale", "engines", "weights"},
    "upscaler": {"model", "upscale", "video"},
    "vapoursynth": {"model", "upscale", "video"},
    "__main__": {"cli"},
    "__init__": {"*"},
}
#: Modules behind the public functions that the app imports all the same. Only the floor is added to this list.
INSIDE_OF_THE_APP = {
    "apisr.core.errors",
    "apisr.core.files",
    "apisr.core.locks",
    "apisr.core.media",
    "apisr.core.processes",
    "apisr.core.progress",
    "apisr.core.text",
    "apisr.curate.review",
    "apisr.image",
}
HEAVY = {"numpy", "av", "cv2", "torch", "onnxruntime", "PIL", "pydantic", "pyarrow", "pooch", "tifffile", "lightning"}


def units() -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for path in sorted(SOURCE.rglob("*.py")):
        relative = path.relative_to(SOURCE)
        found.append((relative.parts[0] if len(relative.parts) > 1 else relative.stem, path))
    return found


def imported_units(path: Path) -> set[str]:
    """Names of the package's parts that a file imports, wherever in the file it does so."""
    package = ("apisr", *path.relative_to(SOURCE).parts[:-1])
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("apisr.")}
    return found


@pytest.mark.parametrize(
    ("unit", "path"), units(), ids=lambda value: str(value) if isinstance(value, str) else value.name
)
def test_imports_follow_the_design(unit: str, path: Path) -> None:
    assert unit in ALLOWED, f"{unit} is not in the table of the design: add it with what it may import"
    allowed = (ALLOWED[unit] | BASE | {unit}) if unit != "core" else {"core"}
    if "*" in allowed:
        return
    assert imported_units(path) - allowed == set()


def test_nothing_imports_the_command_line_or_the_app() -> None:
    guilty = {
        str(path)
        for unit, path in units()
        if unit not in ("cli", "__main__", "app") and imported_units(path) & {"cli", "app"}
    }
    assert guilty == set()


def test_the_app_uses_the_public_functions() -> None:
    found: set[str] = set()
    for path in (SOURCE / "app").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}:{node.lineno}: imports by a relative name"
                found.add(node.module or "")
    inside = {name for name in found if name.startswith("apisr.") and name.split(".")[1] != "app"}
    assert inside == INSIDE_OF_THE_APP


def test_only_image_opens_picture_files() -> None:
    opened = [
        f"{path.relative_to(SOURCE)}:{node.lineno}"
        for unit, path in units()
        if unit != "image"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("imread", "imwrite")
    ]
    assert opened == []


@pytest.mark.parametrize(
    "statement", ["import apisr", "import sys; sys.argv = ['apisr', '--help']; from apisr.cli import main; main()"]
)
def test_start_is_light(statement: str) -> None:
    code = (
        "import sys, atexit\n"
        f"heavy = {sorted(HEAVY)!r}\n"
        "atexit.register(lambda: sys.stderr.write('LOADED ' + ','.join(m for m in heavy if m in sys.modules)))\n"
        + statement
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.rsplit("LOADED ", 1)[1] == ""
