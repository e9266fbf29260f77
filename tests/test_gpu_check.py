"""The check of a machine with a card, run dry on the processor."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import subprocess
import sys
import time
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


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="processes are listed on Linux only")
def test_a_step_that_runs_over_is_stopped_with_the_processes_that_it_started(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("gpu_check", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    place = tmp_path / "child"
    program = (
        "import subprocess, sys, time, pathlib\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"pathlib.Path({str(place)!r}).write_text(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    step = module.Step("sleeps", [sys.executable, "-c", program], 15.0)
    module.run(step, tmp_path, left_s=60.0)
    assert step.result == "stopped"
    child = Path("/proc") / place.read_text() / "status"
    for _ in range(200):  # it was killed: the system takes it away in its own time
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if "State:\tZ" not in child.read_text():
                time.sleep(0.05)
                continue
        break
    else:
        pytest.fail("the process that the step had started is still there")
    late = module.Step("sleeps", [sys.executable, "-c", program], 15.0)
    module.run(late, tmp_path, left_s=1.0)
    assert late.result == "not run"
    lacking = module.Step("training", [sys.executable, "-c", ""], 15.0)
    module.NEEDS["training"] = "no_such_package"
    module.run(lacking, tmp_path, left_s=60.0)
    assert (lacking.result, lacking.figures) == ("left out", "no_such_package is not installed")


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
