"""What a killed worker of a cluster leaves on its machine is removed by the next one, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from apisr.upscale.video.remote import remove_abandoned_folders

HOLD = """
import sys, time
from pathlib import Path
from apisr.core.locks import take_lock
lock = take_lock(Path(sys.argv[1]), busy="")
print("held", flush=True)
time.sleep(120)
"""


def folder(path: Path, *, mark: bool) -> Path:
    path.mkdir()
    (path / "source.mkv").write_bytes(b"a copy of the source")
    if mark:
        (path / "in-use").touch()
    return path


def test_folders_of_killed_workers_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    working = folder(tmp_path / "apisr-segments-working", mark=True)
    killed = folder(tmp_path / "apisr-segments-killed", mark=True)
    unmarked = folder(tmp_path / "apisr-segments-unmarked", mark=False)
    foreign = folder(tmp_path / "foreign", mark=True)
    (tmp_path / "apisr-segments-link").symlink_to(foreign)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(working / "in-use")], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        remove_abandoned_folders()
        assert not killed.exists()
        assert (working / "source.mkv").is_file()
        worker.kill()
        worker.wait()
    remove_abandoned_folders()
    assert not working.exists()
    assert (unmarked / "source.mkv").is_file()
    assert (foreign / "source.mkv").is_file()


KILLED_BY_RAY = """
import os, sys, time
from pathlib import Path
from apisr.core.processes import remove_with_process
remove_with_process(Path(sys.argv[1]))
print("ready", flush=True)
time.sleep(120)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_the_folder_of_a_killed_process_goes_though_its_children_are_killed_too(tmp_path: Path) -> None:
    mine = folder(tmp_path / "mine", mark=True)
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_BY_RAY, str(mine)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert children == [], "Ray kills the children of a worker before it kills the worker"
        assert mine.is_dir()
        process.kill()
        process.wait()
    deadline = time.monotonic() + 60
    while mine.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mine.exists()
