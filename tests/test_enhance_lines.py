"""Line enhancement: parity with the reference, and what must hold for every picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as array_strategy

from apisr import metrics
from apisr.core.errors import InputError
from apisr.enhance import PRESETS, enhance, enhance_steps, passively_dilated, without_outliers
from apisr.image import read_rgb


@pytest.fixture(scope="module")
def golden(data: Path) -> dict[str, np.ndarray]:
    with np.load(data / "lines.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("index", [0, 1])
def test_maps_and_result_equal_the_reference(index: int, golden: dict[str, np.ndarray]) -> None:
    steps = enhance_steps(golden[f"{index}.input_rgb"], preset="reference", gamma=0.975)
    # Seen to be equal in every pixel; other processors round otherwise, hence a thousandth.
    for name, found in (("raw", steps.map_raw), ("filtered", steps.map_filtered), ("dilated", steps.map)):
        assert (found == golden[f"{index}.map_{name}"]).mean() >= 0.999, name
        assert set(np.unique(found)) == {0, 1}
    difference = np.abs(steps.result * 255 - golden[f"{index}.merged"].astype(np.float32) / 256)
    assert (difference <= 1).mean() >= 0.999


@pytest.mark.parametrize("index", [0, 1])
def test_sharpened_pictures_equal_the_reference(index: int, shared: Path) -> None:
    with np.load(shared / "golden" / "lines.npz") as arrays:
        steps = enhance_steps(arrays[f"{index}.input_rgb"], preset="reference")
        for name, found in (("sharp_once", steps.sharp_once), ("sharp_thrice", steps.sharp)):
            difference = np.abs(found * 255 - arrays[f"{index}.{name}"].astype(np.float32) / 256)
            assert (difference <= 0.05).mean() >= 0.999, name


def test_presets_differ_only_outside_the_map(golden: dict[str, np.ndarray]) -> None:
    picture = golden["0.input_rgb"]
    paper, reference = (enhance_steps(picture, preset=preset) for preset in ("paper", "reference"))
    inside = paper.map.astype(bool)
    np.testing.assert_array_equal(paper.map, reference.map)
    np.testing.assert_array_equal(paper.result[inside], paper.sharp[inside])
    np.testing.assert_array_equal(reference.result[inside], paper.sharp[inside])
    np.testing.assert_array_equal(paper.result[~inside], (picture.astype(np.float32) / np.float32(255))[~inside])
    np.testing.assert_array_equal(reference.result[~inside], paper.sharp_once[~inside])


def test_outside_the_map_not_one_level_changes(golden: dict[str, np.ndarray]) -> None:
    picture = golden["1.input_rgb"]
    result = enhance(picture)
    outside = enhance_steps(picture).map == 0
    np.testing.assert_array_equal(result[outside], picture[outside])
    assert (result != picture).mean() > 0.2


def test_lines_become_darker_and_steeper(golden: dict[str, np.ndarray]) -> None:
    picture = golden["0.input_rgb"]
    steps = enhance_steps(picture)
    inside = steps.map.astype(bool)
    assert steps.result[inside].mean() < (picture / 255)[inside].mean() - 0.01


def test_larger_gamma_finds_more_lines(golden: dict[str, np.ndarray]) -> None:
    found = [enhance_steps(golden["0.input_rgb"], gamma=gamma).map_raw.sum() for gamma in (0.9, 0.97, 0.975, 0.98)]
    assert found == sorted(found)
    assert found[0] < found[-1]


PICTURES = array_strategy(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 2, 3, 4])))


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.sampled_from(PRESETS), st.floats(0.9, 1.0))
def test_size_type_and_alpha_are_kept(picture: np.ndarray, preset: Any, gamma: float) -> None:
    before = picture.copy()
    result = enhance(picture, preset=preset, gamma=gamma)
    assert result.shape == picture.shape
    assert result.dtype == picture.dtype
    np.testing.assert_array_equal(picture, before)
    if picture.shape[2] in (2, 4):
        np.testing.assert_array_equal(result[..., -1], picture[..., -1])


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 255)] * 3), st.integers(1, 80), st.integers(1, 80), st.sampled_from(PRESETS))
def test_flat_pictures_are_unchanged(colour: tuple[int, int, int], height: int, width: int, preset: Any) -> None:
    flat = np.full((height, width, 3), colour, np.uint8)
    np.testing.assert_array_equal(enhance(flat, preset=preset), flat)


MAPS = array_strategy(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.integers(0, 1))


def components(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """8-connected components by plain search, to compare with."""
    left = {(int(row), int(column)) for row, column in np.argwhere(mask)}
    found: list[set[tuple[int, int]]] = []
    while left:
        stack, component = [left.pop()], set[tuple[int, int]]()
        while stack:
            row, column = stack.pop()
            component.add((row, column))
            near = {(row + down, column + right) for down in (-1, 0, 1) for right in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(component)
    return found


@settings(max_examples=60, deadline=None)
@given(MAPS, st.integers(1, 40))
def test_small_components_are_gone_and_large_ones_stay(mask: np.ndarray, smallest: int) -> None:
    kept = without_outliers(mask, min_pixels=smallest)
    expected = np.zeros_like(mask)
    for component in components(mask):
        if len(component) >= smallest:
            for place in component:
                expected[place] = 1
    np.testing.assert_array_equal(kept, expected)
    np.testing.assert_array_equal(without_outliers(kept, min_pixels=smallest), kept)


@settings(max_examples=60, deadline=None)
@given(MAPS)
def test_passive_dilation_counts_neighbours_once(mask: np.ndarray) -> None:
    padded = np.pad(mask.astype(int), 1)
    height, width = mask.shape
    neighbours = sum(
        padded[1 + down : 1 + down + height, 1 + right : 1 + right + width]
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if down or right
    )
    expected = mask | (neighbours >= 3).astype(np.uint8)
    np.testing.assert_array_equal(passively_dilated(mask), expected)


def test_sixteen_bit_and_float_follow_eight_bit(golden: dict[str, np.ndarray]) -> None:
    picture = golden["0.input_rgb"][:120, :150]
    eight = enhance(picture)
    sixteen = enhance(picture.astype(np.uint16) * 257)
    floats = enhance((picture / np.float32(255)).astype(np.float32))
    assert sixteen.dtype == np.uint16
    assert floats.dtype == np.float32
    assert np.abs(sixteen / 257 - eight).max() <= 0.51
    assert np.abs(floats * 255 - eight).max() <= 0.51
    assert len(np.unique(sixteen % 257)) > 2  # real 16-bit values, not 8-bit ones stretched


@pytest.mark.parametrize(
    ("picture", "options", "code"),
    [
        (np.zeros((4, 4), np.uint8), {}, "bad-array"),
        (np.zeros((4, 4, 3), np.float64), {}, "bad-array"),
        (np.zeros((4, 4, 3), np.uint8), {"preset": "papre"}, "unknown-preset"),
        (np.zeros((4, 4, 3), np.uint8), {"gamma": 1.5}, "out-of-range"),
        (np.zeros((4, 4, 3), np.uint8), {"rounds": 0}, "out-of-range"),
    ],
)
def test_bad_arguments_are_refused(picture: np.ndarray, options: dict[str, Any], code: str) -> None:
    with pytest.raises(InputError) as caught:
        enhance(picture, **options)
    assert caught.value.code == code


# --- faint and strong lines -------------------------------------------------------------------------------------------


def upright_lines(width_px: float, depth: float, blur_px: float) -> np.ndarray:
    """Seven dark lines, a little slanted, `depth` levels below a light ground before the blur."""
    large = np.full((240 * 4, 360 * 4), 200, np.float32)
    for number in range(7):
        left = (30 + 45 * number) * 4
        cv2.line(large, (left, 40), (left + 80, 240 * 4 - 40), 200 - depth, round(4 * width_px), cv2.LINE_AA)
    soft = cv2.GaussianBlur(large, (0, 0), 4 * blur_px)
    small = cv2.resize(soft, (360, 240), interpolation=cv2.INTER_AREA)
    return np.repeat(np.rint(small).astype(np.uint8)[..., None], 3, axis=2)


def enhanced(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(enhance(picture.astype(np.float32) / np.float32(255)), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("blur_px", [0.4, 1.0])
@pytest.mark.parametrize("width_px", [2, 4])
def test_faint_lines_get_darker_and_not_thicker(width_px: float, blur_px: float) -> None:
    for depth in (60, 100):
        before = upright_lines(width_px, depth, blur_px)
        after = enhanced(before)
        assert metrics.line_change(after, before).change_px < 0.05
        assert 200 - after.min() > 1.15 * (200 - before.min())


@pytest.mark.parametrize("blur_px", [0.4, 1.0])
@pytest.mark.parametrize("width_px", [2, 4])
def test_strong_lines_get_thicker(width_px: float, blur_px: float) -> None:
    """What is black already can only grow to the sides: the reason for its thick lines on clean drawings."""
    before = upright_lines(width_px, 170, blur_px)
    assert 0.2 < metrics.line_change(enhanced(before), before).change_px < 1


def test_old_transfers_get_lines_back_and_clean_drawings_thicker_ones() -> None:
    """On the validation scenes of the repository."""
    folder = Path(__file__).resolve().parent.parent / "validation"
    if not folder.is_dir():
        pytest.skip("the validation scenes are not here")
    of_clean, of_soft, lost = [], [], []
    for path in sorted((folder / "old_x2").iterdir()):
        truth, low = read_rgb(folder / "gt" / path.name), read_rgb(path)
        reduced = cv2.resize(truth, low.shape[1::-1], interpolation=cv2.INTER_AREA)
        of_clean.append(metrics.line_change(enhanced(truth), truth, border_px=8).change_px)
        of_soft.append(metrics.line_change(enhanced(low), low, border_px=8).change_px)
        lost.append([metrics.line_change(made, reduced, border_px=8).lost_share for made in (low, enhanced(low))])
    before, after = np.mean(lost, axis=0)
    assert np.mean(of_clean) > 0.15
    assert np.mean(of_soft) < 0
    assert after < 0.9 * before
