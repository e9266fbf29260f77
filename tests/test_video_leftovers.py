"""What a killed worker of a cluster leaves on its machine is removed by the next one, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import tempfile
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
