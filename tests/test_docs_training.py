"""The page about training: its way from videos to a measured model is pasted and run, on tiny data."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from curate_clips import short_film

PAGE = Path(__file__).resolve().parent.parent / "docs" / "training.md"
#: What makes each command small; everything else is as it stands on the page.
SMALL = {
    "curate": "--score classical --distance 0.3 --count 4 --height keep --workers 1",
    "shards": "--workers 1",
    "train": "--set run.steps=2 --set data.patch_px=64 --set data.batch=2 --set run.accelerator=cpu "
    "--set run.threads=1 --set log.tensorboard=false",
}


def commands(name: str) -> list[list[str]]:
    block = re.search(rf"<!-- tested: {name} -->\n```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


@pytest.mark.slow
def test_the_way_from_videos_to_a_measured_model(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="the way trains")
    short_film(tmp_path / "videos" / "film.mkv", seed=1)
    for words in commands("chain"):
        assert words[0] == "apisr"
        extra = shlex.split(SMALL.get(words[1], ""))
        done = subprocess.run(
            [sys.executable, "-m", "apisr", *words[1:], *extra],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"
        assert "Warning" not in done.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert report["model"]["name"]
    assert (tmp_path / "mine.onnx").is_file()


def test_every_line_of_the_page_fits() -> None:
    assert max(map(len, PAGE.read_text(encoding="utf-8").splitlines())) <= 100
