"""Colours cleaned before a network: what changes, what stays, and that cutting a picture changes nothing."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from apisr.degrade.codecs import round_trip
from apisr.engines import ModelTraits, open_engine
from apisr.engines.chroma import ChromaEngine
from apisr.engines.pixels import run_inside, run_pixels
from apisr.image.chroma import REACH_PX, clean_colours
from apisr.metrics import flat_noise
from apisr.upscale import upscale_pixels
from apisr.upscale.reuse import CanvasUpscaler
from apisr.weights import Model, choose_model, list_models
from apisr.weights.model import CLEANS_COLOURS

FAST = [model.name for model in list_models() if "fast" in model.name]


class Same:
    """Gives back what it gets, and keeps the sizes."""

    name = "same"
    shape_exact = True

    def __init__(self, halo_px: int = 5, multiple_px: int = 1) -> None:
        self.traits = ModelTraits(1, halo_px=halo_px, multiple_px=multiple_px)
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self.shapes.append(batch.shape[2:])
        return batch.copy()


def _drawing(height: int = 72, width: int = 96) -> NDArray[np.uint8]:
    picture = np.full((height, width, 3), (226, 150, 140), np.uint8)
    cv2.ellipse(picture, (width // 2, height // 2), (30, 24), 20, 0, 360, (150, 186, 222), -1)
    cv2.ellipse(picture, (width // 2, height // 2), (30, 24), 20, 0, 360, (90, 80, 86), 2)
    return picture


def _ycc(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb) * 255, np.float32)


def test_what_a_codec_leaves_in_colour_goes_and_luma_stays() -> None:
    clean = _drawing()
    coded = np.asarray(round_trip(clean, "jpeg", quality=60).picture)
    cleaned = clean_colours(coded)
    left, kept = (flat_noise(picture, clean, border_px=4).chroma for picture in (cleaned, coded))
    assert left < 0.75 * kept
    unclipped = ((coded > 8) & (coded < 247)).all(axis=2)
    assert np.abs(_ycc(cleaned) - _ycc(coded))[..., 0][unclipped].max() < 1  # rounding


def test_gray_pictures_and_flat_colours_stay() -> None:
    rng = np.random.default_rng(3)
    gray = np.repeat(rng.integers(0, 256, (40, 50, 1), np.uint8), 3, axis=2)
    flat = np.full((30, 20, 3), (12, 200, 90), np.uint8)
    np.testing.assert_array_equal(clean_colours(gray), gray)
    np.testing.assert_array_equal(clean_colours(flat), flat)


def test_a_colour_that_luma_does_not_explain_stays() -> None:
    picture = np.full((40, 40, 3), (110, 128, 110), np.uint8)
    picture[:, 20:22] = (220, 80, 90)  # of nearly the same luma
    np.testing.assert_array_equal(clean_colours(picture)[:, 20:22], picture[:, 20:22])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 30), st.integers(0, 40), st.integers(9, 40), st.integers(9, 50), st.integers(0, 99))
def test_a_window_has_the_bits_of_the_whole(top: int, left: int, height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (72, 96, 3), np.uint8)
    picture = np.where(np.arange(96)[None, :, None] < 48, noise, _drawing()).astype(np.uint8)
    window = np.ascontiguousarray(picture[top : top + height, left : left + width])
    inside = (slice(REACH_PX, height - REACH_PX), slice(REACH_PX, width - REACH_PX))
    whole = clean_colours(picture)[top : top + height, left : left + width]
    np.testing.assert_array_equal(clean_colours(window)[inside], whole[inside])


def test_floats_are_cleaned_as_bytes_are() -> None:
    picture = np.asarray(round_trip(_drawing(), "jpeg", quality=50).picture)
    batch = np.ascontiguousarray(picture.transpose(2, 0, 1)[None], np.float32) / np.float32(255)
    floats = ChromaEngine(Same()).run(batch)
    np.testing.assert_array_equal(np.rint(floats[0].transpose(1, 2, 0) * 255), clean_colours(picture))


@pytest.mark.parametrize(("halo", "multiple"), [(5, 1), (20, 8)])
def test_the_network_gets_no_larger_window_than_without(halo: int, multiple: int) -> None:
    same = Same(halo, multiple)
    engine = ChromaEngine(same)
    margin, inner = engine.traits.aligned_halo_px, same.traits.aligned_halo_px
    assert margin >= halo + REACH_PX
    assert margin % multiple == 0
    picture = np.random.default_rng(0).random((1, 3, 16 + 2 * margin, 24 + margin), np.float32)
    output = run_inside(engine, picture, (margin, margin, 0, margin))
    assert same.shapes == [(16 + 2 * inner, 24 + inner)]
    np.testing.assert_array_equal(output, engine.run(picture)[..., margin:-margin, :-margin])


@pytest.mark.parametrize("name", FAST)
def test_tiles_and_reuse_do_not_change_the_fast_models(name: str) -> None:
    engine = open_engine(name, engine="onnx", threads=1)
    assert isinstance(engine, ChromaEngine)
    picture = np.asarray(round_trip(_drawing(120, 152), "jpeg", quality=70).picture)
    whole = upscale_pixels(picture, engine)
    np.testing.assert_array_equal(upscale_pixels(picture, engine, tile_px=64), whole)
    moved = picture.copy()
    moved[40:60, 50:90] = moved[40:60, 50:90, ::-1]
    again, plain = CanvasUpscaler(engine, reuse="exact"), CanvasUpscaler(engine, reuse="off")
    for frame in (picture, moved, picture):
        np.testing.assert_array_equal(again.process(frame), plain.process(frame))


def test_only_models_that_say_so_are_filtered() -> None:
    model: Model = choose_model("apisr-x2-fast")
    assert model.cleans_colours
    assert not choose_model("apisr-x2").cleans_colours
    plain = open_engine(replace(model, card={**model.card, CLEANS_COLOURS: False}), engine="onnx", threads=1)
    assert not isinstance(plain, ChromaEngine)
    picture = _drawing()
    cleaned = run_pixels(plain, clean_colours(picture))
    np.testing.assert_array_equal(run_pixels(open_engine(model, engine="onnx", threads=1), picture), cleaned)


def test_mixed_weights_are_filtered_too() -> None:
    assert choose_model("apisr-x2-fast", strength=0.5).cleans_colours
