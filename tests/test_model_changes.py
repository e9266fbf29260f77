"""A model file that is replaced between a kill and its resumption, or within a run: two models are never mixed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Run
from error_codes import raises_code
from make_tiny_models import MODELS
from video_clips import make_clip

from apisr.core.files import sha256_file
from apisr.engines import open_engine
from apisr.engines.registry import engine_kind
from apisr.image import read_picture, write_picture
from apisr.networks import architecture
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.models import Networks
from apisr.upscale.options import UpscaleOptions, VideoOptions
from apisr.upscale.recipe import NetworkRecipe
from apisr.weights import resolve_model
from apisr.weights.checkpoint import save_network
from apisr.weights.derived import as_onnx
from apisr.weights.export import export_onnx

FRAMES = 40
#: Runs a video or a folder, and kills itself like a power cut once enough is done.
KILLED = """
import os, signal, sys
from pathlib import Path
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions, VideoOptions
model, source, target, unit, enough = sys.argv[1:]
video = VideoOptions(codec="ffv1", segment_frames=10) if unit == "frames" else VideoOptions()
options = UpscaleOptions(model=model, engine="onnx", device="cpu", threads=1, video=video)
ended = 0

def progress(event):
    global ended
    ended += event.kind == "ended"
    if (event.done if unit == "frames" and event.unit == "frames" else ended if unit == "files" else 0) >= int(enough):
        os.kill(os.getpid(), signal.SIGKILL)

run_jobs(plan_jobs([Path(source)], Path(target), options).jobs, options, progress=progress)
"""


def tiny(path: Path, seed: int) -> Path:
    """Write a network with weights of its own: files of two seeds have one size."""
    kind, hyper = MODELS["tiny-x2"]
    torch.manual_seed(seed)
    network = architecture(kind)
    card = {"name": "mine", "architecture": kind, "hyper": hyper, "license": "Apache-2.0"}
    export_onnx(network.build(hyper), path, traits=network.traits(hyper), card=card, overwrite=True)
    return path


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path]:
    """A model and another of the same size; the first is the one that runs name."""
    (tmp_path / "m").mkdir()
    first, second = tiny(tmp_path / "m" / "mine.onnx", 1), tiny(tmp_path / "m" / "other.onnx", 2)
    assert first.stat().st_size == second.stat().st_size
    assert sha256_file(first) != sha256_file(second)
    return first, second


def options_of(model: Path, *, pictures: bool = False) -> UpscaleOptions:
    video = VideoOptions() if pictures else VideoOptions(codec="ffv1", segment_frames=10)
    return UpscaleOptions(model=model, engine="onnx", device="cpu", threads=1, video=video)


def killed(model: Path, source: Path, target: Path, unit: str, enough: int) -> None:
    arguments = [sys.executable, "-c", KILLED, model, source, target, unit, str(enough)]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr


def frame_hashes(path: Path) -> list[str]:
    """MD5 of every frame by ffmpeg."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-f", "framemd5", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.rpartition(",")[2].strip() for line in lines if not line.startswith("#")]


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_segments_of_two_models_are_never_joined(tmp_path: Path, models: tuple[Path, Path], apisr: Run) -> None:
    model, other = models
    source, target = make_clip(tmp_path / "in.mkv", frames=FRAMES, options={"g": "5"}), tmp_path / "out.mkv"
    run_jobs(plan_jobs([source], tmp_path / "whole.mkv", options_of(model)).jobs, options_of(model))
    killed(model, source, target, "frames", 25)
    first = model.read_bytes()
    shutil.copyfile(other, model)
    command = ["upscale", source, "-o", target, "--model", model, "--engine", "onnx", "--device", "cpu"]
    refused = apisr(*command, "--codec", "ffv1")
    assert (refused.returncode, refused.code) != (0, "")
    assert not target.exists()
    (result,) = run_jobs(plan_jobs([source], target, options_of(model)).jobs, options_of(model))
    assert (result.status, result.code) == ("failed", "other-settings")
    assert "model" in result.message
    assert not target.exists()
    model.write_bytes(first)
    (result,) = run_jobs(plan_jobs([source], target, options_of(model)).jobs, options_of(model))
    assert result.status == "done"
    assert result.result is not None
    assert result.result.resumed_frames > 0
    assert frame_hashes(target) == frame_hashes(tmp_path / "whole.mkv")
    assert len(frame_hashes(target)) == FRAMES


@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_pictures_of_the_former_model_are_not_taken_for_those_of_the_new_one(
    tmp_path: Path, models: tuple[Path, Path]
) -> None:
    model, other = models
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        write_picture(tmp_path / "in" / f"{number}.png", pixels)
    killed(model, tmp_path / "in", tmp_path / "out", "files", 2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").glob("*.png")}
    assert 2 <= len(before) < 4
    shutil.copyfile(other, model)
    options = options_of(model, pictures=True)
    results = run_jobs(plan_jobs([tmp_path / "in"], tmp_path / "out", options).jobs, options)
    told = {result.source.name: (result.status, result.code) for result in results}
    assert {name for name, said in told.items() if said == ("failed", "output-exists")} == set(before)
    assert {name for name, said in told.items() if said[0] == "done"} == {f"{n}.png" for n in range(4)} - set(before)
    assert {name: (tmp_path / "out" / name).read_bytes() for name in before} == before


def test_a_file_that_is_replaced_before_it_is_loaded_is_refused(tmp_path: Path, models: tuple[Path, Path]) -> None:
    model, other = models
    options = options_of(model)
    networks = Networks(options)
    chosen = networks.model_for()
    shutil.copyfile(other, model)
    with raises_code("model-changed"):
        networks.engine(chosen)
    with raises_code("model-changed"):
        NetworkRecipe.of(chosen, options)
    model.unlink()
    with raises_code("model-changed"):
        chosen.check_unchanged()


def test_a_run_whose_model_is_replaced_after_its_plan_makes_nothing(tmp_path: Path, models: tuple[Path, Path]) -> None:
    """The record of a video, and the mark in its output, would name the former model."""
    model, other = models
    source = make_clip(tmp_path / "in.mkv", frames=6)
    options = options_of(model)
    networks = Networks(options)
    networks.model_for(source and 48, video=True)
    shutil.copyfile(other, model)
    with raises_code("model-changed"):
        run_jobs(plan_jobs([source], tmp_path / "out.mkv", options).jobs, options, networks=networks)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "m"]


def test_nothing_of_another_file_is_kept_under_the_name_of_the_first(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX files made of checkpoints are kept by the SHA-256 of the checkpoint."""
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    kind, hyper = MODELS["tiny-x2"]
    path = tmp_path / "mine.safetensors"
    for seed in (2, 1):
        torch.manual_seed(seed)
        save_network(architecture(kind).build(hyper), path, kind, hyper, card={"name": "mine"}, overwrite=True)
        if seed == 2:
            second = path.read_bytes()
    first = path.read_bytes()
    model = resolve_model(path)
    path.write_bytes(second)
    with raises_code("model-changed"):
        as_onnx(model)
    path.write_bytes(first)
    picture = np.random.default_rng(0).integers(0, 256, (16, 16, 3)).astype(np.uint8)
    write_picture(tmp_path / "a.png", picture)
    expected = open_engine(resolve_model(path), engine="torch", device="cpu")
    kept = open_engine(as_onnx(model), engine="onnx", device="cpu")
    values = read_picture(tmp_path / "a.png").pixels.astype(np.float32).transpose(2, 0, 1)[None] / 255
    np.testing.assert_allclose(kept.run(values), expected.run(values), atol=1e-4)


@pytest.mark.skipif("cpu" not in engine_kind("openvino").devices(), reason="no openvino")
def test_no_engine_keeps_anything_of_a_replaced_file(
    tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APISR_CACHE", str(tmp_path / "cache"))
    model, other = models
    chosen = resolve_model(model)
    shutil.copyfile(other, model)
    for engine in ("openvino", "auto"):
        with raises_code("model-changed"):
            open_engine(chosen, engine=engine, device="cpu", precision="fp32")
    assert not list((tmp_path / "cache").rglob("*.json")), "no measurement is kept under its name"
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".blob", ".xml", ".bin")]
