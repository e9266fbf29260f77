"""Shipped models on constructed pictures: brightness of flat areas, no pattern of two pixels, colours of noise.

What a person sees at once and what scores of whole pictures hide. Each network runs in float32 in onnxruntime.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("onnx")

from apisr.degrade.codecs import round_trip
from apisr.weights import Model, list_models
from apisr.weights.export import run_onnx

Picture = NDArray[np.float32]

LUMA = np.array([0.299, 0.587, 0.114])
PATCH_PX = 24
#: Weights that ship as their authors released them: what they do is measured elsewhere, not promised here.
RELEASED = {model.name for model in list_models() if "origin" in model.card and "training" not in model.card}
OURS = [model for model in list_models() if model.name not in RELEASED and model.architecture != "grl"]


def enlarged(model: Model, picture: Picture) -> Picture:
    """(H, W, 3) in [0, 1] -> (scale*H, scale*W, 3)."""
    batch = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32)
    return run_onnx(model.path, batch)[0].transpose(1, 2, 0)


def board(seed: int) -> Picture:
    """64 flat patches: a ramp of grays and random colours, in whole 8-bit levels."""
    colours = np.random.default_rng(seed).uniform(0.05, 0.95, (48, 3))
    grays = np.repeat(np.linspace(0.05, 0.95, 16)[:, None], 3, 1)
    patches = np.vstack([grays, colours]).reshape(8, 8, 3)
    return (np.round(patches.repeat(PATCH_PX, 0).repeat(PATCH_PX, 1) * 255) / 255).astype(np.float32)


def soft_edge(width_px: float) -> Picture:
    """A smooth rise from 0.2 to 0.8 from left to right."""
    rise = 0.2 + 0.6 / (1 + np.exp(-(np.arange(96) - 48) / width_px))
    return np.repeat(np.repeat(rise[None, :, None], 64, 0), 3, 2).astype(np.float32)


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_flat_areas_keep_their_brightness(model: Model, seed: int) -> None:
    """Within .3 of a level on the average of many colours that the bias was not set with."""
    picture = board(seed)
    output = enlarged(model, picture)
    scale, inner = model.scale, slice(8, 16)
    middles = output.reshape(8, PATCH_PX * scale, 8, PATCH_PX * scale, 3).swapaxes(1, 2)
    kept = middles[:, :, inner.start * scale : inner.stop * scale, inner.start * scale : inner.stop * scale]
    change = (kept.mean((2, 3)) - picture[8::PATCH_PX, 8::PATCH_PX]) * 255
    assert abs((change @ LUMA).mean()) < 0.3


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.name)
@pytest.mark.parametrize("width_px", [2.0, 4.0])
def test_blurred_edges_have_no_pattern_of_two_pixels(model: Model, width_px: float) -> None:
    """What alternates from one output column to the next stays below a quarter of a level."""
    profile = enlarged(model, soft_edge(width_px))[32:-32].mean((0, 2)) * 255
    rise = profile[32 * model.scale : 64 * model.scale]
    bend = rise[2:] - 2 * rise[1:-1] + rise[:-2]  # four times an alternating amplitude
    alternating = abs((bend * (-1.0) ** np.arange(len(bend))).mean()) / 4
    assert alternating < 0.25


@pytest.mark.parametrize("model", OURS, ids=lambda model: model.name)
def test_noise_of_a_codec_gains_no_colour(model: Model) -> None:
    """A flat area behind JPEG: noise in luma falls by a third at least, colour noise grows by a tenth at most."""
    noise = np.random.default_rng(3).normal(0, 4, (96, 128, 3))
    flat = np.clip(np.array([200, 150, 130]) + noise, 0, 255).astype(np.uint8)
    low = round_trip(flat, "jpeg", quality=50).picture.astype(np.float32) / 255
    output = np.clip(enlarged(model, low), 0, 1)[8:-8, 8:-8]
    assert (output @ LUMA).std() < 0.67 * (low @ LUMA).std()
    assert (output[..., 0] - output @ LUMA).std() < 1.1 * (low[..., 0] - low @ LUMA).std()
