"""An interrupted video goes on in the engine and precision that it began in, whatever is the fastest now."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from video_clips import make_clip

from apisr import upscale
from apisr.core.progress import Cancel, Progress
from apisr.engines import choice, engine_kind
from apisr.engines.registry import candidate_requests, name_parts
from apisr.upscale.options import UpscaleOptions, VideoOptions
from apisr.weights import resolve_model
from apisr.weights.sealing import sealed

MODEL = "apisr-x2-fast"
OPTIONS = UpscaleOptions(
    model=MODEL, source="crisp", device="cpu", threads=1, video=VideoOptions(codec="ffv1", segment_frames=10)
)
pytestmark = pytest.mark.skipif(
    "cpu" not in engine_kind("openvino").devices()
    or "int8" not in engine_kind("openvino").precisions("cpu", resolve_model(MODEL)),
    reason="no openvino, or one without int8: there is one precision only",
)


def make_fastest(cache: Path, precision: str) -> None:
    """Change the kept table of engines, as another moment of the machine could have."""
    model = resolve_model(MODEL)
    candidates = candidate_requests(model, engine="auto", device="cpu", precision="auto", threads=1)
    choice.measured(list(candidates))
    (path,) = [found for found in cache.rglob("*.json") if "measurements" in found.read_text()]
    content = json.loads(path.read_text())
    for entry in content["measurements"]:
        wins = (entry["engine"], entry["precision"]) == ("openvino", precision)
        entry |= {"mpx_per_s": 1000.0 if wins else 1.0, "psnr_db": 100.0}
    path.write_text(json.dumps(sealed(content, entry=choice.SHA256)))


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]


def interrupted(source: Path, target: Path) -> None:
    cancel = Cancel()

    def progress(event: Progress) -> None:
        if event.unit == "frames" and event.done >= 35:
            cancel.request()

    (result,) = upscale([source], target, options=OPTIONS, progress=progress, cancel=cancel)
    assert result.status == "cancelled"
    assert not target.exists()


def test_a_continued_video_keeps_its_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    source = make_clip(tmp_path / "in.mkv", frames=60, options={"g": "5"})
    make_fastest(tmp_path / "cache", "int8")
    upscale([source], tmp_path / "whole.mkv", options=OPTIONS)
    interrupted(source, tmp_path / "out.mkv")
    make_fastest(tmp_path / "cache", "fp32")
    (result,) = upscale([source], tmp_path / "out.mkv", options=OPTIONS)
    assert result.result is not None
    assert result.result.resumed_frames > 0
    upscale([source], tmp_path / "exact.mkv", options=OPTIONS)
    whole, continued, exact = (frames_of(tmp_path / f"{name}.mkv") for name in ("whole", "out", "exact"))
    assert len(whole) == len(continued) == 60
    for one, other in zip(whole, continued, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(not np.array_equal(one, other) for one, other in zip(whole, exact, strict=True))


def test_another_precision_that_is_asked_for_is_not_mixed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    source = make_clip(tmp_path / "in.mkv", frames=60, options={"g": "5"})
    make_fastest(tmp_path / "cache", "int8")
    interrupted(source, tmp_path / "out.mkv")
    (result,) = upscale([source], tmp_path / "out.mkv", options=replace(OPTIONS, precision="fp32"))
    assert (result.status, result.code) == ("failed", "other-settings")
    restarted = replace(OPTIONS, precision="fp32", video=replace(OPTIONS.video, restart=True))
    (result,) = upscale([source], tmp_path / "out.mkv", options=restarted)
    assert result.status == "done"
    assert result.result is not None
    assert result.result.resumed_frames == 0


def test_names_of_engines_say_what_runs() -> None:
    assert name_parts("openvino (cpu, int8)") == ("openvino", "cpu", "int8")
    assert name_parts("torch (cuda:1, fp16), mean of 4 flips") == ("torch", "cuda:1", "fp16")
    assert name_parts("nearest") is None
