"""GRL in OpenVINO: the graph that is built from the weights computes what the network computes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from apisr.engines import open_engine
from apisr.engines.base import AUTOMATIC_PSNR_DB, check_pictures, psnr_db
from apisr.engines.openvino_grl import grl_network
from apisr.weights import resolve_model

pytestmark = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")

TINY = {"features": 16, "depths": [2, 3], "tail_features": 8}


@pytest.mark.parametrize("name", ["grl-x4", "grl-x4-vivid"])
@pytest.mark.parametrize("size", [(8, 24), (64, 40)])
def test_the_shipped_networks_give_the_same_pictures_as_onnxruntime(name: str, size: tuple[int, int]) -> None:
    batch = np.random.default_rng(3).random((2, 3, *size), dtype=np.float32)
    expected = open_engine(name, engine="onnx", device="cpu").run(batch)
    found = open_engine(name, engine="openvino", device="cpu", precision="fp32").run(batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "hyper",
    [
        {**TINY, "scale": 2},
        {**TINY, "upsampler": "pixelshuffle"},
        {**TINY, "upsampler": "pixelshuffledirect", "scale": 3},
        {**TINY, "anchor_factor": 4, "heads_window": 4, "heads_stripe": 1},
        {**TINY, "window": 16, "anchor_factor": 2},
    ],
)
def test_any_size_of_the_network_is_built(hyper: dict[str, object], tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from apisr.networks import build
    from apisr.weights.checkpoint import save_network

    torch.manual_seed(0)
    module = build("grl", hyper).eval()
    path = tmp_path / "tiny.safetensors"
    save_network(module, path, "grl", hyper, card={"name": "tiny"})
    engine = open_engine(path, engine="openvino", device="cpu", precision="fp32")
    side = 2 * engine.traits.multiple_px
    batch = np.random.default_rng(4).random((1, 3, side, side + engine.traits.multiple_px), dtype=np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(engine.run(batch), expected, atol=1e-5)


def test_constants_are_those_of_the_network() -> None:
    pytest.importorskip("torch")
    from apisr.networks.grl import DEFAULTS
    from apisr.networks.grl.network import MEAN

    assert (DEFAULTS["window"], DEFAULTS["anchor_factor"], MEAN) == (8, 2, (0.4488, 0.4371, 0.4040))


def test_windows_whose_cells_do_not_fit_keep_the_exported_graph() -> None:
    model = resolve_model("grl-x4")
    assert grl_network(model.path, {"anchor_factor": 8}, 4) is None
    assert grl_network(resolve_model("apisr-x4-fast").path, {}, 4) is None
    assert grl_network(model.path, {}, 4) is not None


def test_bf16_is_exact_enough_on_pictures_of_all_kinds() -> None:
    engine = pytest.importorskip("apisr.engines.openvino").ENGINE
    if "bf16" not in engine.precisions("cpu", resolve_model("grl-x4")):
        pytest.skip("a processor without units for bf16")
    exact = open_engine("grl-x4", engine="openvino", device="cpu", precision="fp32")
    reduced = open_engine("grl-x4", engine="openvino", device="cpu", precision="bf16")
    for picture in check_pictures(64, 64):
        assert AUTOMATIC_PSNR_DB + 5 < psnr_db(reduced.run(picture), exact.run(picture)) < 200
    white = np.ones((1, 3, 32, 32), np.float32)  # a graph that is exact in its last layer only has 43.7 dB
    assert psnr_db(reduced.run(white), exact.run(white)) > AUTOMATIC_PSNR_DB - 1.5
