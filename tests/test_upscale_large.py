"""The large model: taken for a single picture that it makes within half a minute here, and for nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import apisr
from apisr.image import open_picture, write_picture
from apisr.upscale.models import PATIENCE_S, Networks
from apisr.upscale.options import UpscaleOptions
from apisr.weights import list_models, resolve_model

OPTIONS = UpscaleOptions(scale=4, engine="onnx", device="cpu", precision="fp32")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(3)
    write_picture(path, rng.integers(0, 256, (24, 40, 3), dtype=np.uint8))
    return path


def chosen(options: UpscaleOptions, *, files: int = 1, many: bool = False, pixels: int = 960) -> str:
    networks = Networks(options, many=many)
    networks.expect(files)
    return networks.model_for(24, lambda: 1.0, pixels=pixels).name


def test_a_single_small_picture_gets_the_large_model() -> None:
    assert chosen(OPTIONS) == "apisr-x4-max"
    assert all(
        resolve_model(str(model.card["large_twin"])).scale == model.scale
        for model in list_models()
        if "large_twin" in model.card
    )


def test_many_or_large_pictures_and_what_is_named_do_not() -> None:
    assert chosen(OPTIONS, files=2) == "apisr-x4"
    assert chosen(OPTIONS, many=True) == "apisr-x4"
    assert chosen(replace(OPTIONS, cluster="auto")) == "apisr-x4"  # its machines are not measured
    assert chosen(OPTIONS, pixels=int(PATIENCE_S * 1e9)) == "apisr-x4"
    assert chosen(UpscaleOptions(scale=4, model="apisr-x4-fast", source="crisp")) == "apisr-x4-fast"
    assert chosen(UpscaleOptions(scale=2)) == "apisr-x2"
    video = Networks(OPTIONS)
    video.expect(1)
    assert video.model_for(24, lambda: 1.0, video=True, pixels=960).name != "apisr-x4-max"


def test_the_result_says_which_and_the_next_run_knows_it(picture: Path, tmp_path: Path) -> None:
    (plan,) = apisr.plan(picture, tmp_path / "out.png", options=OPTIONS).files
    (made,) = apisr.upscale(picture, tmp_path / "out.png", options=OPTIONS)
    assert made.result is not None
    assert plan.model == made.result.model
    assert plan.model.partition(",")[0] == "apisr-x4-max"
    assert any("apisr-x4-max" in notice for notice in plan.notices)
    with open_picture(tmp_path / "out.png") as output:
        assert (output.info.height, output.info.width) == (96, 160)
    (again,) = apisr.upscale(picture, tmp_path / "out.png", options=OPTIONS)
    assert again.status == "skipped"
