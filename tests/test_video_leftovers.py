"""What a killed worker of a cluster leaves on its machine is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from apisr.core.worker_folder import WorkerFolder, remove_abandoned_folders

HOLD = """
import sys, time
from pathlib import Path
from apisr.core.locks import take_lock
lock = take_lock(Path(sys.argv[1]), busy="")
print("held", flush=True)
time.sleep(120)
"""


def make_old(path: Path) -> None:
    an_hour_ago = time.time() - 3600
    os.utime(path / "in-use", (an_hour_ago, an_hour_ago))


def folder(path: Path, *, mark: bool) -> Path:
    path.mkdir()
    (path / "source.mkv").write_bytes(b"a copy of the source")
    if mark:
        (path / "in-use").touch()
        make_old(path)
    return path


def test_folders_of_killed_workers_are_removed_and_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    working = folder(tmp_path / "apisr-segments-working", mark=True)
    killed = folder(tmp_path / "apisr-segments-killed", mark=True)
    starting = folder(tmp_path / "apisr-segments-starting", mark=True)
    (starting / "in-use").touch()
    unmarked = folder(tmp_path / "apisr-segments-unmarked", mark=False)
    foreign = folder(tmp_path / "foreign", mark=True)
    (tmp_path / "apisr-segments-link").symlink_to(foreign)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(working / "in-use")], stdout=subprocess.PIPE, text=True
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "held\n"
        remove_abandoned_folders("apisr-segments-")
        assert not killed.exists()
        assert (working / "source.mkv").is_file()
        worker.kill()
        worker.wait()
    remove_abandoned_folders("apisr-segments-")
    assert not working.exists()
    assert (starting / "source.mkv").is_file(), "its lock file is new: a worker may be about to take the lock"
    assert (unmarked / "source.mkv").is_file()
    assert (foreign / "source.mkv").is_file()


def test_a_worker_removes_its_folder_and_what_killed_workers_of_its_kind_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    killed = folder(tmp_path / "apisr-pictures-killed", mark=True)
    other_kind = folder(tmp_path / "apisr-segments-killed", mark=True)
    mine = WorkerFolder("apisr-pictures-")
    also_mine = WorkerFolder("apisr-pictures-")
    assert not killed.exists()
    assert other_kind.is_dir()
    assert mine.path.parent == tmp_path
    (mine.path / "in.png").write_bytes(b"a picture")
    mine.remove()
    mine.remove()
    assert not mine.path.exists()
    assert also_mine.path.is_dir()
    also_mine.remove()
    assert not also_mine.path.exists()


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
