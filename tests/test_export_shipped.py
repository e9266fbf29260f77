"""Shipped models hold in fp16 (50 dB) and int8 (40 dB) against their own float32 output, or the export refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("onnx")

from apisr.core.errors import ApisrError
from apisr.image import read_rgb
from apisr.weights import list_models, resolve_model
from apisr.weights.convert import PRECISIONS, convert_file, drawn_pictures
from apisr.weights.export import run_onnx

SIDE_PX = 96
#: 8 bits are too few for a context branch and for attention (about 38 dB): the export must refuse.
#: A channel of GRL's last group reaches 83,000 before the closing norm: more than 16 bits hold (65,504).
REFUSED = {
    "int8": {
        "apisr-x4-vivid",
        "apisr-x4-max",
        "apisr-x4-max-vivid",
        "apisr-x2-fast",
        "apisr-x2-fast-vivid",
        "apisr-x4-fast",
        "apisr-x4-fast-vivid",
        "grl-x4",
        "grl-x4-vivid",
    },
    "fp16": {"grl-x4", "grl-x4-vivid"},
}
#: At 40.2 dB here, where 40 are asked for: processors differ by more.
BORDERLINE = {("apisr-x4", "int8")}


@contextlib.contextmanager
def refused(code: str) -> Iterator[None]:
    """The block ends in an error of this code."""
    with pytest.raises(ApisrError) as caught:
        yield
    assert caught.value.code == code, str(caught.value)


def crops(folder: Path) -> list[NDArray[np.float32]]:
    """The middle of every third validation picture, (3, side, side) in [0, 1]."""
    result: list[NDArray[np.float32]] = []
    for path in sorted(folder.glob("*.png"))[::3]:
        pixels = read_rgb(path)
        height, width = pixels.shape[:2]
        top, left = (height - SIDE_PX) // 2, (width - SIDE_PX) // 2
        part = pixels[top : top + SIDE_PX, left : left + SIDE_PX].astype(np.float32) / 255
        result.append(np.ascontiguousarray(part.transpose(2, 0, 1)))
    return result


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize("name", [model.name for model in list_models()])
def test_precisions_hold(name: str, precision: str, shared: Path, tmp_path: Path) -> None:
    model = next(model for model in list_models() if model.name == name)
    pictures = crops(shared / "data" / "val" / f"clean_x{model.scale}")
    assert len(pictures) >= 6
    if (name, precision) in BORDERLINE:
        try:
            report = convert_file(model, tmp_path / "out.onnx", precision=precision, pictures=pictures)
        except ApisrError as error:
            if error.code != "precision-not-accurate":
                raise
        else:
            assert report.psnr_db >= PRECISIONS[precision]
        return
    if name in REFUSED[precision]:
        with refused("precision-not-accurate"):
            convert_file(model, tmp_path / "out.onnx", precision=precision, pictures=pictures)
        return
    report = convert_file(model, tmp_path / "out.onnx", precision=precision, pictures=pictures)
    assert report.psnr_db >= PRECISIONS[precision]
    assert report.size_bytes < 4 * model.card["parameters"]  # what its weights take in float32, however it is stored


@pytest.mark.parametrize("name", [model.name for model in list_models()])
def test_openvino_computes_the_same(name: str) -> None:
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed")
    model = next(model for model in list_models() if model.name == name)
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(str(model.path), "CPU", settings)
    for height, width in ((64, 64), (48, 56)):
        picture = np.stack(drawn_pictures(1, side=64, multiple=8))[:, :, :height, :width].copy()
        np.testing.assert_allclose(compiled(picture)[0], run_onnx(model.path, picture), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "multiple"), [("apisr-x2", 1), ("apisr-x4-max", 1), ("apisr-x4-fast", 8), ("grl-x4", 8)]
)
def test_files_are_what_vs_mlrt_asks_for(name: str, multiple: int) -> None:
    """One input and one output, float32 RGB, batch and size free; the page of other programs says the multiples."""
    model = resolve_model(name)
    session = onnxruntime.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    (entry,), (result,) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type, entry.shape[1]) == ("input", "tensor(float)", 3)
    assert (result.name, result.type, result.shape[1]) == ("output", "tensor(float)", 3)
    assert all(isinstance(entry.shape[axis], str) for axis in (0, 2, 3))
    assert model.traits.multiple_px == multiple
    height, width = (40, 48) if multiple > 1 else (33, 47)
    picture = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    (large,) = session.run(None, {"input": picture})
    assert large.shape == (1, 3, model.scale * height, model.scale * width)
