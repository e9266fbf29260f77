"""The mean of flips: what it is, that cutting and reuse do not change it, and where it can be asked for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import apisr as package
from apisr import metrics
from apisr.engines import ModelTraits, open_engine
from apisr.engines.tta import TtaEngine
from apisr.evaluate import EvaluateOptions, evaluate
from apisr.image import read_rgb, to_float, write_picture
from apisr.upscale import upscale_pixels
from apisr.upscale.jobs import plan_jobs, run_jobs
from apisr.upscale.options import UpscaleOptions
from apisr.upscale.reuse import CanvasUpscaler
from apisr.upscale.tiles import rim_of, run_window
from apisr.weights import choose_model

MODELS = Path(__file__).parent / "data" / "models"
EXAMPLES = Path(__file__).parent.parent / "examples"


class Column:
    """Brightens the first column of what it is given: says which way a picture lay."""

    name = "column"
    shape_exact = True

    def __init__(self, fixed_size: tuple[int, int] | None = None) -> None:
        self.traits = ModelTraits(1, halo_px=0, fixed_size=fixed_size)
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape[2:])
        output = batch.copy()
        output[..., 0] += 8
        return output


def test_every_side_is_the_first_twice() -> None:
    column = Column()
    output = TtaEngine(column).run(np.zeros((1, 3, 3, 4), np.float32))
    assert sorted(column.shapes) == [(3, 4)] * 4 + [(4, 3)] * 4
    np.testing.assert_array_equal(output[0, 0], [[4, 2, 2, 4], [2, 0, 0, 2], [4, 2, 2, 4]])


def test_windows_of_one_oblong_size_are_not_turned() -> None:
    column = Column((3, 4))
    ensemble = TtaEngine(column)
    output = ensemble.run(np.zeros((1, 3, 3, 4), np.float32))
    assert column.shapes == [(3, 4)] * 4
    np.testing.assert_array_equal(output[0, 0], [[4, 0, 0, 4]] * 3)
    assert ensemble.name == "column, mean of 4 flips"
    assert TtaEngine(Column((4, 4))).name == "column, mean of 8 flips"


def test_the_result_turns_with_the_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 65536, (20, 26, 3)).astype(np.uint16)
    for tta, tolerance in ((True, 1), (False, None)):
        engine = open_engine(MODELS / "tiny-x2.onnx", device="cpu", tta=tta)
        turned = upscale_pixels(np.ascontiguousarray(np.rot90(picture)[:, ::-1]), engine).astype(int)
        difference = np.abs(turned - np.rot90(upscale_pixels(picture, engine))[:, ::-1]).max()
        assert difference <= tolerance if tolerance is not None else difference > 100


@pytest.mark.parametrize("name", ["tiny-x2", "tiny-x4-unshuffled", "tiny-lite"])
@settings(deadline=None, max_examples=15)
@given(height=st.integers(1, 60), width=st.integers(1, 60), tile=st.integers(8, 40))
def test_tiled_equals_whole(name: str, height: int, width: int, tile: int) -> None:
    engine = open_engine(MODELS / f"{name}.onnx", device="cpu", threads=1, tta=True)
    pixels = np.random.default_rng(height).integers(0, 65536, (height, width, 3)).astype(np.uint16)
    rim, scale = rim_of(engine.traits), engine.traits.scale
    continued = np.pad(to_float(pixels), ((rim, rim), (rim, rim), (0, 0)), mode="edge")
    inner = slice(scale * rim, -scale * rim)
    whole = np.clip(run_window(engine, continued)[inner, inner] * 65535, 0, 65535)
    tiled = upscale_pixels(pixels, engine, tile_px=tile)
    assert np.abs(whole - tiled).max() <= 1.5


def test_exact_reuse_stays_exact() -> None:
    engine = open_engine(MODELS / "tiny-x2.onnx", device="cpu", tta=True)
    frame = np.random.default_rng(1).integers(0, 256, (90, 134, 3)).astype(np.uint8)
    moved = frame.copy()
    moved[40:52, 60:81] = 7
    reusing, computing = CanvasUpscaler(engine, reuse="exact"), CanvasUpscaler(engine, reuse="off")
    for shown in (frame, moved, moved, frame):
        np.testing.assert_array_equal(reusing.process(shown), computing.process(shown))
    assert reusing.stats.computed_px < 0.6 * computing.stats.computed_px


@pytest.mark.parametrize("name", ["apisr-x2-fast", "apisr-x4-fast"])
def test_shipped_models_come_closer_to_the_truth(name: str) -> None:
    truth = read_rgb(EXAMPLES / "scene.png")
    model = choose_model(name)
    truth = truth[: truth.shape[0] // model.scale * model.scale, : truth.shape[1] // model.scale * model.scale]
    low = truth.reshape(truth.shape[0] // model.scale, model.scale, -1, model.scale, 3).mean((1, 3)).round()
    scores = [
        metrics.psnr(upscale_pixels(low.astype(np.uint8), open_engine(model, tta=tta)), truth) for tta in (False, True)
    ]
    assert scores[0] < scores[1] < scores[0] + 1


#: The engine that the network itself is opened with here; by itself a command takes the fastest of this machine.
FIXED = ("--engine", "onnx", "--precision", "fp32")


def test_where_it_can_be_asked_for(apisr: Run, tmp_path: Path, tiny_x2: Path) -> None:
    picture = np.random.default_rng(2).integers(0, 256, (14, 22, 3)).astype(np.uint8)
    wanted = upscale_pixels(picture, open_engine(tiny_x2, device="cpu", tta=True))
    plain = upscale_pixels(picture, open_engine(tiny_x2, device="cpu"))
    assert not np.array_equal(wanted, plain)
    np.testing.assert_array_equal(package.load(tiny_x2, device="cpu", tta=True)(picture), wanted)
    write_picture(tmp_path / "in" / "a.png", picture)
    made = tmp_path / "out"
    done = apisr("upscale", tmp_path / "in", "-o", made, "--model", tiny_x2, "--tta", *FIXED)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_rgb(made / "a.png"), wanted)
    options = UpscaleOptions(model=tiny_x2, tta=True, engine="onnx", precision="fp32")
    run_jobs(plan_jobs([tmp_path / "in"], tmp_path / "again", options).jobs, options)
    np.testing.assert_array_equal(read_rgb(tmp_path / "again" / "a.png"), wanted)
    result = evaluate(
        tmp_path / "in", reference=made, model=tiny_x2, options=EvaluateOptions(metrics=["psnr"], tta=True)
    )
    assert result.report.model is not None
    assert "mean of 8 flips" in result.report.model.engine
    done = apisr("evaluate", made, "--reference", made, "-o", tmp_path / "report", "--tta")
    assert done.returncode == 2
    assert "--tta" in done.stderr
    assert "--model" in done.stderr


def test_a_video_and_what_an_unfinished_one_belongs_to(apisr: Run, tmp_path: Path, tiny_x2: Path) -> None:
    plain, flipped = (open_engine(tiny_x2, device="cpu", tta=tta).name for tta in (False, True))
    assert plain != flipped  # part of the identity of a run: it is not continued with the other
    for option in ([], ["--tta"]):
        target = tmp_path / f"{len(option)}.mkv"
        done = apisr("upscale", EXAMPLES / "clip.mkv", "-o", target, "-m", tiny_x2, *option, "--end", "0.2", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["files"][0]["result"]["frames_out"] > 3
    first, second = ((tmp_path / f"{count}.mkv").read_bytes() for count in (0, 1))
    assert first != second
