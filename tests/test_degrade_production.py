"""What productions and transfers do, on constructed pictures: each operation does that and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from apisr.degrade.ops import production

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.SFC64(seed))


def lined(width_px: int, *, dark: float = 0.1) -> np.ndarray:
    """A light area with one dark upright line of this width in the middle."""
    picture = np.full((48, 64, 3), 0.8, np.float32)
    picture[:, 32 - width_px // 2 : 32 - width_px // 2 + width_px] = dark
    return picture


def test_thin_lines_fade_by_the_amount_and_wide_areas_stay() -> None:
    faded = production.fade_lines(lined(3), amount=0.5, radius_px=3)
    assert faded[24, 32, 0] == pytest.approx(0.45, abs=0.02)
    np.testing.assert_allclose(faded[:, :20], 0.8, atol=1e-6)
    wide = lined(24)
    np.testing.assert_allclose(production.fade_lines(wide, amount=0.5, radius_px=3)[24, 32], 0.1, atol=1e-4)


def test_light_lines_and_bright_details_do_not_fade() -> None:
    bright = 0.9 - lined(3)
    np.testing.assert_allclose(production.fade_lines(bright, amount=0.7, radius_px=3), bright, atol=1e-5)


def test_softening_has_the_widths_asked_for() -> None:
    """A step blurred by a Gaussian rises from 16 to 84 % over two standard deviations."""
    step = np.zeros((64, 64, 3), np.float32)
    step[:, 32:] = 1
    across = production.soften(step, sigma_px=(3.0, 0.5))[32, :, 0]
    rise = np.interp(0.841, across, np.arange(64)) - np.interp(0.159, across, np.arange(64))
    assert rise == pytest.approx(6.0, rel=0.05)
    turned = np.ascontiguousarray(step.transpose(1, 0, 2))
    down = production.soften(turned, sigma_px=(3.0, 0.5))[:, 32, 0]
    assert np.interp(0.841, down, np.arange(64)) - np.interp(0.159, down, np.arange(64)) < 1.5


def test_sharpening_leaves_halos_of_the_amount_and_no_colour() -> None:
    step = np.full((48, 48, 3), 0.3, np.float32)
    step[:, 24:] = 0.6
    both = production.sharpen(step, radius_px=2.0, amount=0.8, rows_only=False)
    assert both.max() == pytest.approx(0.6 + 0.8 * 0.15, abs=0.03)  # half of the step at its foot
    assert both.min() == pytest.approx(0.3 - 0.8 * 0.15, abs=0.03)
    np.testing.assert_allclose(both[..., 0], both[..., 2], atol=1e-6)
    turned = np.ascontiguousarray(step.transpose(1, 0, 2))
    np.testing.assert_allclose(production.sharpen(turned, radius_px=2.0, amount=0.8, rows_only=True), turned, atol=1e-3)


@pytest.mark.parametrize("size_px", [0.0, 0.8])
def test_grain_has_its_deviation_correlation_and_tones(size_px: float) -> None:
    gray = np.full((200, 240, 3), 0.5, np.float32)
    noise = (
        production.grain(gray, sigma=4.0, size_px=size_px, colour=0.0, middle=0.8, generator=generator(1)) - gray
    ) * 255
    assert noise.std() == pytest.approx(4.0, rel=0.05)
    assert abs(noise.mean()) < 0.2
    np.testing.assert_array_equal(noise[..., 0], noise[..., 1])
    neighbours = np.corrcoef(noise[:, :-1, 0].ravel(), noise[:, 1:, 0].ravel())[0, 1]
    assert (neighbours > 0.5) == (size_px > 0.2)
    black = np.zeros((200, 240, 3), np.float32) + 0.02
    dark = production.grain(black, sigma=4.0, size_px=size_px, colour=0.0, middle=0.8, generator=generator(1)) - black
    assert dark.std() * 255 < 0.35 * 4.0


def test_grain_repeats_with_its_seed_and_has_colour_where_asked() -> None:
    gray = np.full((64, 64, 3), 0.5, np.float32)
    first = production.grain(gray, sigma=3.0, size_px=0.5, colour=0.5, middle=0.0, generator=generator(2))
    second = production.grain(gray, sigma=3.0, size_px=0.5, colour=0.5, middle=0.0, generator=generator(2))
    np.testing.assert_array_equal(first, second)
    assert (first[..., 0] - first[..., 2]).std() * 255 == pytest.approx(3.0 * 0.5 * 2**0.5, rel=0.1)


def test_chroma_blur_moves_colour_and_keeps_luma() -> None:
    picture = np.full((48, 48, 3), (0.5, 0.4, 0.4), np.float32)
    picture[:, 24:] = (0.4, 0.45, 0.5)
    blurred = production.chroma_blur(picture, sigma_px=(3.0, 1.0))
    np.testing.assert_allclose(blurred @ LUMA, picture @ LUMA, atol=1e-5)
    red = (blurred[24, :, 0] - blurred[24] @ LUMA)[16:32]
    assert np.all(np.diff(red) < 0)  # a ramp where there was a step
    assert abs(red[0] - red[-1]) > 0.05
