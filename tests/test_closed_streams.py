"""Standard output and error that are closed: nothing fails for it but the result that was asked for there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apisr.core.stderr import diverted_stderr
from apisr.image import read_picture, write_picture


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    write_picture(path, np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8))
    return path


def run(line: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    command = f"'{sys.executable}' -m apisr {line}"
    return subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=180, check=False)


def test_a_closed_standard_error_stops_no_upscale(picture: Path, tiny_x2: Path) -> None:
    done = run(f"upscale a.png -o b.png -m '{tiny_x2}' --json 2>&-", folder=picture.parent)
    assert done.returncode == 0
    assert '"files"' in done.stdout
    assert read_picture(picture.with_name("b.png")).pixels.shape == (40, 60, 3)


def test_a_closed_standard_error_stops_no_doctor(tmp_path: Path) -> None:
    done = run("doctor --json 2>&-", folder=tmp_path)
    assert done.returncode == 0
    assert "ncnn" in done.stdout


def test_no_file_takes_the_place_of_a_closed_stream(picture: Path) -> None:
    code = (
        "import os; from apisr.core.stderr import fill_closed_streams; fill_closed_streams(); "
        "opened = os.open('a.png', os.O_RDONLY); os.write(2, b'a word of a library'); raise SystemExit(opened)"
    )
    command = f"'{sys.executable}' -c \"{code}\" <&- >&- 2>&-"
    ran = subprocess.run(["bash", "-c", command], cwd=picture.parent, timeout=60, check=False)
    assert ran.returncode == 3


def test_a_diverted_standard_error_without_a_stream_of_python(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with (tmp_path / "log").open("wb") as log, diverted_stderr(log):
        os.write(2, b"away")
    os.write(2, b"here")
    assert (tmp_path / "log").read_bytes() == b"away"
    assert capfd.readouterr().err == "here"


@pytest.mark.parametrize("line", ["models --json", "config --json", "models show apisr-x2 --json"])
def test_a_result_that_nobody_gets_is_a_failure(tmp_path: Path, line: str) -> None:
    done = run(f"{line} >&-", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("apisr: error: cannot write the result: standard output is closed.")
    assert done.stderr.count("\n") == 1


def test_an_upscale_whose_report_nobody_gets_is_a_failure(picture: Path, tiny_x2: Path) -> None:
    line = f"upscale a.png -o b.png -m '{tiny_x2}' --engine onnx --quiet"
    done = run(f"{line} --json >&-", folder=picture.parent)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "standard output is closed" in done.stderr
    assert run(f"{line} --overwrite >&-", folder=picture.parent).returncode == 0
