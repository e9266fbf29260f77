"""`scripts/gpu_check.py`: steps in their limits, results in one folder, and a run that goes on where it stopped."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from conftest import ROOT, Run

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for machines with Linux")


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_check", ROOT / "scripts" / "gpu_check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def run_script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "gpu_check.py"), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def summary(output: Path) -> dict[str, dict[str, object]]:
    content = json.loads((output / "summary.json").read_text(encoding="utf-8"))
    assert content["machine"]["versions"]["numpy"]
    return {step["name"]: step for step in content["steps"]}


@pytest.mark.slow
def test_a_slice_of_training_goes_on_from_shipped_weights_on_carried_shards(apisr: Run, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from apisr.weights.checkpoint import read_checkpoint

    pictures, shards, output = tmp_path / "pictures", tmp_path / "shards", tmp_path / "out"
    pictures.mkdir()
    rng = np.random.default_rng(4)
    for number in range(3):
        drawing = np.full((200, 260, 3), 210, np.uint8)
        for _ in range(20):
            corners = rng.integers(0, 260, (4, 1, 2)).astype(np.int32)
            cv2.fillPoly(drawing, [corners], [int(value) for value in rng.integers(0, 255, 3)], cv2.LINE_AA)
        cv2.imwrite(str(pictures / f"{number}.png"), drawing)
    assert apisr("shards", pictures, "-o", shards, "-d", "all=bicubic").returncode == 0

    command = (output, "--work", tmp_path / "work", "--quick", "--only", "training")
    command = (*command, "--train", "apisr-x2-fast", "--shards", shards)
    done = run_script(*command)
    assert done.returncode == 0, done.stdout + (output / "output.txt").read_text()
    step = summary(output)["training"]
    assert step["result"] == "ok"
    assert "steps/s" in str(step["figures"])
    assert summary(output)["video"]["result"] == "not reached"
    assert {path.name for path in output.iterdir()} == {
        *("summary.json", "summary.md", "output.txt", "trained.safetensors")
    }
    trained = read_checkpoint(output / "trained.safetensors").state
    assert sum(value.numel() for value in trained.values()) > 100_000

    (output / "summary.json").unlink()  # the work folder has it too
    again = run_script(*command)
    assert again.returncode == 0
    assert "training: done before" in again.stdout


def test_a_step_that_runs_over_ends_with_all_it_started(check: ModuleType, tmp_path: Path) -> None:
    places = check.Places(tmp_path / "out", tmp_path / "work")
    places.output.mkdir()
    places.work.mkdir()
    child = tmp_path / "child"
    program = f"sleep 600 & echo $! > '{child}'; echo begun; wait"
    step = check.Step("slow", ["sh", "-c", program], 600.0)
    check.FIGURES["slow"] = check.test_figures
    check.run(step, places, 3.0)
    assert step.result == "stopped"
    assert step.figures == ["begun"]
    pid = int(child.read_text())
    until = time.monotonic() + 60
    while time.monotonic() < until and _runs(pid):
        time.sleep(0.05)
    assert not _runs(pid)
    assert "=== slow: stopped" in (places.output / "output.txt").read_text()


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIG_DFL)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()


def test_what_lacks_a_package_or_time_is_named_and_left(check: ModuleType, tmp_path: Path) -> None:
    places = check.Places(tmp_path, tmp_path)
    lacking = check.Step("video", [sys.executable, "-c", ""], 100.0, ("no_such_package",))
    check.attempt(lacking, places, 100.0, quick=True)
    assert lacking.result == "left out: no_such_package not installed"
    late = check.Step("engines", [sys.executable, "-c", ""], 100.0)
    check.attempt(late, places, 1.0, quick=True)
    assert late.result == "not reached"
    failing = check.Step("engines", [sys.executable, "-c", "print('= 2 failed ='); raise SystemExit(3)"], 100.0)
    check.attempt(failing, places, 100.0, quick=True)
    assert (failing.result, failing.figures) == ("failed (3)", ["2 failed"])
    check.write_summary([lacking, late, failing], places)
    assert check.succeeded(places) == {}
    assert "| engines | failed (3) |" in (tmp_path / "summary.md").read_text()


def test_every_network_is_measured_once(tmp_path: Path) -> None:
    rows = tmp_path / "card.jsonl"
    command = [sys.executable, str(ROOT / "scripts" / "card_speed.py"), str(rows)]
    command += ["--lines", "32", "--any-device", "--models", "apisr-x2-fast"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len({(row["engine"], row["device"], row["precision"]) for row in found}) == len(found) >= 1
    assert all(row["frames_per_s"] > 0 and row["psnr_db"] > 50 for row in found)


def test_an_unknown_step_is_one_line(tmp_path: Path) -> None:
    done = run_script(tmp_path, "--only", "cards")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "card, video, training, engines, doctor, networks" in done.stderr
