"""The Python blocks of the documents run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from video_clips import make_clip

from apisr.evaluate import EvaluateOptions, evaluate, write_report
from apisr.image import write_picture

ROOT = Path(__file__).resolve().parent.parent
#: Pages with blocks that need no other program and no download.
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("index", "degrade", "enhance", "video", "evaluate"))]
PAGES.append("docs/reference/python.md")
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), re.DOTALL))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the documents name, small."""
    place = tmp_path_factory.mktemp("docs")
    drawing = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    for name in ("frame.png", "picture.png", "a.png", "pictures/a.png", "gt/a.png", "examples/scene.png"):
        write_picture(place / name, drawing)
    write_picture(place / "low" / "a.png", drawing[::2, ::2])
    for name in ("in.mkv", "ep.mkv", "examples/clip.mkv"):
        make_clip(place / name, frames=4)
    options = EvaluateOptions(metrics=["psnr", "ssim"])
    report = evaluate(place / "low", reference=place / "gt", model="lanczos", options=options)
    write_report(report, place / "reports" / "lanczos")
    return place


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_runs(folder: Path, block: str) -> None:
    ran = subprocess.run([sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
