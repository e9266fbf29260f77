"""The check of a machine with a card, run dry on the processor."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu_check.py"
STEPS = ["engines", "doctor", "card", "networks", "video", "training"]


def check(output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(output), "--quick", "--device", "cpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def results(output: Path) -> dict[str, str]:
    steps = json.loads((output / "summary.json").read_text(encoding="utf-8"))["steps"]
    return {step["name"]: step["result"] for step in steps}


def test_one_step_and_what_is_known_of_the_others(tmp_path: Path) -> None:
    unknown = check(tmp_path, "--only", "vdieo")
    assert unknown.returncode == 2
    assert "video" in unknown.stderr
    late = check(tmp_path, "--only", "video", "--seconds", "1")
    assert late.returncode == 1
    assert "run the same command again" in late.stdout
    assert results(tmp_path) == dict.fromkeys(STEPS, "not run")
    done = check(tmp_path, "--only", "video")
    assert done.returncode == 0, (done.stdout, (tmp_path / "video.txt").read_text(encoding="utf-8"))
    assert results(tmp_path) == dict.fromkeys(STEPS, "not run") | {"video": "ok"}
    assert "frames/s" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert (tmp_path / "work" / "big.mkv").is_file()
    again = check(tmp_path, "--only", "video")
    assert again.returncode == 0
    assert "done before" in again.stdout


def test_a_step_that_runs_over_is_stopped_with_all_its_processes(tmp_path: Path) -> None:
    done = check(tmp_path, "--only", "doctor", "--seconds", "11")
    assert done.returncode in (0, 1)
    assert results(tmp_path)["doctor"] == ("ok" if done.returncode == 0 else "stopped")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="training needs torch")
def test_every_step(tmp_path: Path) -> None:
    done = check(tmp_path, "--seconds", "1500")
    texts = {path.name: path.read_text(encoding="utf-8", errors="replace")[-2000:] for path in tmp_path.glob("*.txt")}
    assert done.returncode == 0, (done.stdout, texts)
    assert results(tmp_path) == dict.fromkeys(STEPS, "ok")
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json", "summary.md", *(f"{n}.txt" for n in STEPS)}
    steps = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["steps"]
    assert all(step["figures"] for step in steps)
