"""Edge spread, noise in flat areas and halos, against pictures that are made so that the right number is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apisr import metrics
from apisr.metrics.registry import built_in, open_metric


def shapes(sigma_px: float, *, height: int = 240, width: int = 320) -> np.ndarray:
    """A polygon and a disc whose edges are Gaussian steps of a given sigma (drawn eight times too large)."""
    large = np.full((height * 8, width * 8), 40, np.uint8)
    cv2.fillPoly(large, [np.array([(160, 240), (1100, 130), (1210, 1500), (300, 1700)], np.int32)], 220)
    cv2.circle(large, (1900, 900), 480, 220, -1)
    soft = cv2.GaussianBlur(large.astype(np.float32), (0, 0), 8 * sigma_px)
    small = cv2.resize(soft, (width, height), interpolation=cv2.INTER_AREA)
    return np.repeat(np.rint(small).astype(np.uint8)[..., None], 3, axis=2)


def flat(*, noise_luma: float = 0.0, noise_chroma: float = 0.0, cast: int = 0) -> np.ndarray:
    """A shaded field and a dark box, with white noise of known strength in Y or in Cb and Cr."""
    rng = np.random.default_rng(3)
    planes = np.zeros((240, 320, 3))
    planes[..., 0] = 150 + np.linspace(0, 20, 320)[None] + cast
    planes[60:120, 60:160, 0] = 60
    planes[..., 1:] = 128
    planes[..., 0] += rng.normal(0, 1, planes.shape[:2]) * noise_luma
    planes[..., 1:] += rng.normal(0, 1, (240, 320, 2)) * noise_chroma
    return cv2.cvtColor(np.rint(planes).clip(0, 255).astype(np.uint8), cv2.COLOR_YCrCb2RGB)


@pytest.mark.parametrize(("before", "after"), [(0.6, 1.2), (0.6, 1.5), (1.0, 0.6), (1.4, 0.8)])
def test_edge_spread_is_that_of_gaussian_steps(before: float, after: float) -> None:
    """A Gaussian of sigma s spreads a step over 2.563 s; drawing and sampling add a box of a pixel to both."""
    expected = 2.563 * (np.hypot(after, 12**-0.5) - np.hypot(before, 12**-0.5))
    assert metrics.edge_spread(shapes(after), shapes(before)) == pytest.approx(expected, rel=0.12, abs=0.06)


def test_edge_spread_sees_both_sides_of_thin_lines() -> None:
    large = np.full((240 * 8, 320 * 8), 220, np.uint8)
    for start in range(20, 320, 40):
        cv2.line(large, (8 * start, 0), (8 * (start + 25), 240 * 8), 20, 8 * 4)
    drawn = cv2.resize(large, (320, 240), interpolation=cv2.INTER_AREA)
    high = np.repeat(drawn[..., None], 3, axis=2)
    soft = cv2.GaussianBlur(high, (0, 0), 0.8)
    assert 0.5 < metrics.edge_spread(soft, high) < 2.563
    assert metrics.edge_spread(high, soft) < -0.5


def test_edge_spread_is_not_moved_by_brightness_or_a_small_shift() -> None:
    high = shapes(0.8)
    assert metrics.edge_spread(high - 20, high) == pytest.approx(0, abs=0.02)
    assert metrics.edge_spread(np.roll(high, 1, axis=1), high) == pytest.approx(0, abs=0.1)


def test_noise_is_measured_in_levels_and_luma_apart_from_chroma() -> None:
    high = flat()
    for level in (1.0, 2.0, 4.0):
        of_luma = metrics.flat_noise(flat(noise_luma=level), high)
        assert of_luma.luma == pytest.approx(np.hypot(level, 12**-0.5), rel=0.08)
        assert of_luma.chroma < 0.05
        of_chroma = metrics.flat_noise(flat(noise_chroma=level), high)
        assert of_chroma.chroma == pytest.approx(np.hypot(level, 12**-0.5), rel=0.12)
        assert of_chroma.luma < 0.3


def test_neither_shading_nor_a_cast_is_noise() -> None:
    high = flat()
    own = metrics.flat_noise(high, high)
    assert metrics.flat_noise(flat(cast=9), high).luma == pytest.approx(own.luma, abs=0.05)
    soft = cv2.GaussianBlur(high, (0, 0), 1.5)  # changes edges and nothing that is flat
    assert metrics.flat_noise(soft, high).luma <= own.luma


def test_blotches_of_strong_jpeg_are_noise() -> None:
    high = np.full((240, 320, 3), (200, 90, 60), np.uint8)
    cv2.circle(high, (160, 120), 70, (30, 40, 120), -1, cv2.LINE_AA)
    noisy = np.clip(high + np.random.default_rng(0).normal(0, 9, high.shape), 0, 255).astype(np.uint8)
    coded = cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 30])[1], cv2.IMREAD_COLOR)
    found = metrics.flat_noise(coded, high)
    assert found.luma > 1
    assert found.chroma > 0.4
    assert metrics.flat_noise(high, high).chroma < 0.01


@pytest.mark.parametrize(("rim", "expected"), [(0, 0.0), (9, 0.025), (18, 0.05), (27, 0.075)])
def test_a_rim_on_the_light_side_is_half_its_share(rim: int, expected: float) -> None:
    """The edge is 180 levels high; the rim is on one of its two sides."""
    high = np.full((200, 240, 3), 220, np.uint8)
    cv2.rectangle(high, (60, 50), (180, 150), (40, 40, 40), -1)
    made = high.astype(np.int16)
    around = cv2.dilate((high[..., 0] < 100).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    made[around & (high[..., 0] > 100)] += rim
    assert metrics.halo(made.clip(0, 255).astype(np.uint8), high) == pytest.approx(expected, abs=0.004)


def test_sharpening_makes_halos_and_blur_does_not() -> None:
    high = shapes(0.9)
    soft = cv2.GaussianBlur(high, (0, 0), 1.5)
    sharpened = cv2.addWeighted(high, 1.8, soft, -0.8, 0)
    assert metrics.halo(soft, high) < 0.01
    assert metrics.halo(sharpened, high) > 0.03
    assert metrics.edge_spread(sharpened, high) < -0.1


@settings(max_examples=15, deadline=None)
@given(st.floats(0.5, 2.0), st.floats(0.2, 1.0))
def test_more_blur_spreads_more(sigma: float, more: float) -> None:
    high = shapes(0.5)
    less, much = (cv2.GaussianBlur(high, (0, 0), value) for value in (sigma, sigma + more))
    assert metrics.edge_spread(high, high) == 0
    assert 0 < metrics.edge_spread(less, high) < metrics.edge_spread(much, high)


def test_pictures_without_edges_or_flat_areas_have_no_value() -> None:
    plain = np.full((64, 64, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    for score in (metrics.edge_spread, metrics.halo):
        with pytest.raises(metrics.Undefined):
            score(plain, plain)
    with pytest.raises(metrics.Undefined):
        metrics.flat_noise(noise, noise)
    with pytest.raises(metrics.Undefined):
        metrics.edge_spread(np.full((240, 320, 3), 90, np.uint8), shapes(0.8))


def test_they_are_metrics_like_the_others() -> None:
    high = shapes(0.8)
    soft = cv2.GaussianBlur(high, (0, 0), 1.0)
    for name in ("edge_spread", "noise_luma", "noise_chroma", "halo"):
        assert name in built_in()
        assert open_metric(name, border_px=8).score(soft, high) == pytest.approx(
            {
                "edge_spread": metrics.edge_spread(soft, high, border_px=8),
                "noise_luma": metrics.flat_noise(soft, high, border_px=8).luma,
                "noise_chroma": metrics.flat_noise(soft, high, border_px=8).chroma,
                "halo": metrics.halo(soft, high, border_px=8),
            }[name]
        )
