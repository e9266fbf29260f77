"""The libraries below report nothing to their makers: no file in the home folder, no socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import numpy as np
from apisr.engines import ENGINES, engine_kind, open_engine
for name in ENGINES:
    if "cpu" in engine_kind(name).devices():
        open_engine({model!r}, engine=name, device="cpu").run(np.zeros((1, 3, 32, 32), np.float32))
        print(name)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="strace is a program of Linux")
def test_nothing_is_written_at_home_and_no_socket_is_opened(tmp_path: Path, tiny_x2: Path) -> None:
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    home = tmp_path / "home"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ORT_"))}
    environment = {**kept, "HOME": str(home), "APISR_CACHE": str(tmp_path / "cache")}
    log = tmp_path / "calls"
    done = subprocess.run(
        [
            strace,
            "-f",
            "-e",
            "trace=socket,connect",
            "-o",
            str(log),
            sys.executable,
            "-c",
            CODE.format(model=str(tiny_x2)),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "onnx" in done.stdout.split()
    assert list(home.iterdir()) == []
    calls = [line for line in log.read_text().splitlines() if "socket(" in line or "connect(" in line]
    assert [line for line in calls if "AF_UNIX" not in line] == []
