"""Metrics of pyiqa: those that need no weights run; those whose weights cannot be had are absent, with the reason."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from curate_clips import scene, short_film

from apisr.curate.manifest import read_manifest
from apisr.image import write_picture

pytest.importorskip("pyiqa", reason="the extra 'eval' (pyiqa) is not installed")


@pytest.fixture
def offline(tmp_path: Path) -> dict[str, str]:
    """An environment with empty caches, from which no server can be reached."""
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    caches = {"HF_HOME": str(tmp_path / "hf"), "TORCH_HOME": str(tmp_path / "torch"), "HF_HUB_OFFLINE": "1"}
    return {**os.environ, **nowhere, **caches}


def test_without_weights_a_metric_is_absent_with_its_reason(
    apisr: Run, tmp_path: Path, offline: dict[str, str]
) -> None:
    for number in range(2):
        truth = scene(number, width=256, height=240)
        noise = np.random.default_rng(number).integers(-6, 7, truth.shape)
        write_picture(tmp_path / "truth" / f"{number}.png", truth)
        write_picture(tmp_path / "out" / f"{number}.png", (truth + noise).clip(0, 255).astype(np.uint8))
    names = "maniqa-koniq,clipiqa,lpips,psnr,gmsd,piqe"
    command = ["evaluate", tmp_path / "out", "--reference", tmp_path / "truth", "--metrics", names, "-q"]
    made = apisr(*command, "-o", tmp_path / "report", env=offline)
    assert made.returncode == 0, made.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert set(report["absent"]) == {"maniqa-koniq", "clipiqa", "lpips"}
    assert set(report["summary"]) == {"psnr", "gmsd", "piqe"}  # these need no weights
    for name, reason in report["absent"].items():
        assert "could not load" in reason
        assert f"{name}: absent, pyiqa could not load its weights" in made.stderr
    assert 0 < report["summary"]["gmsd"]["mean"] < 0.2
    assert all(set(picture["values"]) == {"psnr", "gmsd", "piqe"} for picture in report["pictures"])


def test_curation_by_a_metric_of_pyiqa(apisr: Run, tmp_path: Path, offline: dict[str, str]) -> None:
    film = short_film(tmp_path / "a.mkv", 1)
    options = ["--count", 2, "--distance", 0.3, "--height", "keep", "-q"]
    made = apisr("curate", film, "-o", tmp_path / "set", "--score", "piqe", *options, env=offline)
    assert made.returncode == 0, made.stderr
    rows = read_manifest(tmp_path / "set")[0]
    assert [row.score_name for row in rows] == ["piqe"] * 2
    assert all(-100 <= row.score < 0 for row in rows)  # PIQE is better when lower: it is turned round
    absent = apisr("curate", film, "-o", tmp_path / "other", "--score", "brisque", *options, env=offline)
    assert absent.returncode == 2
    assert absent.code == "no-weights"
    unknown = apisr("curate", film, "-o", tmp_path / "other", "--score", "nothing", *options, env=offline)
    assert unknown.returncode == 2
    assert unknown.code == "unknown-metric"
    assert not (tmp_path / "other").exists()
