"""A pyiqa that is there without all that it needs: one line, or a metric that is absent with its reason."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Run

from apisr.image import write_picture
from apisr.metrics.registry import open_metric

NEEDED = "not_on_any_machine"


@pytest.fixture
def broken_pyiqa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package called pyiqa that imports another one, which is not installed."""
    (tmp_path / "packages" / "pyiqa").mkdir(parents=True)
    (tmp_path / "packages" / "pyiqa" / "__init__.py").write_text(f"import {NEEDED}\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    write_picture(tmp_path / "out" / "a.png", pixels)
    write_picture(tmp_path / "truth" / "a.png", pixels // 2)
    return tmp_path


@pytest.mark.usefixtures("broken_pyiqa")
def test_a_metric_that_was_asked_for_is_one_line(apisr: Run, pictures: Path) -> None:
    command = ["evaluate", pictures / "out", "--reference", pictures / "truth", "-o", pictures / "report"]
    done = apisr(*command, "--metrics", "lpips,psnr")
    assert (done.returncode, done.code) == (2, "missing-extra")
    assert done.stderr.count("\n") == 1
    assert NEEDED in done.stderr
    assert "pip install" in done.stderr


@pytest.mark.usefixtures("broken_pyiqa")
def test_metrics_of_a_protocol_are_absent_with_their_reason(apisr: Run, pictures: Path) -> None:
    done = apisr("evaluate", pictures / "out", "--protocol", "paper", "-o", pictures / "report")
    assert done.returncode == 0, done.stderr
    absent = json.loads((pictures / "report" / "report.json").read_text(encoding="utf-8"))["absent"]
    learned = {name: reason for name, reason in absent.items() if name != "niqe"}  # the picture is too small for it
    assert "maniqa-koniq" in learned
    assert all(NEEDED in reason for reason in learned.values()), learned


@pytest.mark.usefixtures("broken_pyiqa")
def test_a_mistyped_name_is_still_recognised() -> None:
    with pytest.raises(Exception, match="Did you mean 'psnr'"):
        open_metric("pnsr")
